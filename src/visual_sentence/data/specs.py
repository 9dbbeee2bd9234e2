"""A task and its data in one line of text."""

from dataclasses import dataclass

from ..errors import UserError
from .examples import ExampleSource
from .sources import SOURCE_OPTIONS, open_examples, whole_number
from .task_base import Task
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
    """

    task: Task
    source: ExampleSource
    draws: int = 1
    text: str = ""


def parse_task_data(text: str) -> TaskData:
    """Reads a line such as "segmentation:camvid/train.parquet?foreground=3&draws=4".

    Args:
        text: The task's name, a colon, the data as `open_examples` takes it, and behind a question mark options of the
            task, of the data, and `draws`.

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
    for_source = {key: options.pop(key) for key in tuple(options) if key in SOURCE_OPTIONS}
    task = make_task(name, **options)
    source = open_examples(reference, label_columns=TASKS[name].label_columns, **for_source)
    return TaskData(task, source, draws, text)


__all__ = ["TaskData", "parse_task_data"]
