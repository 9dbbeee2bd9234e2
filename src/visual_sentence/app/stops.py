"""Stop: a visitor's work ends before a language model's next step, and leaves the models as they were.

Gradio's own `cancels` lets a stage go on to its end, and the page may show an error where the stopped one answers last.
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Event
from typing import TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)
# Of the visitor whose work this thread is doing.
_asked: ContextVar[Event | None] = ContextVar("asked", default=None)


class Stopped(Exception):  # noqa: N818  (no error: somebody asked for it)
    """The visitor whose work this is has asked for it to stop."""


class Runs:
    """The work that is going on, by visitor and tab; one at a time for each, as the page's button waits for it."""

    def __init__(self) -> None:
        self._events: dict[tuple[str, str], Event] = {}

    @contextmanager
    def running(self, visitor: str, tab: str) -> Generator[Event, None, None]:
        """Keeps a visitor's work here while it is going on.

        Args:
            visitor: Gradio's name for the visit.
            tab: Name of the tab.

        Returns:
            What is set once the visitor asks for a stop.
        """
        event = self._events[visitor, tab] = Event()
        try:
            yield event
        finally:
            if self._events.get((visitor, tab)) is event:
                del self._events[visitor, tab]

    def stop(self, visitor: str, tab: str | None = None) -> None:
        """Asks a visitor's work to stop, where there is any.

        Args:
            visitor: As for `running`.
            tab: As for `running`; every one by default.
        """
        for (whose, which), event in list(self._events.items()):
            if whose == visitor and tab in (None, which):
                event.set()


@contextmanager
def stopped_by(event: Event) -> Generator[None, None, None]:
    """What is done inside, by this thread, stops once the event is set."""
    token = _asked.set(event)
    try:
        yield
    finally:
        _asked.reset(token)


def stop_point(*_: object) -> None:
    """A place where work may stop.

    Raises:
        Stopped: If it was asked to.
    """
    event = _asked.get()
    if event is not None and event.is_set():
        raise Stopped


def stoppable(model: Module) -> Module:
    """Makes each call of a model a place where work may stop; gives the model."""
    model.register_forward_pre_hook(stop_point)
    return model


__all__ = ["Runs", "Stopped", "stop_point", "stoppable", "stopped_by"]
