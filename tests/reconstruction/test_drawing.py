"""Pictures of reconstructions: exact where they are measured, legible where they are read."""

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageFont

from visual_sentence.reconstruction import draw_words, drawing, side_by_side


def test_side_by_side_keeps_every_pixel(noise):
    first, second = noise[:2]
    both = side_by_side(first, second)
    assert both.size == (24 + 2 + 24, 20)
    assert not ImageChops.difference(both.crop((0, 0, 24, 20)), first).getbbox()
    assert not ImageChops.difference(both.crop((26, 0, 50, 20)), second).getbbox()
    assert both.getpixel((24, 0)) == both.getpixel((25, 19)) == (251, 250, 247)


def ink(picture: Image.Image, box: tuple[int, int, int, int]) -> int:
    """How many pixels of a part are as dark as letters."""
    return int((np.asarray(picture.crop(box).convert("L")) < 90).sum())


@pytest.mark.parametrize("color", ["black", "white", "red"])
def test_every_cell_holds_its_word_and_no_other(color):
    words = [["cat", "", "internationalisation"], ["the very long words of a whole sentence", " dog", "x"]]
    picture = draw_words(Image.new("RGB", (48, 32), color), words)
    cell = drawing.LARGEST_CELL
    assert picture.size == (3 * cell + 2 * drawing.MARGIN, drawing.HEADER + 2 * cell + drawing.MARGIN)
    for row, line in enumerate(words):
        for column, _ in enumerate(line):
            left, top = drawing.MARGIN + column * cell, drawing.HEADER + row * cell
            assert ink(picture, (left, top, left + cell, top + cell)) > 10, (row, column)
            for edge in ((left, top, left + 2, top + cell), (left, top, left + cell, top + 2)):
                assert ink(picture, edge) == 0, "a word leaves its cell"


def test_dark_letters_stand_out_from_a_black_picture():
    cell = drawing.LARGEST_CELL
    picture = np.asarray(draw_words(Image.new("RGB", (8, 8), "black"), [["word"]]).convert("L")).astype(int)
    middle = picture[drawing.HEADER : drawing.HEADER + cell, drawing.MARGIN : drawing.MARGIN + cell]
    assert np.median(middle) - middle.min() > 90  # of 255 between letters and what lies behind them


def test_the_picture_shines_through():
    halves = Image.new("RGB", (16, 16), "white")
    halves.paste("black", (0, 0, 8, 16))
    picture = draw_words(halves, [["a", "b"], ["c", "d"]])
    cell = drawing.LARGEST_CELL
    left, right = (picture.getpixel((drawing.MARGIN + column * cell + 12, drawing.HEADER + 12)) for column in (0, 1))
    assert right[0] - left[0] > 80


def test_global_words_stand_beneath_and_wrap(noise):
    words = [["a", "b"], ["c", "d"]]
    without = draw_words(noise[0], words)
    few, many = (draw_words(noise[0], words, ["cat", "dog", "tree"] * count) for count in (1, 8))
    assert without.width == few.width == many.width
    assert without.height < few.height < many.height
    below = drawing.HEADER + 2 * drawing.LARGEST_CELL + 40
    assert ink(few, (0, below, few.width, few.height)) > 50
    assert ink(many, (many.width - drawing.MARGIN + 2, below, many.width, many.height)) == 0


def test_titles_are_written_small_rather_than_cut():
    picture = draw_words(Image.new("RGB", (8, 8)), [["a", "b"]], title="a picture of a rather long name.jpg")
    assert ink(picture, (drawing.MARGIN, 10, picture.width - drawing.MARGIN, 50)) > 50
    assert ink(picture, (picture.width - drawing.MARGIN + 4, 0, picture.width, 50)) == 0


def test_words_are_fitted():
    assert drawing.fit("cat", 100) == (["cat"], drawing.LARGEST_TEXT)
    lines, size = drawing.fit("accommodations", 60)
    assert len(lines) == 2 and "".join(lines) == "accommodations" and size >= drawing.SMALLEST_TEXT
    lines, size = drawing.fit("word" * 50, 60)
    assert len(lines) == drawing.MOST_LINES and lines[-1].endswith("…") and size == drawing.SMALLEST_TEXT
    for text in ("cat", "internationalisation", "word" * 50, "—" * 9, "WWWWWWWWWWWWWWWWWWWW"):
        lines, size = drawing.fit(text, 60)
        assert max(ImageFont.load_default(size).getlength(line) for line in lines) <= 61


def test_what_cannot_be_seen_is_marked(monkeypatch):
    monkeypatch.setattr(drawing, "INSTALLED_FONTS", ())
    for function in (drawing.readable, drawing._has, drawing._font_files, drawing._load_font):
        monkeypatch.setattr(drawing, function.__name__, drawing.cache(function.__wrapped__))
    assert drawing.readable(" the") == "·the"
    assert drawing.readable("\n\n") == "\\n\\n"
    assert drawing.readable("") == "(empty)"
    assert drawing.readable("a中") == "aU+4E2D"
    assert drawing.readable("\u0301") == "U+301"
    assert drawing.readable("\x00") == "U+0"


def test_a_grid_need_not_be_square():
    picture = draw_words(Image.new("RGB", (64, 32)), [["w"] * 32] * 16)
    assert picture.size == (32 * 66 + 80, drawing.HEADER + 16 * 66 + 40)
