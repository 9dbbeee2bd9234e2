"""What a user asks to be measured, as the command gives it: task, data and options become `TaskData`."""

from collections.abc import Mapping, Sequence

from ..data.sources import SOURCE_OPTIONS
from ..data.specs import TaskData, parse_task_data
from ..data.tasks import TASKS
from ..errors import UserError

SEGMENTATION, PALETTE_SEGMENTATION = "segmentation", "palette_segmentation"


def parse_request(
    data: str, task: str | None = None, options: Mapping[str, str] | None = None, pairs_from: str | None = None
) -> tuple[TaskData, TaskData | None]:
    """Opens the data of the queries, and that of the pairs where it is another.

    Args:
        data: "TASK:SOURCE?option=value", or a source as `open_examples` takes it where `task` is given.
        task: The task's name. Segmentation with the option "classes" is palette segmentation.
        options: Of the task.
        pairs_from: A source for the same task with the same options, or whole as `data`.

    Raises:
        UserError: If no task is named, or two are, or the data cannot be opened.
    """
    options = dict(options or {})
    if task == SEGMENTATION and "classes" in options:
        if "foreground" in options:
            raise UserError(
                "Foreground makes one class the mask, classes gives several a colour each: choose one of the two."
            )
        task = PALETTE_SEGMENTATION
    named = _task_named(data)
    if task is None and named is None:
        raise UserError(f"{data!r} does not say which task: give --task, or write TASK:{data}.")
    if task is not None and named is not None:
        raise UserError(f"{data!r} names a task already: leave --task {task} out, or the task in --data.")
    text = _with_options(data if named else f"{task}:{data}", options)
    queries = parse_task_data(text)
    if pairs_from is None:
        return queries, None
    of_pairs = _task_named(pairs_from)
    if of_pairs is None:
        return queries, parse_task_data(_with_options(f"{queries.task.name}:{pairs_from}", _task_options(text)))
    pairs = parse_task_data(pairs_from)
    if pairs.task != queries.task:
        raise UserError(
            f"The pairs' task is {pairs_from!r}, the queries' {text!r}, so the pairs would show another task than is "
            "asked for: give the same task and options, or the data of the pairs alone."
        )
    return queries, pairs


def read_options(given: Sequence[str]) -> dict[str, str]:
    """Reads "key=value" texts.

    Raises:
        UserError: If one has another form, or a key is given twice.
    """
    found: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not key or not equals or not value or key in found:
            raise UserError(f"{text!r} is no option, or one given twice: write --task-option key=value once for each.")
        found[key] = value
    return found


def read_counts(text: str) -> tuple[int, ...]:
    """Reads numbers of pairs, "1,3,5".

    Raises:
        UserError: If it has another form.
    """
    parts = text.replace(" ", "").split(",")
    if not all(part.isdigit() for part in parts):
        raise UserError(f"{text!r} are no numbers of pairs: write them with commas, such as --pairs 1,3,5.")
    return tuple(map(int, parts))


def _task_named(text: str) -> str | None:
    name, colon, _ = text.partition(":")
    return name if colon and name in TASKS else None


def _with_options(text: str, options: Mapping[str, str]) -> str:
    if not options:
        return text
    return text + ("&" if "?" in text else "?") + "&".join(f"{key}={value}" for key, value in options.items())


def _task_options(text: str) -> dict[str, str]:
    """The options of a specification that are the task's own."""
    listed = (part.partition("=") for part in text.partition("?")[2].split("&") if part)
    return {key: value for key, _, value in listed if key not in (*SOURCE_OPTIONS, "draws")}
