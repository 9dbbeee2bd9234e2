"""Caption and ask: sentences about a picture, and answers to a question, in the manner of examples."""

from collections.abc import Generator
from typing import Any

import gradio as gr

from ..captioning import InContextSetting, answer, caption
from ..errors import UserError
from .controls import add_buttons, add_example, connect, picture_file
from .examples import CAT, COFFEE, MOTORCYCLE, PERSON, ROCKET, photograph
from .limits import Limits, check_text
from .models import AppModels

INTRODUCTION = (
    "Show a few pictures with their captions, or with answers to your question. The language model reads their words "
    "and writes about the new picture in the same manner. A small one often copies an example, and it is said when "
    "it did."
)
SLOTS = 4
STAGES = 2
CAPTION, ASK = "Caption", "Ask a question"
CAPTIONS = {
    CAT: "a cat looks into the camera",
    COFFEE: "a cup of coffee stands on a saucer",
    ROCKET: "a rocket is launched into the sky",
    MOTORCYCLE: "a motorcycle is parked in a garage",
}
QUESTION = "Is it an animal?"
ANSWERS = {CAT: "yes", COFFEE: "no", ROCKET: "no", MOTORCYCLE: "no"}


def build_caption_tab(models: AppModels, limits: Limits) -> None:
    """Adds the tab."""

    def work(kind: str, question: str, query: str | None, *slots: Any) -> Generator[str, None, tuple[Any, ...]]:
        asks = kind == ASK
        asked = check_text(question, "The question") if asks else ""
        what = "answer" if asks else "caption"
        examples: list[tuple] = []
        for place, (path, text) in enumerate(zip(slots[:SLOTS], slots[SLOTS:], strict=True), 1):
            if path is None and not (text or "").strip():
                continue
            line = check_text(text, f"The {what} of example {place}")
            picture = limits.open(path, f"The picture of example {place}")
            examples.append((picture, asked, line) if asks else (picture, line))
        if not examples:
            raise UserError(f"There is no example, so nothing shows what is asked for: give a picture and its {what}.")
        picture = limits.open(query, "The new picture")
        yield "loading the models"
        with models.alone():
            finder, reader = models.finder, models.reader
        yield "reading and writing"
        setting = InContextSetting()
        with models.alone():
            if asks:
                (written,) = answer(picture, asked, examples, finder, reader, setting)
                return written.answer or "(nothing was written)", ", ".join(written.words)
            (sentence,) = caption(picture, examples, finder, reader, setting)
        copied = "   (a copy of an example)" if sentence.copied else ""
        return f"{sentence.text or '(nothing was written)'}{copied}", ", ".join(sentence.words)

    def fill_captions() -> list[Any]:
        return [CAPTION, "", photograph(PERSON), *map(photograph, CAPTIONS), *CAPTIONS.values()]

    def fill_answers() -> list[Any]:
        return [ASK, QUESTION, photograph(PERSON), *map(photograph, ANSWERS), *ANSWERS.values()]

    gr.Markdown(INTRODUCTION)
    pictures, texts = [], []
    with gr.Row():
        for place in range(1, SLOTS + 1):
            with gr.Column(min_width=180):
                pictures.append(picture_file(f"Example {place}", height=190, elem_id=f"caption-picture-{place}"))
                texts.append(gr.Textbox(label="Caption or answer", elem_id=f"caption-text-{place}", max_lines=2))
    with gr.Row():
        with gr.Column():
            kind = gr.Radio([CAPTION, ASK], value=CAPTION, label="What is wanted")
            question = gr.Textbox(label="Question about each picture", elem_id="caption-question", max_lines=1)
            query = picture_file("New picture", elem_id="caption-query", height=260)
            with gr.Row():
                inputs = [kind, question, query, *pictures, *texts]
                add_example("Example: captions", "caption-example", fill_captions, inputs)
                add_example("Example: a question", "ask-example", fill_answers, inputs)
            buttons = add_buttons("Write", "caption")
        with gr.Column():
            written = gr.Textbox(label="Written by the language model", elem_id="caption-written", lines=2)
            words = gr.Textbox(label="Words of the new picture", elem_id="caption-words")
    connect(models.runs, buttons, "caption", work, STAGES, inputs, [written, words])


__all__ = ["build_caption_tab"]
