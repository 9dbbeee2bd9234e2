"""The sentences that the processor writes, the pictures, masks and label maps that it reads, and what it refuses."""

import numpy as np
import pytest
import torch
from PIL import Image

from visual_sentence.modeling import (
    SimLVMProcessor,
    VQGANImageProcessor,
    check_palette,
    nearest_colours,
    palette_of,
)

T = 4  # 2 x 2 tokens of pictures of 8 x 8 pixels
COLOURS = ("red", "green", "blue", "white", "black", "teal", "orange")


def picture(place: int, size: tuple[int, int] = (12, 10)) -> Image.Image:
    return Image.new("RGB", size, COLOURS[place])


def as_pixels(place: int) -> torch.Tensor:
    """What the image tokenizer sees of a picture of one colour."""
    colour = torch.tensor(Image.new("RGB", (1, 1), COLOURS[place]).getpixel((0, 0))) / 127.5 - 1
    return colour[:, None, None].expand(3, 8, 8)


@pytest.fixture
def make():
    def make(**options) -> SimLVMProcessor:
        images = VQGANImageProcessor(local_size=8, local_fit="stretch")
        return SimLVMProcessor(images, **{"tokens_per_image": T, "max_images": 8, "pad_id": 9, **options})

    return make


@pytest.fixture
def processor(make) -> SimLVMProcessor:
    return make()


def assert_pictures(pixels: torch.Tensor, order: list[int]) -> None:
    assert pixels.shape == (len(order), 3, 8, 8) and pixels.dtype == torch.float32
    torch.testing.assert_close(pixels, torch.stack([as_pixels(place) for place in order]), atol=1e-6, rtol=0)


def test_a_sentence_of_pairs_and_a_query(processor):
    found = processor(pairs=[(picture(0), picture(1)), (picture(2), picture(3))], query=picture(4))
    assert found["input_ids"].tolist() == [[-1] * 5 * T]
    assert found["attention_mask"].tolist() == [[1] * 5 * T]
    assert_pictures(found["pixel_values"], [0, 1, 2, 3, 4])
    assert set(found) == {"input_ids", "attention_mask", "pixel_values"}


def test_a_query_alone_and_frames(processor):
    assert_pictures(processor(query=picture(4))["pixel_values"], [4])
    found = processor(frames=[picture(0), picture(1), picture(2)])
    assert found["input_ids"].shape == (1, 3 * T)
    assert_pictures(found["pixel_values"], [0, 1, 2])


def test_batches_are_filled_up_on_the_left(make):
    pairs = [[(picture(0), picture(1))], [], [(picture(2), picture(3)), (picture(4), picture(5))]]
    found = make(begin_id=7)(pairs=pairs, query=[picture(6), picture(5), picture(0)])
    assert found["input_ids"].tolist() == [
        [9] * 2 * T + [7] + [-1] * 3 * T,
        [9] * 4 * T + [7] + [-1] * T,
        [7] + [-1] * 5 * T,
    ]
    assert torch.equal(found["attention_mask"], (found["input_ids"] != 9).long())
    assert_pictures(found["pixel_values"], [0, 1, 6, 5, 2, 3, 4, 5, 0])
    frames = make()(frames=[[picture(0)], [picture(1), picture(2)]])
    assert frames["input_ids"].tolist() == [[9] * T + [-1] * T, [-1] * 2 * T]
    assert_pictures(frames["pixel_values"], [0, 1, 2])


def test_one_list_of_pairs_stands_for_all_queries(processor):
    found = processor(pairs=[(picture(0), picture(1))], query=[picture(2), picture(3)])
    assert found["input_ids"].shape == (2, 3 * T)
    assert_pictures(found["pixel_values"], [0, 1, 2, 0, 1, 3])


def test_arrays_and_pictures_of_any_mode(processor):
    grey = Image.new("L", (5, 6), 255)
    array = np.zeros((6, 5, 3), dtype=np.uint8)
    found = processor(pairs=[(grey, array)], query=torch.zeros(3, 6, 5))
    assert_pictures(found["pixel_values"], [3, 4, 4])


