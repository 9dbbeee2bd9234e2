"""The processor: views, words, saving."""

import pytest
import torch
from transformers import AutoImageProcessor, AutoProcessor

from visual_sentence.modeling import V2LImageProcessor, V2LProcessor


@pytest.fixture
def folder(make_v2l, tmp_path):
    """A whole model folder."""
    make_v2l().save_pretrained(tmp_path)
    V2LProcessor(V2LImageProcessor(global_size=32)).save_pretrained(tmp_path)
    return tmp_path


def test_folder_gives_processor_and_image_processor_with_the_same_views(folder, picture):
    processor, image_processor = AutoProcessor.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
    assert isinstance(processor, V2LProcessor) and isinstance(image_processor, V2LImageProcessor)
    ours, theirs = (p(picture, return_tensors="pt") for p in (processor, image_processor))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_tokens_become_the_words_that_the_model_names(folder, make_v2l, pictures):
    processor = AutoProcessor.from_pretrained(folder)
    views = processor(pictures, return_tensors="pt", do_local_view=False)
    output = make_v2l().encode(**views)
    assert processor.batch_decode(output.global_tokens) == output.global_words
    assert processor.batch_decode([[0, 2]]) == [["cat", "dog"]]


def test_saving_again_keeps_the_words(folder, tmp_path_factory):
    again = tmp_path_factory.mktemp("again")
    AutoProcessor.from_pretrained(folder).save_pretrained(again)
    assert AutoProcessor.from_pretrained(again).batch_decode([[11]]) == [["sun"]]


def test_ids_of_another_space_are_refused(folder):
    with pytest.raises(ValueError, match="must lie in \\[0, 12\\), found 400"):
        AutoProcessor.from_pretrained(folder).batch_decode([[0, 400]])


def test_processor_without_words_says_so():
    with pytest.raises(ValueError, match="has no vocabulary"):
        V2LProcessor(V2LImageProcessor()).batch_decode([[0]])
