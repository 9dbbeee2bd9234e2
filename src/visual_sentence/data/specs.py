"""A task and its data in one line of text."""

from dataclasses import dataclass

from ..errors import UserError
from .augmentation import Light
from .examples import ExampleSource
from .sources import SOURCE_OPTIONS, open_examples, whole_number
from .task_base import Task, number_range
from .tasks import TASKS, make_task

FORM = "TASK:DATA?option=value&option=value"


@dataclass(frozen=True)
class TaskData:
    """A task and the examples it is made of.

    Args:
        task: The task.
        source: The examples.
        draws: How often each example is drawn in one pass, with new chance each time.
        text: What the user wrote.
        light: The light that examples are seen in when they are drawn for training; None for their own.
    """

    task: Task
    source: ExampleSource
    draws: int = 1
    text: str = ""
    light: Light | None = None


def parse_task_data(text: str) -> TaskData:
    """Reads a line such as "segmentation:camvid/train.parquet?foreground=3&draws=4".

    Args:
        text: The task's name, a colon, the data as `open_examples` takes it, and behind a question mark options of the
            task, of the data, `draws`, and `gamma` and `tint` of a `Light`.

    Raises:
        UserError: If it has another form, names no known task or option, or the data cannot be opened.
    """
    name, colon, rest = text.partition(":")
    reference, _, listed = rest.partition("?")
    if not colon or not reference:
        raise UserError(f"{text!r} does not say which data: write {FORM}, such as denoising:shapes?sigma=25.")
    options: dict[str, str] = {}
    for part in filter(None, listed.split("&")):
        key, equals, value = part.partition("=")
        if not equals or not value or key in options:
            raise UserError(f"{text!r}: {part!r} is no option, or one given twice: write {FORM}.")
        options[key] = value
    draws = whole_number("draws", options.pop("draws", 1))
    if draws == 0:
        raise UserError(f"{text!r}: with draws=0 nothing is drawn: give 1 or more.")
    light = _light(options.pop("gamma", None), options.pop("tint", None))
    for_source = {key: options.pop(key) for key in tuple(options) if key in SOURCE_OPTIONS}
    task = make_task(name, **options)
    source = open_examples(reference, label_columns=TASKS[name].label_columns, **for_source)
    return TaskData(task, source, draws, text, light)


def _light(gamma: str | None, tint: str | None) -> Light | None:
    """The light of two options; None where neither is given."""
    if gamma is None and tint is None:
        return None
    powers = (1.0, 1.0) if gamma is None else number_range(0.05, 20)("gamma", gamma)
    return Light(powers, 0.0 if tint is None else number_range(0, 3)("tint", tint)[1])


__all__ = ["TaskData", "parse_task_data"]
