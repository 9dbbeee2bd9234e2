"""Few-shot: classes shown by a few pictures each, and a new picture that a frozen language model sorts into one."""

from collections.abc import Generator
from typing import Any

import gradio as gr

from ..errors import UserError
from ..few_shot import ClassificationPrompt, Example, InContextClassifier
from .controls import add_buttons, add_example, connect, picture_file
from .examples import CAT, COFFEE, MOTORCYCLE, ROCKET, SAME_MOTORCYCLE, gallery, photograph
from .limits import Limits, check_text
from .models import AppModels

INTRODUCTION = (
    "Name two to four classes and give each a picture or more. Every picture becomes words; a language model that was "
    "never trained on images reads them and says which class the new picture's words belong to."
)
CLASSES, FEWEST = 4, 2
STAGES = 3
EXAMPLE = {"cat": [CAT], "coffee": [COFFEE], "rocket": [ROCKET], "motorcycle": [MOTORCYCLE]}


def build_few_shot_tab(models: AppModels, limits: Limits) -> None:
    """Adds the tab."""

    def work(query: str | None, count: int, *slots: Any) -> Generator[str, None, tuple[Any, ...]]:
        support = {}
        for place, (name, pictures) in enumerate(zip(slots[:CLASSES], slots[CLASSES:], strict=True), 1):
            opened = limits.open_all(pictures, f"Class {place}")
            if not opened and not (name or "").strip():
                continue
            label = check_text(name, f"The name of class {place}")
            if not opened:
                raise UserError(f"Class {place}, {label}, has no picture: give it one or remove its name.")
            if label in support:
                raise UserError(f"Two classes are called {label}, so no answer could tell them apart: rename one.")
            support[label] = opened
        if len(support) < FEWEST:
            raise UserError(f"There is a choice among {FEWEST} classes or more only: name them and give them pictures.")
        asked = limits.open(query, "The new picture")
        yield "loading the models"
        with models.alone():
            finder, reader = models.finder, models.reader
        yield "finding words"
        # in rounds, every class once in each, as in the paper's episodes
        rounds = range(max(map(len, support.values())))
        shown = [(name, some[turn]) for turn in rounds for name, some in support.items() if turn < len(some)]
        with models.alone():
            found = [one.words for one in finder.find([*(picture for _, picture in shown), asked], int(count))]
        yield "asking the language model"
        examples = [Example(tuple(words), name) for words, (name, _) in zip(found[:-1], shown, strict=True)]
        prompt = ClassificationPrompt()
        with models.alone():
            (answer,) = InContextClassifier(reader, prompt=prompt).classify(examples, [found[-1]], list(support))
        return answer.scores, ", ".join(found[-1]), prompt.render(examples, found[-1], list(support))

    def fill() -> list[Any]:
        named = [*EXAMPLE, *[""] * (CLASSES - len(EXAMPLE))]
        shown = [gallery(EXAMPLE[name]) if name else None for name in named]
        return [photograph(SAME_MOTORCYCLE), *named, *shown]

    gr.Markdown(INTRODUCTION)
    names, galleries = [], []
    with gr.Row():
        for place in range(1, CLASSES + 1):
            with gr.Column(min_width=180):
                names.append(gr.Textbox(label=f"Class {place}", elem_id=f"few-shot-name-{place}", max_lines=1))
                pictures = gr.Gallery(
                    label="Its pictures", type="filepath", file_types=["image"], columns=2, height=190,
                    object_fit="contain", interactive=True, buttons=[], elem_id=f"few-shot-pictures-{place}",
                )  # fmt: skip
                galleries.append(pictures)
    with gr.Row():
        with gr.Column():
            query = picture_file("New picture", elem_id="few-shot-query", height=260)
            count = gr.Slider(1, 21, value=5, step=1, label="Words a picture")
            add_example("Example: four classes of one picture", "few-shot-example", fill, [query, *names, *galleries])
            buttons = add_buttons("Classify", "few_shot")
        with gr.Column():
            answer = gr.Label(label="Which class it is", elem_id="few-shot-answer")
            words = gr.Textbox(label="Words of the new picture", elem_id="few-shot-words")
            with gr.Accordion("What the language model read", open=False):
                read = gr.Textbox(show_label=False, lines=8)
    connect(models.runs, buttons, "few_shot", work, STAGES, [query, count, *names, *galleries], [answer, words, read])


__all__ = ["build_few_shot_tab"]
