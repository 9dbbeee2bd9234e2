"""Pictures with sentences: columns, class folders, and what is refused."""

import numpy as np
import pytest

from visual_sentence import UserError
from visual_sentence.frozen_prefix.pairs import load_pairs


def test_classes_become_sentences(colour_table):
    pairs = load_pairs(colour_table, label_column="class_name", sentences="This is a {}!")
    assert len(pairs) == 12 and pairs.sentences[:2] == [["This is a red thing!"], ["This is a green thing!"]]
    assert load_pairs(colour_table, label_column="label").sentences[2] == ["A picture of a blue."]
    pictures = list(pairs.open_pictures())
    assert len(pictures) == 12 and np.array_equal(pictures[1], pairs.open_picture(1))
    assert pictures[2].getpixel((0, 0)) == (0, 0, 255)


def test_captions_take_turns(colour_table):
    pairs = load_pairs(colour_table + "[4:8]", caption_column="captions")
    assert len(pairs) == 4 and pairs.sentences[0] == ["all red", "number 4"]
    assert [pairs.sentence(0, epoch) for epoch in range(3)] == ["all red", "number 4", "all red"]
    assert pairs.sentence(1, 0) == "number 5"
    assert load_pairs(colour_table, caption_column="class_name").sentences[0] == ["red_thing"]


def test_folders_of_classes(class_folders):
    pairs = load_pairs(str(class_folders))
    assert pairs.sentences == [["A picture of a french bulldog."]] * 2 + [["A picture of a goldfish."]]
    assert len(list(pairs.open_pictures())) == 3 and pairs.open_picture(2).mode == "RGB"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "neither was given"),
        ({"label_column": "label", "caption_column": "captions"}, "both were given"),
        ({"label_column": "name"}, "no column 'name': choose one of image, class_name"),
        ({"label_column": "number"}, "row 0: column 'number' holds 0, which is no text"),
        ({"label_column": "label", "sentences": "A picture."}, "must have one {} where"),
        ({"label_column": "label", "column": "number"}, "no column 'number' of pictures"),
    ],
)
def test_mistakes_are_told_in_one_line(colour_table, options, message):
    with pytest.raises(UserError, match=message) as refusal:
        load_pairs(colour_table, **options)
    assert "\n" not in str(refusal.value)


def test_folders_have_no_columns(class_folders):
    with pytest.raises(UserError, match="neither columns nor rows"):
        load_pairs(str(class_folders), label_column="label")
