"""`visual-sentence sentence`: a visual sentence out of a video, as a data set and as a contact sheet."""

import json
from typing import Annotated

import typer

from . import options


def sentence(
    video: options.Video,
    output: options.VideoOutput,
    frames: Annotated[int, typer.Option(min=2, help="Frames of a sentence (LVM's 16).")] = 16,
    sentences: Annotated[
        int, typer.Option(min=0, help="The most sentences, one behind the other; 0 for all that the video gives.")
    ] = 1,
    method: Annotated[str, typer.Option(help="stride (every so many frames) or shots (some of each shot).")] = "stride",
    stride: options.FrameStride = 8,
    frames_per_shot: options.FramesPerShot = 1,
    start: options.StartTime = 0.0,
    detector: options.ShotDetector = "adaptive",
    threshold: options.ShotThreshold = None,
    min_shot: options.MinShot = 0.6,
    max_side: options.MaxSide = 512,
    describe: Annotated[bool, typer.Option("--describe/--no-describe", help="Whether frames are described.")] = True,
    model: options.Model = "offline",
    examples: Annotated[
        str | None,
        typer.Option(
            help="Captioned pictures, as of `caption`: descriptions are captions in their manner; without them the "
            "nearest words.",
        ),
    ] = None,
    num_examples: options.NumExamples = 10,
    words: Annotated[
        int | None, typer.Option(min=1, help="Words per frame; by default the model's own number, for captions 21.")
    ] = None,
    llm: options.LanguageModelOption = None,
    seed: options.Seed = 0,
    as_json: options.Json = False,
    device: options.Device = None,
    dtype: options.Dtype = "auto",
) -> None:
    """Write frames of a video with times and descriptions as frames.parquet, with a contact sheet and frames.json."""
    from visual_sentence.video import KeyframeSetting, SentenceSetting, ShotSetting, VideoFile, write_sentences

    shots = ShotSetting(detector, threshold, min_shot)
    chosen = KeyframeSetting(method, stride, frames_per_shot, None, start, max_side, shots)
    setting = SentenceSetting(frames, sentences or None, chosen)
    opened = VideoFile(video)
    describer = None
    if describe:
        from visual_sentence.captioning import InContextSetting
        from visual_sentence.video import load_describer

        written = InContextSetting(words or 21, num_examples, seed=seed)
        describer = load_describer(model, examples, llm, words, written, dtype, device)
    found = write_sentences(opened, output, setting, describer)
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)
    if as_json:
        typer.echo(json.dumps({"output": str(output), **found.as_dict()}, ensure_ascii=False))
        return
    for row in found.frames:
        place = f"sentence {row['sentence']}, frame {row['index']}, {row['time']:.3f} s, shot {row['shot']}"
        typer.echo(f"{place}{': ' if row['description'] else ''}{row['description']}")
