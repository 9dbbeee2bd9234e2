"""Pictures of reconstructions: original beside reconstruction, and the map of words over the picture that it writes."""

import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Any

from PIL import Image, ImageDraw, ImageFont

INK, QUIET, ACCENT, PAPER, LINE = "#1c2430", "#6b7686", "#c2410c", "#fbfaf7", "#d9d5cc"
MARGIN, HEADER = 40, 84
# Share of paper laid over the picture: enough for dark letters to be read on a black one, too little to hide it.
VEIL = 0.56
# Pixels of a cell's side, and of a map that is not too wide for a screen.
SMALLEST_CELL, LARGEST_CELL, WIDEST_MAP = 66, 112, 1280
# Of the words beneath.
LINE_TEXT, LINE_HEIGHT = 22, 34
# Of pictures in a row: the least width of one, the paper between them, and the captions.
SMALLEST_SHOWN, ROW_GAP, CAPTION, CAPTION_TEXT = 128, 8, 20, 12
LARGEST_TEXT, SMALLEST_LINE, SMALLEST_TEXT, MOST_LINES = 19, 12, 9, 3
# Looked for, in this order, when the letters of the font that comes with Pillow (Latin, no accents) do not suffice.
INSTALLED_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf",
    "arial.ttf",
)
# A character that no font has: its picture is the one that a font draws for everything that it lacks.
NO_CHARACTER = "\uffff"
BLANK = "·"
MARKS = {" ": BLANK, "▁": BLANK, "\n": "\\n", "\r": "\\r", "\t": "\\t"}
# Unicode's categories of what shows nothing by itself: accents to be put on a letter, controls, unassigned places.
SHAPELESS = ("M", "C")


