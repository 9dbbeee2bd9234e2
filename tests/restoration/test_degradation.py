"""Corruptions against plain loops over pixels."""

import math

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from visual_sentence import UserError
from visual_sentence.modeling import V2LImageProcessor
from visual_sentence.restoration.degradation import Degradation, View, blur, scaled_blur, shift, view_of


@pytest.fixture
def square() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))


def apply(task: str, picture: Image.Image, **options) -> np.ndarray:
    return np.asarray(Degradation(task, **options).apply(View(picture, picture), (4, 4)))


def test_the_view_is_the_image_processors(picture):
    processor = V2LImageProcessor(local_size=16)
    (expected,) = processor.postprocess(processor([picture], return_tensors="pt")["pixel_values"])
    view = view_of(picture, 16)
    assert view.picture.tobytes() == expected.tobytes()
    assert view_of(view.picture, 16).picture.tobytes() == expected.tobytes()  # a view's view is itself


def test_the_far_end_is_the_other_crop_and_none_of_a_square_picture(picture, square):
    wide = Image.new("RGB", (32, 16), "red")
    wide.paste("blue", (16, 0, 32, 16))
    assert np.asarray(view_of(wide, 16).far_end).reshape(-1, 3).tolist() == [[0, 0, 255]] * 256
    assert view_of(square, 16).far_end.tobytes() == view_of(square, 16).picture.tobytes()
    view = view_of(picture, 16)
    assert Degradation("shift", shift=None).apply(view, (4, 4)).tobytes() == view.far_end.tobytes()
    assert view.far_end.tobytes() != view.picture.tobytes()


def test_holes_are_grey_and_nothing_else_is(square):
    pixels = np.asarray(square)
    for task, rows, columns in (
        ("inpainting", slice(4, 12), slice(4, 12)),
        ("outpainting", slice(8, 16), slice(0, 16)),
    ):
        expected = pixels.copy()
        expected[rows, columns] = 128
        assert (apply(task, square) == expected).all()


def test_rotation_is_counter_clockwise(square):
    assert (apply("rotation", square) == np.rot90(np.asarray(square))).all()


def test_shift_moves_left_and_up_and_mirrors(square):
    pixels, moved = np.asarray(square), np.asarray(shift(square, 3))
    for row in range(16):
        for column in range(16):
            source = [place + 3 if place + 3 < 16 else 31 - (place + 3) for place in (row, column)]
            assert (moved[row, column] == pixels[source[0], source[1]]).all()
    assert (apply("shift", square, shift=0.25) == np.asarray(shift(square, 4))).all()


def test_blur_equals_scipys(square):
    for width, sigma in ((5, 1.1), (11, 2.0)):
        found = np.asarray(blur(square, width, sigma)).astype(int)
        pixels = np.asarray(square, dtype=float)
        expected = ndimage.gaussian_filter(pixels, (sigma, sigma, 0), mode="mirror", truncate=(width // 2) / sigma)
        assert np.abs(found - expected).max() <= 0.5001  # rounding


def test_blurs_follow_opencvs_rule_and_the_views_size():
    assert [scaled_blur(width, 128) for width in (5, 7, 9, 11)] == [
        (width, pytest.approx(sigma)) for width, sigma in ((5, 1.1), (7, 1.4), (9, 1.7), (11, 2.0))
    ]
    assert scaled_blur(11, 64) == (5, pytest.approx(1.0))
    assert scaled_blur(5, 16) == (3, pytest.approx(1.1 / 8))


def test_blurs_are_drawn_for_each_picture_by_itself():
    generator = np.random.default_rng(0)
    pictures = [Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)) for _ in range(300)]
    drawn = [Degradation("deblurring", seed=1)._blur_of(picture) for picture in pictures]
    assert [Degradation("deblurring", seed=1)._blur_of(picture) for picture in reversed(pictures)] == drawn[::-1]
    assert [Degradation("deblurring", seed=2)._blur_of(picture) for picture in pictures] != drawn
    shares = [np.mean([math.isclose(sigma, s / 8) for _, sigma in drawn]) for s in (1.1, 1.4, 1.7, 2.0)]
    assert sum(shares) == pytest.approx(1)
    assert np.abs(np.array(shares) - np.array([1, 2, 2, 2]) / 7).max() < 0.1


def test_mistakes_are_named():
    for arguments, message in ((("haze",), "no restoration task 'haze'"), (("shift", 0.0), "share above 0, up to 0.5")):
        with pytest.raises(UserError, match=message):
            Degradation(*arguments)
