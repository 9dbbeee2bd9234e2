"""When a run ends before its last step: a signal, or the time is up. Either way it ends behind a finished step."""

import signal
import threading
import time
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopWatch:
    """Counts training time and listens for SIGTERM and SIGINT while it is entered.

    A second signal of the same kind does what it always does.

    Args:
        minutes: After which the time is up; None for never.
        seconds: Training time before, of the run that this one continues.
    """

    def __init__(self, minutes: float | None = None, seconds: float = 0.0):
        self.minutes, self.before = minutes, seconds
        self.received: str | None = None
        self._start = time.monotonic()
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "StopWatch":
        if threading.current_thread() is threading.main_thread():  # handlers can be set there only
            self._handlers = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    @property
    def seconds(self) -> float:
        """Training time so far, resumed parts included."""
        return self.before + time.monotonic() - self._start

    @property
    def is_time_up(self) -> bool:
        """Whether the time is up."""
        return self.minutes is not None and self.seconds >= 60 * self.minutes

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number).name
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}


__all__ = ["StopWatch"]
