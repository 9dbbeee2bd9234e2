"""Visual sentence: solved pairs and a query; masks may be painted in the page."""

from collections.abc import Generator
from typing import Any

import gradio as gr
from PIL import Image, ImageChops

from ..errors import UserError
from ..sentence_completion import Question
from ..sentence_completion.answers import OUTPUTS
from ..sentence_completion.sheet import draw_rows
from .controls import add_buttons, add_example, connect, painted_picture, picture_file
from .examples import PAIRS, SENTENCES, sentence
from .limits import Limits
from .models import AppModels

INTRODUCTION = (
    "Show what is to be done by solved pairs: drop a picture and its answer, or paint a mask over the picture. "
    "The model goes on with the answer to the query."
)
STAGES = 2


def build_sentence_tab(models: AppModels, limits: Limits) -> None:
    """Adds the tab."""

    def read_pair(place: int, painted: dict[str, Any] | None, target: str | None) -> tuple | None:
        if painted is None or painted["background"] is None:
            if target is not None:
                raise UserError(f"Pair {place} has an answer but no picture: give both, or remove the answer.")
            return None
        picture = limits.open(painted["background"], f"The picture of pair {place}")
        if target is not None:
            return picture, limits.open(target, f"The answer of pair {place}")
        mask = painted_mask(painted["layers"], picture.size, limits)
        if mask is None:
            raise UserError(f"Pair {place} has no answer: give the answer's picture, or paint a mask over its picture.")
        return picture, mask

    def work(query: str | None, kind: str, *slots: Any) -> Generator[str, None, tuple[Any, ...]]:
        rows = enumerate(zip(slots[:PAIRS], slots[PAIRS:], strict=True), 1)
        pairs = [pair for place, (painted, target) in rows if (pair := read_pair(place, painted, target))]
        if not pairs:
            raise UserError("There is no pair, so nothing says what is to be done: give a picture and its answer.")
        asked = limits.open(query, "The query")
        yield "loading the model"
        with models.alone():
            completer = models.completer
            completer.check_fits(pairs=pairs, query=asked)
        yield "reading the pairs and drawing the answer"
        with models.alone():
            (found,) = completer.complete([Question(pairs, asked)], output=kind)
        lines = [(pair, f"pair {place}", False) for place, pair in enumerate(pairs, 1)]
        lines.append(((asked, found.painted.convert("RGB")), "query and answer", True))
        told = f"Read as {reading(found)}; log-likelihood {found.log_likelihood:.1f} nats."
        return found.painted, draw_rows(("picture", "answer"), lines), told

    def fill(name: str) -> list[Any]:
        pairs, query = sentence(name)
        pictures, targets = zip(*pairs, strict=True)
        painted = [{"background": picture, "layers": [], "composite": picture} for picture in pictures]
        return [query, *painted, *targets]

    gr.Markdown(INTRODUCTION)
    pictures, targets = [], []
    with gr.Row():
        for place in range(1, PAIRS + 1):
            with gr.Column(min_width=220):
                pictures.append(painted_picture(f"Pair {place}: picture", height=300, elem_id=f"pair-picture-{place}"))
                targets.append(picture_file(f"Pair {place}: answer", height=200, elem_id=f"pair-answer-{place}"))
    with gr.Row():
        with gr.Column():
            query = picture_file("Query", elem_id="sentence-query", height=260)
            kind = gr.Radio(list(OUTPUTS), value=OUTPUTS[0], label="What the answer is read as")
        with gr.Column():
            answer = gr.Image(label="Answer", interactive=False, format="png", height=260, elem_id="sentence-answer")
            told = gr.Markdown(elem_id="sentence-told")
    with gr.Row():
        for name in SENTENCES:
            add_example(name, f"sentence-{name.lower()}", lambda name=name: fill(name), [query, *pictures, *targets])
    buttons = add_buttons("Complete", "sentence")
    sheet = gr.Image(label="The sentence", interactive=False, format="png", elem_id="sentence-sheet")
    connect(models.runs, buttons, "sentence", work, STAGES, [query, kind, *pictures, *targets], [answer, sheet, told])


def painted_mask(layers: list[str], size: tuple[int, int], limits: Limits) -> Image.Image | None:
    """What was painted over a picture, as a mask.

    Args:
        layers: Files of transparent pictures.
        size: (W, H) of the picture that they lie over.
        limits: As for uploads.

    Returns:
        RGB of that size, white where something was painted, else black; None where nothing was.
    """
    mask = Image.new("L", size)
    for path in layers:
        limits.open(path, "What was painted")
        with Image.open(path) as layer:
            alpha = layer.convert("RGBA").getchannel("A").point(lambda value: 255 * (value > 127))
        mask = ImageChops.lighter(mask, alpha.resize(size, Image.Resampling.NEAREST))
    return mask.convert("RGB") if mask.getbbox() else None


def reading(found: Any) -> str:
    """What an answer was read as, in words."""
    if found.mask is not None:
        return f"a mask, {found.mask.mean():.0%} of it foreground"
    return "a picture" if found.label_map is None else f"a label map of {len(found.palette)} colours"


__all__ = ["build_sentence_tab", "painted_mask"]
