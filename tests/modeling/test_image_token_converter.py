"""Image tokens to ids and back, in every layout."""

import pytest
import torch

from visual_sentence.modeling import ImageTokenConverter

LAYOUTS = {
    "LVM": (8192, 0, {"pad": 8192}, 8292),
    "DeLVM": (8192, 0, {}, 8192),
    "behind a text model": (1024, 32_000, {"pad": 0, "begin": 1, "end": 2}, 33_024),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_every_token_has_an_id_of_its_own(layout):
    size, offset, specials, vocabulary = layout
    converter = ImageTokenConverter(*layout)
    tokens = torch.arange(size)
    ids = converter.to_ids(tokens)
    assert ids.tolist() == list(range(offset, offset + size))
    assert torch.equal(converter.to_tokens(ids), tokens)
    everything = torch.arange(vocabulary)
    assert converter.is_image(everything).tolist() == [offset <= number < offset + size for number in range(vocabulary)]
    assert not converter.is_image(torch.tensor([*specials.values(), -1])).any()


def test_shapes_stay():
    converter = ImageTokenConverter(10, 5, {}, 20)
    tokens = torch.arange(6).view(1, 2, 3)
    assert torch.equal(converter.to_ids(tokens), tokens + 5)
    assert converter.to_ids(torch.zeros(0, 4, dtype=torch.long)).shape == (0, 4)
    assert converter.to_tokens(torch.zeros(0, dtype=torch.long)).shape == (0,)


def test_special_ids_by_name():
    converter = ImageTokenConverter(10, 3, {"pad": 0, "begin": 1, "end": 2}, 13)
    assert (converter.pad_id, converter.begin_id, converter.end_id) == (0, 1, 2)
    bare = ImageTokenConverter(10, 3, {}, 13)
    assert (bare.pad_id, bare.begin_id, bare.end_id) == (3, None, None)


@pytest.mark.parametrize("tokens", [[0, 10], [-1, 3], [12]])
def test_tokens_of_another_codebook(tokens):
    converter = ImageTokenConverter(10, 5, {}, 20)
    with pytest.raises(ValueError, match=r"must lie in \[0, 10\), found .* of another codebook"):
        converter.to_ids(torch.tensor(tokens))


@pytest.mark.parametrize("ids", [[4], [5, 15], [-1]])
def test_ids_that_are_no_image_tokens(ids):
    converter = ImageTokenConverter(10, 5, {}, 20)
    with pytest.raises(ValueError, match=r"lie in \[5, 15\), found"):
        converter.to_tokens(torch.tensor(ids))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((10, 11, {}, 20), "ids 11 to 20, but the language model's vocabulary has 20"),
        ((10, -1, {}, 20), "ids -1 to 8"),
        ((10, 0, {"pad": 9}, 20), "'pad' has id 9, which is an image token's"),
        ((10, 5, {"end": 20}, 20), "'end' has id 20"),
        ((10, 0, {"stop": 12}, 20), "'stop': there are pad, begin, end"),
    ],
)
def test_layouts_that_cannot_be(arguments, said):
    with pytest.raises(ValueError, match=said):
        ImageTokenConverter(*arguments)
