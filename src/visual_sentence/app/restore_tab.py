"""Restore: a picture is damaged, and a language model that reads damaged and whole examples mends it."""

from collections.abc import Generator
from typing import Any

import gradio as gr

from ..errors import UserError
from ..metrics.image_quality import psnr
from ..reconstruction.drawing import draw_row
from ..reconstruction.evaluation import as_batch
from ..restoration import TASKS, RestorationSetting, view_of
from .controls import add_buttons, add_example, connect, picture_file
from .examples import CAT, COFFEE, MOTORCYCLE, PERSON, ROCKET, gallery, photograph
from .limits import Limits
from .models import AppModels

INTRODUCTION = (
    "The picture is damaged in one of five ways. A language model reads other pictures, damaged and whole, as local "
    "words, and writes the whole words of this one. The model at hand is small: mostly its answer is further from the "
    "original than the damaged picture, and the numbers say so."
)
STAGES = 3


def build_restore_tab(models: AppModels, limits: Limits) -> None:
    """Adds the tab."""

    def work(
        path: str | None, task: str, shown: Any, count: int, before: int, step: int
    ) -> Generator[str, None, tuple[Any, ...]]:
        picture = limits.open(path, "The picture")
        others = limits.open_all(shown, "The gallery of examples")
        if not others:
            raise UserError("There is no example, so nothing shows how a picture is mended: give one or more others.")
        setting = RestorationSetting(task, n=int(before), m=int(step), num_examples=int(count))
        yield "loading the models"
        with models.alone():
            restorer = models.restorer
        side = restorer.codec.resolution
        yield "reading and writing"
        with models.alone():
            found = restorer.restore([view_of(picture, side)], setting, [view_of(other, side) for other in others])
        yield "drawing"
        with models.alone():
            (whole,) = restorer.codec.decode(restorer.codec.encode(found.known_originals))
        panels = (
            ("original", found.known_originals[0]),
            ("damaged", found.degraded[0]),
            ("restored", found.restored[0]),
            ("all words known", whole),
        )
        original = as_batch(found.known_originals)
        near = {name: float(psnr(as_batch([one]), original)[0]) for name, one in panels[1:]}
        changed = int((found.degraded_tokens != found.restored_tokens).sum())
        told = ", ".join(f"{name} {value:.1f} dB" for name, value in near.items())
        return draw_row(panels), f"{told}. {changed} of {found.restored_tokens.numel()} words were changed."

    gr.Markdown(INTRODUCTION)
    with gr.Row():
        with gr.Column():
            picture = picture_file("Picture", elem_id="restore-picture", height=260)
            task = gr.Dropdown(list(TASKS), value=TASKS[0], label="Damage", elem_id="restore-task")
        with gr.Column():
            shown = gr.Gallery(
                label="Examples: other pictures", type="filepath", file_types=["image"], columns=3, height=200,
                interactive=True, buttons=[], elem_id="restore-examples",
            )  # fmt: skip
            count = gr.Slider(1, 10, value=10, step=1, label="Examples in a prompt")
            before = gr.Slider(4, 64, value=16, step=4, label="Words before a step that are read (n)")
            step = gr.Slider(1, 4, value=2, step=1, label="Words written at a time (m)")
    with gr.Row():
        for label, name in (("Cat", CAT), ("Coffee", COFFEE)):
            others = [other for other in (CAT, COFFEE, ROCKET, MOTORCYCLE, PERSON) if other != name]

            def fill(name: str = name, others: list[str] = others) -> list[Any]:
                return [photograph(name), gallery(others)]

            add_example(f"Example: {label.lower()}", f"restore-{label.lower()}", fill, [picture, shown])
    buttons = add_buttons("Restore", "restore")
    sheet = gr.Image(label="Original, damaged, restored; and drawn of its own words", interactive=False, buttons=[],
                     elem_id="restore-sheet", format="png")  # fmt: skip
    told = gr.Markdown(elem_id="restore-told")
    connect(models.runs, buttons, "restore", work, STAGES, [picture, task, shown, count, before, step], [sheet, told])


__all__ = ["build_restore_tab"]
