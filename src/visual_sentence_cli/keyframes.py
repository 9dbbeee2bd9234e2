"""`visual-sentence keyframes`: frames of a video, chosen by shots or at equal distances."""

import json
from pathlib import Path
from typing import Annotated

import typer

from . import options


def keyframes(
    video: options.Video,
    output: options.VideoOutput,
    method: Annotated[str, typer.Option(help="shots (some of each shot) or stride (every so many frames).")] = "shots",
    stride: options.FrameStride = 8,
    frames_per_shot: options.FramesPerShot = 1,
    max_frames: Annotated[int | None, typer.Option(min=1, help="The most frames; all by default.")] = None,
    start: options.StartTime = 0.0,
    detector: options.ShotDetector = "adaptive",
    threshold: options.ShotThreshold = None,
    min_shot: options.MinShot = 0.6,
    max_side: options.MaxSide = 1024,
    picture_format: Annotated[str, typer.Option("--format", help="Of the frames: jpg or png.")] = "jpg",
    as_json: options.Json = False,
) -> None:
    """Write key frames of a video, a contact sheet, and frames.json with their numbers, times and shots."""
    from visual_sentence.video import KeyframeSetting, ShotSetting, VideoFile, write_keyframes

    shots = ShotSetting(detector, threshold, min_shot)
    setting = KeyframeSetting(method, stride, frames_per_shot, max_frames, start, max_side, shots)
    found = write_keyframes(VideoFile(video), output, setting, picture_format)
    for problem in found.problems:
        typer.echo(f"note: {problem}", err=True)
    if as_json:
        typer.echo(json.dumps({"output": str(output), **found.as_dict()}, ensure_ascii=False))
        return
    for frame in found.frames:
        typer.echo(f"{Path(output) / frame.file}: frame {frame.index}, {frame.time:.3f} s, shot {frame.shot}")
