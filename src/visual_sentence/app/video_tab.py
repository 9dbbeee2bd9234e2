"""Video: frames as a visual sentence with their words, and the frames that a SimLVM goes on with."""

from collections.abc import Generator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr

from ..errors import UserError
from ..video import KeyframeSetting, VideoFile
from ..video.keyframes import plan_keyframes, read_frames
from .controls import add_buttons, add_example, connect
from .examples import write_film
from .limits import Limits
from .models import AppModels

INTRODUCTION = (
    "Frames of a video are a visual sentence. Each is described by its nearest words; the model that completes "
    "sentences goes on with the frames that it expects next."
)
STAGES = 3
MOST_FRAMES, MOST_NEXT = 16, 4
SIDE = 384


def build_video_tab(models: AppModels, limits: Limits) -> None:
    """Adds the tab."""

    def work(path: str | None, count: int, stride: int, further: int) -> Generator[str, None, tuple[Any, ...]]:
        if path is None:
            raise UserError("There is no video: upload one, or take the example.")
        yield "reading the video"
        setting = KeyframeSetting("stride", stride=int(stride), max_frames=int(count), max_side=SIDE)
        video = VideoFile(path)
        _, indices = plan_keyframes(video, setting)
        frames = list(read_frames(video, indices, SIDE))
        yield "finding words"
        with models.alone():
            found = models.finder.find([frame.image for frame in frames], 3)
            words = [", ".join(one.words) for one in found]
        shown = [(frame.image, f"{frame.time:.2f} s: {told}") for frame, told in zip(frames, words, strict=True)]
        yield "going on"
        drawn = []
        if further:
            with models.alone():
                room = [frame.image for frame in frames]
                models.completer.check_fits(frames=room, num_images=int(further))
                (drawn,) = models.completer.go_on([room], int(further))
        told = f"{len(frames)} frames, one in {int(stride)}"
        told += f"; {len(drawn)} more drawn by the model." if drawn else "."
        return shown, [(one.image, f"next {place}") for place, one in enumerate(drawn, 1)], told

    def fill(folder: TemporaryDirectory = TemporaryDirectory(prefix="visual-sentence-")) -> str:  # noqa: B008
        film = Path(folder.name) / "film.mp4"
        if not film.exists():
            write_film(film)
        return str(film)

    gr.Markdown(INTRODUCTION)
    with gr.Row():
        with gr.Column():
            video = gr.Video(label="Video", sources=["upload"], height=300, buttons=[], elem_id="video-file")
            add_example("Example: a window that moves over a photograph", "video-example", fill, [video])
        with gr.Column():
            count = gr.Slider(2, MOST_FRAMES, value=6, step=1, label="Frames")
            stride = gr.Slider(1, 60, value=8, step=1, label="One frame in so many")
            further = gr.Slider(0, MOST_NEXT, value=1, step=1, label="Frames to go on with")
            buttons = add_buttons("Read the video", "video")
    frames = gr.Gallery(label="The sentence", columns=6, height=260, elem_id="video-frames", buttons=[])
    drawn = gr.Gallery(
        label="And what the model expects next", columns=MOST_NEXT, fit_columns=False, height=260, elem_id="video-next",
        buttons=[],
    )  # fmt: skip
    told = gr.Markdown(elem_id="video-told")
    connect(models.runs, buttons, "video", work, STAGES, [video, count, stride, further], [frames, drawn, told])


__all__ = ["build_video_tab"]
