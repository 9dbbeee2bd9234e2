"""Photographs of an installed package with their words, and one question with its answer: the demo's first picture."""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from ..errors import UserError
from ..image_io import open_image
from .results import EXAMPLES, QUESTION, SHOWN, TISSUE, WordsResult
from .style import ACCENT, INK, LINE, PAPER, QUIET

TILE, GAP, MARGIN = 300, 28, 48


def load_photographs() -> dict[str, Image.Image]:
    """The photographs that scikit-image ships, by file name.

    Raises:
        UserError: If scikit-image is not installed.
    """
    try:
        import skimage.data
    except ImportError as error:
        raise UserError(
            "The demo shows photographs that scikit-image ships, which is not installed: "
            "run `pip install 'visual-sentence[demo]'`."
        ) from error
    folder = Path(skimage.data.__file__).parent
    return {name: open_image(folder / name) for name in dict.fromkeys([*SHOWN, *EXAMPLES.values(), QUESTION, TISSUE])}


def draw_words(photographs: dict[str, Image.Image], result: WordsResult) -> Image.Image:
    """Draws the photographs with their words, and below them the question with its answer.

    Args:
        photographs: File name -> picture.
        result: What was found.
    """
    columns = 3
    rows = -(-len(SHOWN) // columns)
    width = 2 * MARGIN + columns * TILE + (columns - 1) * GAP
    caption, header, question = 76, 96, 400
    canvas = Image.new("RGB", (width, header + rows * (TILE + caption) + question), PAPER)
    draw = ImageDraw.Draw(canvas)
    _text(draw, (MARGIN, 30), "Photographs, written in words of a frozen language model", 30, INK)
    for index, name in enumerate(SHOWN):
        left = MARGIN + (index % columns) * (TILE + GAP)
        top = header + (index // columns) * (TILE + caption)
        canvas.paste(ImageOps.fit(photographs[name], (TILE, TILE)), (left, top))
        _words(draw, (left, top + TILE + 10), result.words[name], TILE)
    _draw_question(canvas, photographs, result, top=header + rows * (TILE + caption) + 4)
    return canvas


def _draw_question(canvas: Image.Image, photographs: dict[str, Image.Image], result: WordsResult, top: int) -> None:
    """Draws the examples, the new photograph and a bar for each class's probability."""
    draw = ImageDraw.Draw(canvas)
    draw.line([(MARGIN, top), (canvas.width - MARGIN, top)], fill=LINE, width=2)
    _text(draw, (MARGIN, top + 18), "Shown one example of each class, which is the new photograph?", 24, INK)
    small, row = 132, top + 64
    for index, (label, name) in enumerate(EXAMPLES.items()):
        left = MARGIN + index * (small + 14)
        canvas.paste(ImageOps.fit(photographs[name], (small, small)), (left, row))
        _text(draw, (left, row + small + 6), label, 18, INK)
    left = MARGIN
    canvas.paste(ImageOps.fit(photographs[QUESTION], (small, small)), (left, row + small + 42))
    _words(draw, (left + small + 18, row + small + 52), result.words[QUESTION], 4 * small - 100)
    _text(draw, (left + small + 18, row + 2 * small + 10), f"answer: {result.answer}", 24, ACCENT)
    _draw_bars(draw, result, (MARGIN + 4 * (small + 14) + 24, row), canvas.width - MARGIN)


def _draw_bars(draw: ImageDraw.ImageDraw, result: WordsResult, corner: tuple[int, int], right: int) -> None:
    """Draws one bar per class, from `corner` to `right`."""
    left, top = corner
    label_width = 120
    full = right - left - label_width - 70
    for index, (label, probability) in enumerate(result.probabilities.items()):
        y = top + index * 48
        color = ACCENT if label == result.answer else QUIET
        _text(draw, (left, y + 4), label, 18, INK)
        draw.rectangle([left + label_width, y, left + label_width + max(2, full * probability), y + 30], fill=color)
        _text(draw, (left + label_width + full * probability + 10, y + 4), f"{probability:.0%}", 18, INK)


def _words(draw: ImageDraw.ImageDraw, corner: tuple[int, int], words: list[str], width: int) -> None:
    """Writes words in as many lines as they need, the nearest one in the accent colour."""
    x, y = corner
    for index, word in enumerate(words):
        text = word if index == len(words) - 1 else f"{word},"
        length = draw.textlength(f"{text} ", font=ImageFont.load_default(20))
        if x + length > corner[0] + width and x > corner[0]:
            x, y = corner[0], y + 27
        _text(draw, (x, y), text, 20, ACCENT if index == 0 else INK)
        x += length


def _text(draw: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, size: int, color: str) -> None:
    draw.text(corner, text, fill=color, font=ImageFont.load_default(size))
