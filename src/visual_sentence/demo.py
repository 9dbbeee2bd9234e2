"""The demo: photographs of an installed package become words, and a language model answers one question.

Draws `words.png` and writes `index.html` beside it.
"""

from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from .completion import load_completion_model
from .errors import UserError
from .few_shot import ClassificationPrompt, Example, InContextClassifier
from .image_io import open_image
from .references import OFFLINE
from .words import WordFinder

# scikit-image's photographs; the two motorcycles are two pictures of one scene, taken from different places.
SHOWN = ("chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "astronaut.png", "coins.png")
EXAMPLES = {"cat": "chelsea.png", "coffee": "coffee.png", "rocket": "rocket.jpg", "motorcycle": "motorcycle_left.png"}
QUESTION = "motorcycle_right.png"

INK, QUIET, ACCENT, PAPER, LINE = "#1c2430", "#6b7686", "#c2410c", "#fbfaf7", "#d9d5cc"
TILE, GAP, MARGIN = 300, 28, 48


@dataclass(frozen=True)
class DemoResult:
    """What the demo found.

    Args:
        words: Photograph's file name -> its words, nearest first.
        probabilities: Class -> probability that the language model gives it for the question.
        prompt: The text that the language model read.
    """

    words: dict[str, list[str]]
    probabilities: dict[str, float]
    prompt: str

    @property
    def answer(self) -> str:
        """The most probable class."""
        return max(self.probabilities, key=self.probabilities.get)


def run_demo(output_dir: str | Path, model: str = OFFLINE, language_model: str = OFFLINE) -> DemoResult:
    """Runs the demo and writes its picture and page.

    Args:
        output_dir: Where `words.png` and `index.html` are written.
        model: V2L model: "offline", a folder or a Hub id.
        language_model: "offline", a folder or a Hub id.

    Raises:
        UserError: If scikit-image is not installed or the folder cannot be written.
    """
    output = Path(output_dir)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(output, error) from error
    photographs = load_photographs()
    finder = WordFinder.load(model)
    words = {name: found.words for name, found in zip(photographs, finder.find(photographs.values()), strict=True)}
    prompt = ClassificationPrompt()
    classifier = InContextClassifier(load_completion_model(language_model), prompt=prompt)
    support = [Example(tuple(words[file]), label) for label, file in EXAMPLES.items()]
    answer = classifier.classify(support, [words[QUESTION]], list(EXAMPLES))[0]
    result = DemoResult(words, answer.scores, prompt.render(support, words[QUESTION], list(EXAMPLES)))
    try:
        draw_words(photographs, result).save(output / "words.png")
        (output / "index.html").write_text(render_page(result), encoding="utf-8")
    except OSError as error:
        raise _unwritable(output, error) from error
    return result


def _unwritable(output: Path, error: OSError) -> UserError:
    return UserError(f"{output} cannot be written ({error.strerror}): choose another folder with --output.")


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
    return {name: open_image(folder / name) for name in dict.fromkeys([*SHOWN, *EXAMPLES.values(), QUESTION])}


def draw_words(photographs: dict[str, Image.Image], result: DemoResult) -> Image.Image:
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


def _draw_question(canvas: Image.Image, photographs: dict[str, Image.Image], result: DemoResult, top: int) -> None:
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


def _draw_bars(draw: ImageDraw.ImageDraw, result: DemoResult, corner: tuple[int, int], right: int) -> None:
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


def render_page(result: DemoResult) -> str:
    """The demo as a page: the picture, the probabilities and the text that the language model read."""
    rows = "\n".join(
        f"<tr><td>{escape(label)}</td><td>{probability:.1%}</td></tr>"
        for label, probability in result.probabilities.items()
    )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>visual-sentence: the demo</title>
<style>
body {{ font: 17px/1.55 system-ui, sans-serif; color: {INK}; background: {PAPER}; max-width: 64rem;
  margin: 3rem auto; padding: 0 1.5rem }}
img {{ width: 100%; border: 1px solid {LINE}; border-radius: 6px }}
pre {{ background: #fff; border: 1px solid {LINE}; border-radius: 6px; padding: 1rem; white-space: pre-wrap }}
td {{ padding: .15rem 1.5rem .15rem 0 }} h1, h2 {{ line-height: 1.2 }} .answer {{ color: {ACCENT} }}
</style>
<h1>Photographs, written in words</h1>
<p>An image tower and a codebook turned each photograph into the words below it; a language model that was
never trained on images then read four examples and answered a question about a new photograph. The two
motorcycles are two pictures of one scene.</p>
<img src="words.png" alt="Photographs with their words; one question with the probabilities of its answers">
<h2>What the language model read</h2>
<pre>{escape(result.prompt)}</pre>
<h2>What it answered: <span class="answer">{escape(result.answer)}</span></h2>
<table>{rows}</table>
<p>The image tower knows the thousand labels of ImageNet. Things outside that list are given the nearest
words it has, so this is not open-vocabulary recognition.</p>
</html>
"""
