"""Progress bars on standard error: shown on a terminal, silent elsewhere."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")


class Tracker:
    """A bar that is moved by hand.

    Args:
        progress: The display that holds the bar.
        task: The bar's number in the display.
    """

    def __init__(self, progress: Progress, task: int):
        self._progress, self._task = progress, task

    def advance(self, steps: int = 1) -> None:
        """Moves the bar by `steps` units of work."""
        self._progress.advance(self._task, steps)


@contextmanager
def progress_bar(description: str, total: int | None, done: int = 0) -> Iterator[Tracker]:
    """Shows a bar while the block runs; on anything but a terminal nothing is written.

    Args:
        description: What is being done, in a few words.
        total: Units of work, or None where it is not known.
        done: Units that an earlier, interrupted run has finished already.

    Yields:
        A `Tracker` whose `advance(n)` moves the bar.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        yield Tracker(progress, progress.add_task(description, total=total, completed=done))


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yields `items` unchanged and moves a bar as they are taken.

    Args:
        items: Anything that can be iterated over.
        description: What is being done, in a few words.
        total: How many items there are; taken from `len(items)` where that exists.
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)
    with progress_bar(description, total) as bar:
        for item in items:
            yield item
            bar.advance()
