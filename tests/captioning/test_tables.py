"""Every form of table gives the same rows, and every row that cannot be used is named."""

import io

import numpy as np
import pytest
from datasets import Dataset, Features, IterableDataset, List, Value
from datasets import Image as ImageFeature

from visual_sentence.captioning import Columns, answers_of, captions_of, read_answers, read_captions
from visual_sentence.captioning.tables import PictureRows
from visual_sentence.errors import UserError

CAPTIONS = [("A cat.",), ("Two dogs run",), ("a tree",), ("The moon above a boat.",), ("a red car",)]


def same_pictures(rows: PictureRows, pictures: list) -> bool:
    return all(np.array_equal(row.open(), picture) for row, picture in zip(rows.rows, pictures, strict=True))


@pytest.fixture
def table(pairs) -> Dataset:
    pictures, captions = zip(*pairs, strict=True)
    columns = {"picture": list(pictures), "captions": [[text, "another"] for text in captions], "id": list(range(5))}
    features = Features({"picture": ImageFeature(), "captions": List(Value("string")), "id": Value("int64")})
    return Dataset.from_dict(columns, features)


def test_a_folder_with_metadata(caption_folder, pictures):
    rows = read_captions(str(caption_folder))
    assert [row.texts for row in rows.rows] == CAPTIONS
    assert rows.name == "captioned" and rows.rows[2].name == "captioned, row 2" and rows.problems == []
    assert same_pictures(rows, pictures)


def test_every_other_form_of_table(table, pictures, tmp_path):
    table.to_parquet(tmp_path / "table.parquet")
    table.save_to_disk(tmp_path / "saved")
    expected = [(*texts, "another") for texts in CAPTIONS]
    streamed = table.to_iterable_dataset()
    for form in (str(tmp_path / "table.parquet"), tmp_path / "saved", table, streamed):
        rows = read_captions(form)
        assert [row.texts for row in rows.rows] == expected, form
        assert same_pictures(rows, pictures)
    some = read_captions(f"{tmp_path / 'table.parquet'}[1:4:2]")
    assert [row.texts for row in some.rows] == expected[1:4:2] and same_pictures(some, pictures[1:4:2])
    assert some.rows[1].name == "table.parquet[1:4:2], row 1"


def test_a_stream_is_read_as_far_as_it_must(pictures):
    taken = []

    def rows():
        while True:
            taken.append(1)
            yield {"image": pictures[0], "text": "a cat"}

    features = Features({"image": ImageFeature(), "text": Value("string")})
    assert len(read_captions(IterableDataset.from_generator(rows, features=features))) == 1000
    assert len(taken) <= 1001


def test_columns_are_guessed_or_named(table):
    other = table.rename_columns({"captions": "sentences"})
    with pytest.raises(UserError, match=r"no column of captions \(looked for caption, captions, text; its columns"):
        read_captions(other)
    assert len(read_captions(other, columns=Columns(caption="sentences"))) == 5
    with pytest.raises(UserError, match=r"looked for title; .*name it by --caption-column"):
        read_captions(table, columns=Columns(caption="title"))
    with pytest.raises(UserError, match="no column 'id' of pictures"):
        read_captions(table, columns=Columns(image="id"))


def test_pairs_and_columns_at_hand(pairs, pictures, tmp_path):
    pictures[0].save(tmp_path / "cat.png")
    mixed = [(str(tmp_path / "cat.png"), "A cat."), (tmp_path / "cat.png", ["A cat.", "a pet"]), *pairs]
    rows = captions_of(item for item in mixed)
    assert [row.texts for row in rows.rows[:3]] == [("A cat.",), ("A cat.", "a pet"), ("A cat.",)]
    assert same_pictures(rows, [pictures[0], pictures[0], *pictures])
    columns = captions_of({"image": pictures, "caption": [text for _, text in pairs]})
    assert [row.texts for row in columns.rows] == CAPTIONS
    (row,) = answers_of([(pictures[0], " What is\nit? ", "cat")]).rows
    assert (row.question, row.texts) == ("What is it?", ("cat",))