def test_the_whole_of_a_wide_picture_is_seen(processor):
    wide = Image.new("RGB", (40, 8), "black")
    wide.paste("white", (0, 0, 10, 8))
    pixels = processor(query=wide)["pixel_values"][0, 0]
    assert pixels[:, 0].mean() > 0.9 and pixels[:, -1].mean() < -0.9


def test_partial_answers(processor):
    found = processor(query=[picture(0), picture(1)], partial=[picture(2), picture(3)], known_rows=[1])
    assert_pictures(found["known_pixel_values"], [2, 3])
    assert found["known_rows"].tolist() == [[False, True], [False, True]]


def test_sentence_goes_through_a_model(make_simlvm, make_simlvm_processor):
    model = make_simlvm("llama", special_token_ids={"pad": 32, "begin": 33})
    processor = make_simlvm_processor(model)
    noise = np.random.default_rng(0).integers(0, 256, (6, 20, 24, 3), dtype=np.uint8)
    pairs, query = [(noise[0], noise[1])], noise[2]
    found = model.complete(**processor(pairs=pairs, query=query))
    pictures = processor.image_processor(list(noise[:3]), return_tensors="pt")["pixel_values"]
    ids = torch.cat([torch.tensor([33]), model.tokenize(pictures).flatten()])[None]
    assert torch.equal(found.image_tokens, model.complete(ids).image_tokens)
    answer = processor.postprocess(model.draw(found.image_tokens[:, 0]), sizes=[(24, 20)])[0]
    assert answer.size == (24, 20) and answer.mode == "RGB"
    partial = model.complete(**processor(pairs=pairs, query=query, partial=noise[3], known_rows=[0, 2]))
    given = model.tokenize(processor.image_processor(noise[3], return_tensors="pt")["pixel_values"]).view(4, 4)
    assert torch.equal(partial.image_tokens[0, 0, [0, 2]], given[[0, 2]])


def test_pictures_come_back_in_their_size(processor):
    pixels = torch.stack([as_pixels(0), as_pixels(1) * 3])
    found = processor.postprocess(pixels, sizes=[(30, 20), (8, 8)])
    assert [one.size for one in found] == [(30, 20), (8, 8)]
    assert found[0].getpixel((29, 19)) == (255, 0, 0)
    assert [one.size for one in processor.postprocess(pixels)] == [(8, 8), (8, 8)]


def test_masks_are_what_is_bright(processor):
    pixels = torch.full((1, 3, 8, 8), -1.0)
    pixels[0, :, :4, :4] = 1
    pixels[0, 0, 7, 7] = 1  # one channel of three: brightness 1/3
    mask = processor.postprocess_masks(pixels)[0]
    expected = np.zeros((8, 8), dtype=bool)
    expected[:4, :4] = True
    assert mask.dtype == bool and np.array_equal(mask, expected)
    expected[7, 7] = True
    assert np.array_equal(processor.postprocess_masks(pixels, threshold=0.3)[0], expected)
    large = processor.postprocess_masks(pixels, sizes=[(16, 32)])[0]
    assert large.shape == (32, 16) and large[:15, :7].all() and not large[18:, 9:14].any()


def test_label_maps_are_the_nearest_colours(processor):
    palette = [(0, 0, 0), (255, 0, 0), (0, 255, 0)]
    pixels = torch.full((1, 3, 8, 8), -1.0)
    pixels[0, 0, 2:5] = 0.4  # a dull red
    pixels[0, 1, 6] = 0.9
    pixels[0, 0, 6] = 0.1  # a yellowish green
    found = processor.postprocess_label_maps(pixels, palette)[0]
    expected = np.zeros((8, 8), dtype=np.int64)
    expected[2:5], expected[6] = 1, 2
    assert found.dtype == np.int64 and np.array_equal(found, expected)


