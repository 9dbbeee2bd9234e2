"""A picture of captions: each photograph with its words and what the language model wrote about it."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from ..errors import UserError
from ..image_io import open_image
from .pictures import PictureCaption

INK, QUIET, ACCENT, PAPER = "#1c2430", "#6b7686", "#c2410c", "#fbfaf7"
TILE, GAP, MARGIN, HEADER, COLUMNS = 300, 28, 40, 84, 3
CAPTION_SIZE, WORDS_SIZE, CAPTION_LINES, WORD_LINES = 19, 14, 3, 3
LINE_HEIGHT = 1.3
NOTHING = "(nothing was written)"
COPIED = "a copy of an example: "


def draw_captions(
    pictures: Sequence[Image.Image],
    captions: Sequence[PictureCaption],
    title: str = "Captions written from words, by a frozen language model",
) -> Image.Image:
    """Draws photographs in rows of three, under each its caption and the words that it was written from.

    Args:
        pictures: Q pictures; each is cut to a square around its middle.
        captions: Their captions.
        title: Written above.
    """
    below = int((CAPTION_SIZE * CAPTION_LINES + WORDS_SIZE * WORD_LINES) * LINE_HEIGHT) + 34
    columns = min(COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    width = max(2 * MARGIN + columns * TILE + (columns - 1) * GAP, int(_font(26).getlength(title)) + 2 * MARGIN)
    canvas = Image.new("RGB", (width, HEADER + rows * (TILE + below)), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN, 28), title, font=_font(26), fill=INK)
    for place, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left = MARGIN + place % columns * (TILE + GAP)
        top = HEADER + place // columns * (TILE + below)
        canvas.paste(ImageOps.fit(picture.convert("RGB"), (TILE, TILE)), (left, top))
        written = (COPIED if caption.copied else "") + (caption.text or NOTHING)
        color = QUIET if caption.copied or not caption.text else ACCENT
        end = _paragraph(draw, (left, top + TILE + 10), written, CAPTION_SIZE, CAPTION_LINES, color)
        _paragraph(draw, (left, end + 6), ", ".join(caption.words), WORDS_SIZE, WORD_LINES, QUIET)
    return canvas


def save_captions(paths: Sequence[str | Path], captions: Sequence[PictureCaption], file: str | Path) -> None:
    """Draws picture files with their captions into a file.

    Args:
        paths: Q picture files.
        captions: Their captions.
        file: Where to; its suffix says in which format.

    Raises:
        UserError: If a picture cannot be read or the file cannot be written.
    """
    drawn = draw_captions([open_image(path) for path in paths], captions)
    try:
        drawn.save(file)
    except (OSError, ValueError) as error:  # PIL's for a suffix that it does not know
        raise UserError(f"{file} cannot be written ({error}): name a .jpg or .png in a folder that exists.") from error


def wrap(text: str, size: int, width: int, most: int) -> list[str]:
    """Breaks a text into lines that are no wider than `width` pixels; what does not fit ends in dots.

    Args:
        text: A text.
        size: Height of its letters in pixels.
        width: Of a line.
        most: How many lines there may be.
    """
    font, lines, words = _font(size), [""], _letters(text).split()
    for place, word in enumerate(words):
        longer = f"{lines[-1]} {word}".strip()
        last = len(lines) == most
        if font.getlength(longer + ("..." if last and place < len(words) - 1 else "")) <= width or not lines[-1]:
            lines[-1] = longer
        elif last:
            lines[-1] = lines[-1].rstrip(",") + "..."
            break
        else:
            lines.append(word)
    return lines


def _paragraph(
    draw: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, size: int, most: int, color: str
) -> float:
    """Writes a text in lines and gives the height at which it ends."""
    y = float(corner[1])
    for line in wrap(text, size, TILE, most):
        draw.text((corner[0], y), line, font=_font(size), fill=color)
        y += size * LINE_HEIGHT
    return y


def _letters(text: str) -> str:
    """A text without accents, which the font that comes with Pillow lacks."""
    return "".join(sign for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