def side_by_side(original: Image.Image, reconstruction: Image.Image) -> Image.Image:
    """Original left, reconstruction right, pixel for pixel, with a strip of paper between them.

    Args:
        original: A picture.
        reconstruction: A picture of the same height.
    """
    gap = max(2, original.height // 32)
    canvas = Image.new("RGB", (original.width + gap + reconstruction.width, original.height), PAPER)
    canvas.paste(original, (0, 0))
    canvas.paste(reconstruction, (original.width + gap, 0))
    return canvas


def draw_row(panels: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Draws pictures in a row, each with its caption beneath; small ones are enlarged pixel by pixel.

    Args:
        panels: Captions and pictures, all of one size.
    """
    width, height = panels[0][1].size
    scale = max(1, -(-SMALLEST_SHOWN // width))
    width, height = width * scale, height * scale
    canvas = Image.new("RGB", (len(panels) * (width + ROW_GAP) + ROW_GAP, ROW_GAP + height + CAPTION), PAPER)
    draw, font = ImageDraw.Draw(canvas), _font("".join(caption for caption, _ in panels), CAPTION_TEXT)
    for index, (caption, picture) in enumerate(panels):
        left = ROW_GAP + index * (width + ROW_GAP)
        canvas.paste(picture.convert("RGB").resize((width, height), Image.Resampling.NEAREST), (left, ROW_GAP))
        draw.text((left, ROW_GAP + height + CAPTION / 2), caption, fill=INK, font=font, anchor="lm")
    return canvas


def draw_words(
    picture: Image.Image,
    words: Sequence[Sequence[str]],
    global_words: Sequence[str] | None = None,
    title: str | None = None,
) -> Image.Image:
    """Draws a map of words over the picture that it writes, each word in the cell that it stands for.

    A word stands in as large a type as its cell allows, in several lines if need be, cut with dots at the very last.
    Blanks that belong to a word are shown as a dot at mid-height; characters that no font at hand has, as their number.

    Args:
        picture: What the map covers; it is enlarged and veiled.
        words: h rows of w words.
        global_words: Words of the whole picture, nearest first, written beneath.
        title: Written above, in smaller type where it is long.
    """
    rows, columns = len(words), len(words[0])
    cell = max(SMALLEST_CELL, min(LARGEST_CELL, WIDEST_MAP // columns))
    width, height = columns * cell, rows * cell
    lines = _wrap(global_words, width) if global_words else []
    footer = MARGIN + (36 + LINE_HEIGHT * len(lines) if lines else 0)
    canvas = Image.new("RGB", (width + 2 * MARGIN, HEADER + height + footer), PAPER)
    enlarged = picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    canvas.paste(Image.blend(enlarged, Image.new("RGB", enlarged.size, PAPER), VEIL), (MARGIN, HEADER))
    draw = ImageDraw.Draw(canvas)
    distinct = len({word for row in words for word in row})
    _write_header(draw, title or "A picture in words", f"{rows} by {columns} words, {distinct} different ones", width)
    _draw_grid(draw, rows, columns, cell)
    for row, line in enumerate(words):
        for column, word in enumerate(line):
            _write_in_cell(draw, (MARGIN + column * cell, HEADER + row * cell), word, cell)
    if lines:
        _write(draw, (MARGIN, HEADER + height + 18), "the whole picture", 16, QUIET)
        _write_lines(draw, (MARGIN, HEADER + height + 42), lines)
    return canvas


def _write_lines(draw: ImageDraw.ImageDraw, corner: tuple[int, int], lines: Sequence[Sequence[str]]) -> None:
    """Writes lines of words with commas between them, the first word in the accent colour."""
    color = ACCENT
    for index, line in enumerate(lines):
        x, y = corner[0], corner[1] + index * LINE_HEIGHT
        for place, word in enumerate(line):
            _write(draw, (x, y), word, LINE_TEXT, color)
            x, color = x + _length(word, LINE_TEXT), INK
            if index < len(lines) - 1 or place < len(line) - 1:
                _write(draw, (x, y), ",", LINE_TEXT, INK)
                x += _length(", ", LINE_TEXT)


def _write_header(draw: ImageDraw.ImageDraw, title: str, subtitle: str, width: int) -> None:
    size = next((size for size in range(28, 13, -1) if _length(title, size) <= width), 13)
    _write(draw, (MARGIN, 20), title, size, INK)
    _write(draw, (MARGIN, 55), subtitle, 16, QUIET)


def _draw_grid(draw: ImageDraw.ImageDraw, rows: int, columns: int, cell: int) -> None:
    right, bottom = MARGIN + columns * cell, HEADER + rows * cell
    for column in range(columns + 1):
        draw.line([(MARGIN + column * cell, HEADER), (MARGIN + column * cell, bottom)], fill=PAPER)
    for row in range(rows + 1):
        draw.line([(MARGIN, HEADER + row * cell), (right, HEADER + row * cell)], fill=PAPER)
    draw.rectangle([MARGIN, HEADER, right, bottom], outline=LINE)


def _write_in_cell(draw: ImageDraw.ImageDraw, corner: tuple[int, int], word: str, cell: int) -> None:
    """Writes a word in the middle of its cell."""
    lines, size = fit(readable(word), cell - 6)
    spacing = size * 1.12
    top = corner[1] + cell / 2 - spacing * (len(lines) - 1) / 2
    for index, line in enumerate(lines):
        x, y = corner[0] + (cell - _length(line, size)) / 2, top + index * spacing
        blank = BLANK if line.startswith(BLANK) else ""
        outline = {"stroke_width": 1, "stroke_fill": PAPER, "anchor": "lm"}
        draw.text((x, y), blank, fill=ACCENT, font=_font(blank, size), **outline)
        x += _length(blank, size)
        draw.text((x, y), line[len(blank) :], fill=INK, font=_font(line, size), **outline)


def fit(text: str, side: int) -> tuple[list[str], int]:
    """Breaks a text so that it fits a square: one line if that can be read, else several, cut as the last resort.

    Args:
        text: What is to be written.
        side: The square's, in pixels.

    Returns:
        The lines, and the size of the type.
    """
    for size in range(LARGEST_TEXT, SMALLEST_LINE - 1, -1):
        if _length(text, size) <= side:
            return [text], size
    lines = [text]
    for size in range(SMALLEST_LINE + 1, SMALLEST_TEXT - 1, -1):
        lines = _break(text, size, side)
        if len(lines) <= MOST_LINES:
            return lines, size
    return [*lines[: MOST_LINES - 1], f"{lines[MOST_LINES - 1][:-1]}…"], SMALLEST_TEXT


def _break(text: str, size: int, side: int) -> list[str]:
    """As many characters to a line as fit; then as many fewer as make the lines even."""

    def cut(most: int) -> list[str]:
        lines, start = [], 0
        for end in range(1, len(text) + 1):
            if end - start > 1 and (end - start > most or _length(text[start:end], size) > side):
                lines.append(text[start : end - 1])
                start = end - 1
        return [*lines, text[start:]]

    lines = cut(len(text))
    return min((cut(most) for most in (-(-len(text) // len(lines)), len(text))), key=len)


def _wrap(words: Sequence[str], width: int) -> list[list[str]]:
    """Puts words into lines that are not wider than `width` pixels."""
    lines: list[list[str]] = [[]]
    used = 0.0
    for word in map(readable, words):
        length = _length(word, LINE_TEXT) + _length(", ", LINE_TEXT)
        if lines[-1] and used + length > width:
            lines.append([])
            used = 0.0
        lines[-1].append(word)
        used += length
    return lines


@cache
def readable(word: str) -> str:
    """A word as it is drawn: blanks marked, and characters that no font at hand has as their number in Unicode."""
    marked = "".join(MARKS.get(character, character) for character in word) or "(empty)"
    places = range(len(_font_files()))
    if any(_has_all(place, marked) for place in places):
        return marked
    best = max(places, key=lambda place: sum(_has(place, character) for character in marked))
    return "".join(character if _has(best, character) else f"U+{ord(character):X}" for character in marked)


def _has_all(place: int, text: str) -> bool:
    return all(_has(place, character) for character in text)


@cache
def _has(place: int, character: str) -> bool:
    """Whether the font at that place has a letter of its own for a character."""
    if unicodedata.category(character)[0] in SHAPELESS:
        return False
    masks: list[Any] = [_load_font(place, 12).getmask(text) for text in (character, NO_CHARACTER)]
    first, lacking = [(mask.size, bytes(mask)) for mask in masks]
    return first != lacking


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@cache
def _font_files() -> list[str | None]:
    """The font that comes with Pillow (None), then the files of those of `INSTALLED_FONTS` that this machine has."""
    files: list[str | None] = [None]
    for name in INSTALLED_FONTS:
        try:
            files.append(str(ImageFont.truetype(name, 12).path))
        except OSError:  # not installed
            continue
    return files


@cache
def _load_font(place: int, size: int) -> Font:
    file = _font_files()[place]
    return ImageFont.load_default(size) if file is None else ImageFont.truetype(file, size)


def _font(text: str, size: int) -> Font:
    """The first font that has every character of a text; the first of all where none has."""
    places = range(len(_font_files()))
    return _load_font(next((place for place in places if _has_all(place, text)), 0), size)


def _length(text: str, size: int) -> float:
    return _font(text, size).getlength(text)


def _write(draw: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, size: int, color: str) -> None:
    draw.text(corner, text, fill=color, font=_font(text, size))
