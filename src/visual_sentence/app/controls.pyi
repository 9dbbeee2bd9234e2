"""What the tabs are made of: inputs that give paths, and buttons that run, stop and show errors."""

import logging
from collections.abc import Callable, Generator, Sequence
from functools import wraps
from typing import Any

import gradio as gr
from gradio.components import Component

from ..errors import UserError

logger = logging.getLogger(__name__)
# All work waits in one line, as all of it uses the same models.
LINE = "models"
# A tab's work: yields a line before each stage, and returns the values of the outputs.
Work = Callable[..., Generator[str, None, Sequence[Any]]]

class PictureFile(gr.Image):
    """An image input that gives its handler the uploaded file's path.

    Gradio's own opens the file before the handler runs, where an unreadable or huge one cannot be told in a line.
    """

    is_template = True  # for the browser it is an image

    def __init__(self, label: str, **options: Any):
        super().__init__(label=label, sources=["upload", "clipboard"], type="filepath", buttons=[], **options)

    def preprocess(self, payload: Any) -> str | None:
        """The file's path."""
        return _path_of(payload)
    from collections.abc import Callable, Sequence
    from typing import TYPE_CHECKING, Any, Literal

    from gradio.blocks import Block

    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component

class PaintedPicture(gr.ImageEditor):
    """A picture to paint on, which gives its handler the paths of the picture and of what was painted."""

    is_template = True

    def __init__(self, label: str, **options: Any):
        brush = gr.Brush(colors=["#ffffff"], color_mode="fixed", default_size=12)
        super().__init__(
            label=label,
            sources=["upload", "clipboard"],
            type="filepath",
            brush=brush,
            layers=False,
            transforms=(),
            buttons=[],
            **options,
        )

    def preprocess(self, payload: Any) -> dict[str, Any] | None:
        """`background`, the picture's path or None, and `layers`, the paths of what was painted."""
        if payload is None:
            return None
        layers = [path for path in map(_path_of, payload.layers or []) if path is not None]
        return {"background": _path_of(payload.background), "layers": layers}
    from collections.abc import Callable, Sequence
    from typing import TYPE_CHECKING, Any, Literal

    from gradio.blocks import Block

    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component

def _path_of(payload: Any) -> str | None:
    if payload is None:
        return None
    if payload.path is None:  # its content came with the request, past the limit on files
        raise gr.Error("A picture has to be uploaded as a file.", print_exception=False)
    return payload.path

def as_event(work: Work, stages: int, outputs: int) -> Callable[..., Any]:
    """Makes a tab's work what Gradio calls: progress while it runs, every error a message in the page.

    Args:
        work: See `Work`; between its stages a run can be stopped.
        stages: How many lines it yields.
        outputs: How many values it returns.
    """

    @wraps(work)
    def event(*values: Any, progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008  (Gradio looks for it there)
        steps, place = work(*values), 0
        try:
            while True:
                try:
                    stage = next(steps)
                except StopIteration as done:
                    found = tuple(done.value)
                    yield found[0] if outputs == 1 else found
                    return
                progress((place, stages), desc=stage, unit="stages")
                place += 1
                yield gr.skip() if outputs == 1 else tuple(gr.skip() for _ in range(outputs))
        except UserError as error:
            raise gr.Error(str(error), duration=None, title="This cannot be done", print_exception=False) from None
        except gr.Error:
            raise
        except Exception as error:
            # what a library says may name files of this machine
            logger.exception("A request failed")
            message = f"{type(error).__name__} while working on it; the server's log says more."
            raise gr.Error(message, duration=None, title="This went wrong", print_exception=False) from None

    # the wrapper's own arguments, not the work's, are what Gradio has to see
    del event.__wrapped__
    return event

def add_run(
    label: str, name: str, work: Work, stages: int, inputs: Sequence[Component], outputs: Sequence[Component]
) -> gr.Button:
    """Adds a button that runs a tab's work, and one that stops it.

    Args:
        label: Of the button.
        name: Of the endpoint, and of the buttons' element ids.
        work: See `Work`.
        stages: As for `as_event`.
        inputs: What the work is given.
        outputs: Where its values go.
    """
    with gr.Row():
        run = gr.Button(label, variant="primary", elem_id=f"run-{name}", scale=3)
        stop = gr.Button("Stop", variant="stop", elem_id=f"stop-{name}", scale=1)
    event = run.click(
        as_event(work, stages, len(outputs)),
        list(inputs),
        list(outputs),
        api_name=name,
        concurrency_id=LINE,
        concurrency_limit=1,
        show_progress="full",
    )
    stop.click(None, cancels=[event], queue=False, api_visibility="private")
    return run

def add_example(
    label: str, name: str, fill: Callable[[], Any], outputs: Sequence[Component], size: str = "sm"
) -> gr.Button:
    """Adds a button that fills a tab's inputs with an example.

    Args:
        label: Of the button.
        name: Its element id.
        fill: Gives the values.
        outputs: The inputs that are filled.
        size: Gradio's.
    """
    button = gr.Button(label, size=size, elem_id=name)
    button.click(fill, None, list(outputs), api_visibility="private", show_progress="hidden", queue=False)
    return button

__all__ = ["PaintedPicture", "PictureFile", "Work", "add_example", "add_run", "as_event"]