def test_answers_have_the_most_frequent_in_front(pictures):
    given = {
        "image": pictures[:3],
        "question": ["how many?", "who?", "what?"],
        "answers": [["2", "3", "3", "two", "3"], ["he", "she"], ["cat"]],
    }
    features = Features({"image": ImageFeature(), "question": Value("string"), "answers": List(Value("string"))})
    rows = read_answers(Dataset.from_dict(given, features)).rows
    assert [row.texts for row in rows] == [("3", "2", "3", "two", "3"), ("he", "she"), ("cat",)]
    assert [row.question for row in rows] == given["question"]
    given["answers"] = [[{"answer": text, "sure": "yes"} for text in texts] for texts in given["answers"]]
    features["answers"] = List({"answer": Value("string"), "sure": Value("string")})
    assert [row.texts for row in read_answers(Dataset.from_dict(given, features)).rows] == [row.texts for row in rows]


def test_rows_without_texts_are_named(pictures):
    given = {"image": pictures[:3], "question": ["what?", None, "who?"], "answer": ["cat", "dog", "  "]}
    features = Features({"image": ImageFeature(), "question": Value("string"), "answer": Value("string")})
    data = Dataset.from_dict(given, features)
    with pytest.raises(UserError, match=r"the data set, row 1 has no question \(None\)"):
        read_answers(data)
    rows = read_answers(data, skip_bad=True)
    assert [row.texts for row in rows.rows] == [("cat",)]
    assert [line.split(":")[0] for line in rows.problems] == [
        "the data set, row 1 has no question (None)",
        "the data set, row 2 has no answer (' ')",
    ]
    with pytest.raises(UserError, match="None of the 2 rows of the data set can be used; the first: the data set, row"):
        read_answers(data.select([1, 2]), skip_bad=True)


def test_pictures_that_cannot_be_read_are_named(caption_folder, pictures, tmp_path):
    whole = io.BytesIO()
    pictures[0].save(whole, "png")
    given = {
        "image": [{"bytes": whole.getvalue()[:700], "path": None}, {"bytes": b"", "path": None}],
        "caption": ["a", "b"],
    }
    rows = read_captions(Dataset.from_dict(given, Features({"image": ImageFeature(), "caption": Value("string")}))).rows
    for row, found in zip(rows, ["damaged", "no picture"], strict=True):
        with pytest.raises(UserError, match=f"{row.name}: .*{found}"):
            row.open()
    (caption_folder / "3.png").write_bytes(b"this is only text")
    rows = read_captions(str(caption_folder)).rows
    rows[2].open()
    with pytest.raises(UserError, match=r"captioned, row 3: .*3.png is not a picture"):
        rows[3].open()
    (row,) = captions_of([(tmp_path / "missing.png", "nothing")]).rows
    with pytest.raises(UserError, match=r"Example 1: .*no such file"):
        row.open()


def test_wrong_forms_are_named(pictures, tmp_path):
    for examples, message in [
        ([], "There are no examples"),
        ([(pictures[0],)], r"Example 1 is not of the form \(image, caption\)"),
        ([pictures[0]], r"Example 1 is not of the form \(image, caption\)"),
        ([("a.png", "a"), ("a caption", "b", "c")], r"Example 2 is not of the form"),
        ([(pictures[0], "")], r"Example 1 has no caption \(''\)"),
        ({"image": pictures[:3], "caption": ["a", "b"]}, "do not pair up: found 3 images and 2 captions"),
        ({"image": pictures, "text": ["a"] * 5}, "Examples by columns are image, caption; found image, text"),
    ]:
        with pytest.raises(UserError, match=message):
            captions_of(examples)
    with pytest.raises(UserError, match=r"Example 1 is not of the form \(image, question, answer\)"):
        answers_of([(pictures[0], "cat")])
    with pytest.raises(UserError, match="no such file"):
        read_captions(str(tmp_path / "missing.parquet"))


def test_a_folder_whose_metadata_is_broken_is_named(caption_folder):
    (caption_folder / "metadata.jsonl").write_text('{"name": "0.png", "caption": "a"}', encoding="utf-8")
    with pytest.raises(UserError, match=r"captioned: its metadata file cannot be read .*with `file_name`"):
        read_captions(str(caption_folder))


def test_a_split_that_is_not_there_is_named(caption_folder):
    with pytest.raises(UserError, match="captioned has no split 'test': choose one of train"):
        read_captions(str(caption_folder), split="test")