def test_nearest_colours_by_a_plain_loop():
    rng = np.random.default_rng(0)
    pixels, palette = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8), rng.integers(0, 256, (7, 3)).tolist()
    found = nearest_colours(pixels, palette)
    for row in range(5):
        for column in range(6):
            own = [int(value) for value in pixels[row, column]]
            distances = [sum((a - b) ** 2 for a, b in zip(own, colour, strict=True)) for colour in palette]
            assert found[row, column] == distances.index(min(distances))
    assert nearest_colours(np.full((1, 1, 3), 10, np.uint8), [(0, 10, 10), (20, 10, 10)])[0, 0] == 0  # equally near
    with pytest.raises(ValueError, match="list of colours"):
        nearest_colours(pixels, [])


def test_the_palette_of_targets():
    first, second = Image.new("RGB", (10, 10), "white"), Image.new("RGB", (10, 10), "red")
    first.paste("black", (0, 0, 2, 2))
    second.paste("green", (0, 0, 5, 5))
    palette = palette_of([first, second])
    assert palette == [(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 128, 0)]  # 4, 96, 75 and 25 pixels
    check_palette([first, second], palette)


def test_palettes_that_do_not_fit():
    target = Image.new("RGB", (4, 4), "red")
    with pytest.raises(ValueError, match=r"have the colour \(255, 0, 0\), which the palette has not.*repaint"):
        check_palette([target], [(0, 0, 0)])
    with pytest.raises(ValueError, match=r"palette has the colour \(0, 0, 0\), which no pair's target shows"):
        check_palette([target], [(255, 0, 0), (0, 0, 0)])
    photo = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="400 colours, so they are pictures and no label maps"):
        palette_of([photo])


PAIR = (picture(0), picture(1))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pairs": [PAIR]}, "There is no query: give the picture"),
        ({"query": picture(0), "frames": [picture(1)]}, "either frames, or pairs and a query"),
        ({"frames": []}, "has no picture: give at least one"),
        ({"pairs": [PAIR] * 9, "query": picture(0)}, "^3 pairs fit, you gave 9: this model reads 8 images, the query"),
        ({"pairs": [PAIR] * 4, "query": picture(0)}, "^3 pairs fit, you gave 4"),
        ({"pairs": [PAIR] * 3, "query": picture(0), "num_images": 2}, "^2 pairs fit, you gave 3"),
        ({"query": picture(0), "num_images": 9}, "^0 pairs fit, you gave 0"),
        ({"frames": [picture(0)] * 8}, "^7 frames fit, you gave 8: this model reads 8 images, 1 of them"),
        ({"pairs": [(picture(0), picture(1, (10, 12)))], "query": picture(0)}, "Pair 1 has an input of 12 x 10 pixels"),
        ({"pairs": [PAIR, picture(0)], "query": picture(0)}, "Pair 2 is no pair"),
        ({"pairs": [(picture(0),)], "query": picture(0)}, "Pair 1 is no pair"),
        ({"pairs": [[PAIR]], "query": [picture(0)] * 2}, "1 lists of pairs and 2 queries"),
        ({"query": "clip.MP4"}, "clip.MP4 is a video.*visual-sentence keyframes"),
        ({"frames": ["clip.webm"]}, "is a video"),
        ({"query": "a/picture.png"}, "is a path: open the picture first"),
        ({"query": None, "frames": [np.zeros((2, 2, 2))]}, "must have shape"),
        ({"query": picture(0), "partial": picture(1)}, "give both"),
        ({"query": picture(0), "known_rows": [0]}, "give both"),
        ({"query": picture(0), "partial": [picture(1)] * 2, "known_rows": [0]}, "2 partial pictures and 1 sentences"),
        ({"query": picture(0), "partial": picture(1), "known_rows": [0, 2]}, "names row 2, .* rows 0 to 1"),
        ({"query": picture(0), "partial": picture(1), "known_rows": [-1]}, "names row -1"),
    ],
)
def test_mistakes_are_named_in_one_line(processor, options, said):
    with pytest.raises(ValueError, match=said) as caught:
        processor(**options)
    assert "\n" not in str(caught.value)
