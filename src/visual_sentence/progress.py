"""Progress bars on standard error: shown on a terminal, silent elsewhere."""

from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Tracker:
    """A bar that is moved by hand.

    Args:
        progress: The display that holds the bar; None where nothing is shown.
        task: The bar's number in the display.
    """

    def __init__(self, progress: Progress | None = None, task: TaskID | None = None):
        self._progress, self._task = progress, task

    def advance(self, steps: int = 1) -> None:
        """Moves the bar by `steps` units of work."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, steps)


@contextmanager
def progress_bar(description: str, total: int | None, done: int = 0) -> Generator[Tracker, None, None]:
    """Shows a bar while the block runs; on anything but a terminal nothing is written.

    Args:
        description: What is being done, in a few words.
        total: Units of work, or None where it is not known.
        done: Units that an earlier, interrupted run has finished already.

    Yields:
        A `Tracker` whose `advance(n)` moves the bar.
    """
    console = Console(stderr=True)
    if not console.is_terminal:  # a disabled display still writes line breaks in some versions of rich
        yield Tracker()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Tracker(progress, progress.add_task(description, total=total, completed=done))
