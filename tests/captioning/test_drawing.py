"""The picture of captions: everything is on it, within its place."""

import numpy as np
import pytest
from PIL import Image, ImageFont

from visual_sentence.captioning import PictureCaption
from visual_sentence.captioning.drawing import TILE, draw_captions, wrap

ACCENT, QUIET = (0xC2, 0x41, 0x0C), (0x6B, 0x76, 0x86)
LONG = "a photograph of very many different things that nobody would ever put into one single sentence"


def pixels_of(picture: Image.Image, color: tuple[int, int, int]) -> int:
    return int((np.asarray(picture) == color).all(axis=-1).sum())


@pytest.mark.parametrize("most", [1, 2, 3, 9])
def test_lines_fit_and_what_does_not_ends_in_dots(most):
    lines = wrap(LONG, 19, TILE, most)
    assert len(lines) <= most
    assert all(ImageFont.load_default(19).getlength(line) <= TILE for line in lines)
    written = " ".join(lines)
    assert written == LONG if most == 9 else LONG.startswith(written.removesuffix("...")) and written.endswith("...")


def test_short_texts_stay_as_they_are():
    assert wrap("a cat", 19, TILE, 2) == ["a cat"]
    assert wrap("", 19, TILE, 2) == [""]
    assert wrap("caf\u00e9 f\u00fcr", 19, TILE, 1) == ["cafe fur"]
    assert wrap("x" * 200, 19, TILE, 2) == ["x" * 200]  # a word without a break is not cut


def test_captions_are_drawn_and_copies_stand_back(pictures):
    good = PictureCaption("A cat sleeps", ("cat", "sofa"), copied=False)
    copy, nothing = PictureCaption("A cat sleeps", ("cat",), copied=True), PictureCaption("", ("cat",), copied=False)
    drawn = draw_captions(pictures[:1], [good])
    assert pixels_of(drawn, ACCENT) > 20 and pixels_of(drawn, QUIET) > 20
    for other in (copy, nothing):
        assert pixels_of(draw_captions(pictures[:1], [other]), ACCENT) == 0
    four = draw_captions(pictures[:4], [good] * 4)
    assert four.width > 3 * TILE and four.height > 2 * TILE
    assert pixels_of(four, ACCENT) == 4 * pixels_of(drawn, ACCENT)
