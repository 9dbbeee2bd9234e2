"""What the tabs are made of: inputs that give paths, and buttons that run, stop and show errors."""

import logging
import re
from collections.abc import Callable, Generator, Sequence
from functools import wraps
from typing import Any

import gradio as gr
from gradio.components import Component

from ..errors import UserError
from .stops import Runs, Stopped, stopped_by

logger = logging.getLogger(__name__)
# So many may be begun at once: the models do one at a time, and who waits for them can stop. More wait in line.
LINE, AT_ONCE = "models", 16
# Folders of this machine before a file's name, which are no visitor's business.
FOLDERS = re.compile(r"(?<![\w:/.])(?:[A-Za-z]:)?(?:[/\\][^\s/\\]+)+[/\\]")
# A tab's work: yields a line before each stage, and returns the values of the outputs.
Work = Callable[..., Generator[str, None, Sequence[Any]]]


def picture_file(label: str, **options: Any) -> gr.Image:
    """An image input that gives its handler the path of the uploaded file, or None.

    Gradio's own opens the file before the handler runs, where an unreadable or huge one cannot be told in a line.

    Args:
        label: On the page.
        **options: Of `gradio.Image`.
    """
    found = gr.Image(label=label, sources=["upload", "clipboard"], type="filepath", buttons=[], **options)
    # of the instance: the browser finds a component by the name of its class, so a subclass would not be drawn
    found.preprocess = _path_of
    return found


def painted_picture(label: str, **options: Any) -> gr.ImageEditor:
    """A picture to paint on.

    Its handler is given None or `background`, the picture's path or None, and `layers`, the paths of what was painted.

    Args:
        label: On the page.
        **options: Of `gradio.ImageEditor`.
    """

    def paths(payload: Any) -> Any:  # other than Gradio says, which opens the files
        if payload is None:
            return None
        layers = [path for path in map(_path_of, payload.layers or []) if path is not None]
        return {"background": _path_of(payload.background), "layers": layers}

    found = gr.ImageEditor(
        label=label,
        sources=["upload", "clipboard"],
        type="filepath",
        brush=gr.Brush(colors=["#ffffff"], color_mode="fixed", default_size=12),
        layers=False,
        transforms=(),
        buttons=[],
        **options,
    )
    found.preprocess = paths
    return found


def _path_of(payload: Any) -> str | None:
    if payload is None:
        return None
    if payload.path is None:  # its content came with the request, past the limit on files
        raise gr.Error("A picture has to be uploaded as a file.", print_exception=False)
    return payload.path


def as_event(work: Work, name: str, stages: int, outputs: int, runs: Runs) -> Callable[..., Any]:
    """Makes a tab's work what Gradio calls: progress while it runs, every error a message in the page.

    Args:
        work: See `Work`; a run can be stopped between its stages, and where `stop_point` is called.
        name: Of the tab.
        stages: How many lines it yields.
        outputs: How many values it returns.
        runs: Where a run can be found to stop it.
    """
    nothing_new = gr.skip() if outputs == 1 else tuple(gr.skip() for _ in range(outputs))

    # the wrapper's own arguments and their types, not the work's, are what Gradio has to see
    @wraps(work, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
    def event(
        request: gr.Request,
        *values: Any,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  (Gradio looks for it there)
    ) -> Any:
        steps, place = work(*values), 0
        try:
            with runs.running(visitor_of(request), name) as stop:
                while not stop.is_set():
                    try:
                        with stopped_by(stop):
                            stage = next(steps)
                    except StopIteration as done:
                        found = tuple(done.value)
                        yield found[0] if outputs == 1 else found
                        return
                    progress((place, stages), desc=stage, unit="stages")
                    place += 1
                    yield nothing_new
        except Stopped:
            yield nothing_new
        except UserError as error:
            message = FOLDERS.sub("", str(error))
            raise gr.Error(message, duration=None, title="This cannot be done", print_exception=False) from None
        except gr.Error:
            raise
        except Exception as error:
            # what a library says may name files of this machine
            logger.exception("A request failed")
            message = f"{type(error).__name__} while working on it; the server's log says more."
            raise gr.Error(message, duration=None, title="This went wrong", print_exception=False) from None

    del event.__wrapped__
    return event


def add_buttons(label: str, name: str) -> tuple[gr.Button, gr.Button]:
    """Adds the button that runs a tab's work, and the one that stops it; `connect` makes them do so.

    Args:
        label: Of the first.
        name: Of the tab, in their element ids.
    """
    with gr.Row():
        run = gr.Button(label, variant="primary", elem_id=f"run-{name}", scale=3)
        stop = gr.Button("Stop", variant="stop", elem_id=f"stop-{name}", scale=1)
    return run, stop


def connect(
    runs: Runs,
    buttons: tuple[gr.Button, gr.Button],
    name: str,
    work: Work,
    stages: int,
    inputs: Sequence[Component],
    outputs: Sequence[Component],
) -> None:
    """Has a tab's buttons run its work, and stop it.

    Args:
        runs: Of the page.
        buttons: Of `add_buttons`.
        name: Of the endpoint.
        work: See `Work`.
        stages: As for `as_event`.
        inputs: What the work is given.
        outputs: Where its values go.
    """
    run, stop = buttons

    async def ask(request: gr.Request) -> None:  # not in one of the threads, which may all be waiting
        runs.stop(visitor_of(request), name)

    run.click(
        as_event(work, name, stages, len(outputs), runs),
        list(inputs),
        list(outputs),
        api_name=name,
        concurrency_id=LINE,
        concurrency_limit=AT_ONCE,
        show_progress="full",
    )
    stop.click(ask, queue=False, api_visibility="private", show_progress="hidden")


def visitor_of(request: gr.Request) -> str:
    """Gradio's name for a visit; a program that asks without one cannot stop what it asked for."""
    return request.session_hash or ""


def add_example(label: str, name: str, fill: Callable[[], Any], outputs: Sequence[Component]) -> gr.Button:
    """Adds a button that fills a tab's inputs with an example.

    Args:
        label: Of the button.
        name: Its element id.
        fill: Gives the values.
        outputs: The inputs that are filled.
    """
    button = gr.Button(label, size="sm", elem_id=name)
    button.click(fill, None, list(outputs), api_visibility="private", show_progress="hidden", queue=False)
    return button


__all__ = ["Work", "add_buttons", "add_example", "as_event", "connect", "painted_picture", "picture_file", "visitor_of"]
