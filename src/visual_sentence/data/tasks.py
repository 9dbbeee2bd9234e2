"""All tasks by name."""

from typing import Any

from ..errors import UserError
from .medical import StainBrightness
from .task_base import Pair, Task, make_from_options
from .tasks_restoration import RESTORATIONS
from .tasks_segmentation import InstanceSegmentation, PaletteSegmentation, Segmentation

TASKS: dict[str, type[Task]] = {
    kind.name: kind
    for kind in (Segmentation, PaletteSegmentation, InstanceSegmentation, *RESTORATIONS, StainBrightness)
}


def make_task(name: str, **options: Any) -> Task:
    """Builds a task.

    Args:
        name: One of `TASKS`.
        options: Of the task, as values or as text ("10-50").

    Raises:
        UserError: If there is no such task or option, or a value cannot be.
    """
    if name not in TASKS:
        raise UserError(f"There is no task {name!r}: choose one of {', '.join(TASKS)}.")
    return make_from_options(TASKS[name], options)


__all__ = ["TASKS", "Pair", "Task", "make_task"]
