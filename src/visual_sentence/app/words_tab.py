"""Words: a picture as global words, what it shows, and as local words, how it looks; and drawn again of the latter."""

from collections.abc import Generator
from typing import Any

import gradio as gr

from ..metrics.image_quality import psnr
from ..reconstruction.drawing import draw_words
from ..reconstruction.evaluation import as_batch
from .controls import add_buttons, add_example, connect, picture_file
from .examples import CAT, COFFEE, ROCKET, photograph
from .limits import Limits
from .models import AppModels

INTRODUCTION = (
    "A picture is written twice in the vocabulary of a language model that never saw one: as **global words**, what it "
    "shows, nearest first, and as a map of **local words**, how each square of it looks. Of the local words alone it "
    "is drawn again."
)
STAGES = 3


def build_words_tab(models: AppModels, limits: Limits) -> None:
    """Adds the tab."""

    def work(path: str | None, count: int) -> Generator[str, None, tuple[Any, ...]]:
        picture = limits.open(path, "The picture")
        yield "loading the models"
        with models.alone():
            finder, codec = models.finder, models.codec
        yield "finding global words"
        with models.alone():
            (found,) = finder.find([picture], int(count))
        yield "writing and drawing local words"
        with models.alone():
            (drawn,) = codec.reconstruct([picture])
        distance = float(psnr(as_batch([drawn.reconstruction]), as_batch([drawn.original]))[0])
        nearest = [[word, round(length, 3)] for word, length in zip(found.words, found.distances, strict=True)]
        told = (
            f"{len(drawn.image_tokens)} x {len(drawn.image_tokens[0])} words, {drawn.distinct_tokens} different ones; "
            f"drawn of them alone {distance:.1f} dB from what the model saw."
        )
        table = drawn.words or drawn.image_tokens
        over = draw_words(drawn.original, [[str(word) for word in row] for row in table], found.words)
        return nearest, (drawn.original, drawn.reconstruction), told, over, table

    gr.Markdown(INTRODUCTION)
    with gr.Row():
        with gr.Column(scale=1):
            picture = picture_file("Picture", elem_id="words-picture", height=300)
            count = gr.Slider(1, 21, value=5, step=1, label="Global words")
            with gr.Row():
                for label, name in (("Cat", CAT), ("Coffee", COFFEE), ("Rocket", ROCKET)):
                    add_example(label, f"words-{label.lower()}", lambda name=name: photograph(name), [picture])
            buttons = add_buttons("Find words", "words")
        with gr.Column(scale=1):
            words = gr.Dataframe(
                headers=["global word", "distance"], label="What it shows", interactive=False, elem_id="words-global"
            )
            # both as they are, not sliding over each other
            drawn = gr.Gallery(
                label="What the model saw, and what its local words draw", columns=2, height=260, elem_id="words-drawn"
            )
            told = gr.Markdown(elem_id="words-told")
    shown = gr.Image(label="How it looks: its local words", interactive=False, buttons=["fullscreen", "download"],
                     elem_id="words-map", format="png")  # fmt: skip
    with gr.Accordion("The local words as a table", open=False):
        local = gr.Dataframe(show_label=False, interactive=False, elem_id="words-local")
    connect(models.runs, buttons, "words", work, STAGES, [picture, count], [words, drawn, told, shown, local])


__all__ = ["build_words_tab"]
