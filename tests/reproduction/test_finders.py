"""Words of pictures that are no global words: the codes themselves, and each picture asked once."""

from collections.abc import Iterable

import pytest
import torch
from PIL import Image

from visual_sentence import UserError
from visual_sentence.modeling import V2LImageProcessor
from visual_sentence.reconstruction import ImageCodec
from visual_sentence.reproduction.finders import LocalWordFinder, RememberingFinder
from visual_sentence.words import ImageWords

from .conftest import WORDS, local_v2l


class CountingFinder:
    """Finds the picture's first value as its word, and remembers what it was asked."""

    labels = ["n1", "n2"]

    def __init__(self):
        self.asked: list[tuple[list[bytes], int, dict]] = []

    def find(self, images: Iterable[Image.Image], num_words: int, **options):
        pictures = list(images)
        self.asked.append(([picture.tobytes() for picture in pictures], num_words, options))
        for picture in pictures:
            value = picture.getpixel((0, 0))
            yield ImageWords([f"{value}"] * num_words, [], [], torch.zeros(1))


def texts(found: Iterable[ImageWords]) -> list[list[str]]:
    return [one.words for one in found]


def test_words_are_those_of_the_first_tokens(codec, pictures):
    tokens = codec.encode(pictures).image_tokens.flatten(1)
    assert len({tuple(row) for row in tokens.tolist()}) == len(pictures)
    found = list(LocalWordFinder(codec).find(pictures, 5))
    for one, row in zip(found, tokens.tolist(), strict=True):
        assert one.words == [WORDS[token].strip() or "_" for token in row[:5]]
        assert one.token_ids == [[token] for token in row[:5]]


def test_no_word_is_empty_or_ends_in_white_space(pictures):
    codec = ImageCodec(local_v2l([" ", "  Ġspaced "]), V2LImageProcessor(local_size=16), "two words")
    assert {word for words in texts(LocalWordFinder(codec).find(pictures)) for word in words} == {"_", "Ġspaced"}


def test_all_words_are_found_where_no_number_is_given(codec, pictures):
    assert {len(words) for words in texts(LocalWordFinder(codec).find(pictures))} == {16}


def test_a_pyramids_words_are_coarse_to_fine(spae, pictures):
    tokens = spae.encode(pictures).image_tokens.flatten(1)
    found = texts(LocalWordFinder(spae).find(pictures, 5))
    assert tokens.shape[1] == 21
    assert found == [[WORDS[token].strip() or "_" for token in row[:5]] for row in tokens.tolist()]


def test_batches_make_no_difference(codec, pictures):
    finder = LocalWordFinder(codec)
    alone, together = (list(finder.find(pictures, 4, batch_size=size)) for size in (1, 3))
    assert texts(alone) == texts(together)
    for one, other in zip(alone, together, strict=True):
        assert torch.allclose(one.image_embeds, other.image_embeds, atol=1e-5)


def test_a_pictures_place_has_length_1_and_tells_pictures_apart(codec, pictures):
    embeds = torch.stack([one.image_embeds for one in LocalWordFinder(codec).find(pictures, 1)])
    assert torch.allclose(embeds.norm(dim=1), torch.ones(len(pictures)), atol=1e-5)
    assert len(embeds.unique(dim=0)) == len(pictures)


def test_nothing_was_taught_labels(codec):
    assert LocalWordFinder(codec).labels == []


def test_a_model_without_words_is_refused_in_one_line(vqgan):
    with pytest.raises(UserError, match=r"^tiny-vqgan has no words for its tokens: give a model with a local_voc"):
        LocalWordFinder(vqgan)


def test_each_picture_is_found_once(pictures):
    counting = CountingFinder()
    finder = RememberingFinder(counting)
    first = texts(finder.find([pictures[0], pictures[1], pictures[0]], 2))
    second = texts(finder.find([pictures[1], pictures[2]], 2))
    assert first == [[f"{pictures[place].getpixel((0, 0))}"] * 2 for place in (0, 1, 0)]
    assert second == [[f"{pictures[place].getpixel((0, 0))}"] * 2 for place in (1, 2)]
    assert [asked for asked, _, _ in counting.asked] == [
        [pictures[0].tobytes(), pictures[1].tobytes()],
        [pictures[2].tobytes()],
    ]


def test_another_number_of_words_is_found_anew(pictures):
    counting = CountingFinder()
    finder = RememberingFinder(counting)
    assert [len(words) for number in (2, 3, 2) for words in texts(finder.find(pictures[:1], number))] == [2, 3, 2]
    assert [(len(asked), number) for asked, number, _ in counting.asked if asked] == [(1, 2), (1, 3)]


def test_pictures_of_the_same_values_but_another_shape_are_not_confused():
    counting = CountingFinder()
    wide, high = Image.new("RGB", (4, 2), "red"), Image.new("RGB", (2, 4), "red")
    list(RememberingFinder(counting).find([wide, high], 1))
    assert len(counting.asked[0][0]) == 2


def test_what_the_finder_is_told_is_handed_on_with_the_number_that_is_left(pictures):
    counting = CountingFinder()
    finder = RememberingFinder(counting)
    list(finder.find(pictures[:2], 1, total=2, batch_size=7))
    list(finder.find(pictures[:3], 1, total=3, batch_size=7))
    assert [options for _, _, options in counting.asked] == [
        {"total": 2, "batch_size": 7},
        {"total": 1, "batch_size": 7},
    ]
    assert finder.labels == ["n1", "n2"]


def test_a_model_of_words_is_remembered_like_any_other(codec, pictures):
    finder = LocalWordFinder(codec)
    expected = texts(finder.find(pictures, 3))
    remembering = RememberingFinder(finder)
    assert texts(remembering.find(pictures, 3)) == texts(remembering.find(pictures, 3)) == expected
