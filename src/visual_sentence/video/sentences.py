"""Visual sentences out of a video: frames with times and descriptions as a Parquet file, with a contact sheet.

A sentence is a run of frames. Rows stand in the order of sentences and, in a sentence, of time.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Features, Value
from datasets import Image as ImageFeature
from pyarrow.parquet import ParquetWriter

from ..captioning.drawing import NOTHING
from ..errors import UserError
from .contact_sheet import ContactSheet
from .description import Describer, NoDescriber
from .keyframes import (
    RECORD,
    SHEET,
    KeyframeSetting,
    encoded,
    moment_of,
    plan_keyframes,
    read_frames,
    shots_of,
    title_of,
)
from .output import check_output, new_folder
from .reading import VideoFile, VideoFrame
from .shots import Timeline

TABLE = "frames.parquet"
FEATURES = Features(
    {
        "image": ImageFeature(),
        "time": Value("float64"),
        "shot": Value("int64"),
        "description": Value("string"),
        "video": Value("string"),
        "description_kind": Value("string"),
        "sentence": Value("int64"),
        "index": Value("int64"),
    }
)
SUFFIX = "jpg"
LEAST_FRAMES = 2


@dataclass(frozen=True)
class SentenceSetting:
    """How sentences are taken out of a video.

    Args:
        frames: Frames of a sentence. LVM's is 16.
        sentences: The most sentences, one behind the other; None for all that the video gives.
        keyframes: Which frames; its `max_frames` is set by the two above. LVM's are every 8th.

    Raises:
        UserError: If a value is not allowed.
    """

    frames: int = 16
    sentences: int | None = 1
    keyframes: KeyframeSetting = field(default_factory=lambda: KeyframeSetting("stride", max_side=512))

    def __post_init__(self) -> None:
        if self.frames < LEAST_FRAMES:
            raise UserError(f"A sentence of {self.frames} frames foretells nothing: ask for {LEAST_FRAMES} or more.")
        if self.sentences is not None and self.sentences < 1:
            raise UserError(f"sentences must be 1 or more, got {self.sentences}.")
        most = None if self.sentences is None else self.frames * self.sentences
        object.__setattr__(self, "keyframes", replace(self.keyframes, max_frames=most))

    def as_dict(self) -> dict[str, Any]:
        """The setting as it is printed."""
        chosen = {name: value for name, value in self.keyframes.as_dict().items() if name != "max_frames"}
        return {"frames": self.frames, "sentences": self.sentences, **chosen}

    def divide(self, indices: Sequence[int]) -> list[list[int]]:
        """Frames as sentences: whole ones, or a single shorter one where there is no whole one."""
        whole = len(indices) // self.frames
        if whole == 0:
            return [list(indices)]
        return [list(indices[place * self.frames : (place + 1) * self.frames]) for place in range(whole)]


@dataclass(frozen=True)
class WrittenSentences:
    """What `write_sentences` did.

    Args:
        video: Name of the video.
        setting: How.
        description_kind: "words", "caption" or "none".
        frames: One record a row of the table, without its picture.
        shots: As `Keyframes.shots`.
        notes: One line for each thing that is not as it was asked for, or wrong with the stream.
    """

    video: str
    setting: SentenceSetting
    description_kind: str
    frames: list[dict[str, Any]]
    shots: list[dict[str, Any]]
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """All of it, as it is printed."""
        return {**asdict(self), "setting": self.setting.as_dict()}


def write_sentences(
    video: VideoFile,
    output: str | Path,
    setting: SentenceSetting | None = None,
    describer: Describer | None = None,
) -> WrittenSentences:
    """Writes `frames.parquet`, a contact sheet and `frames.json`.

    One sentence is in memory at a time; it is a row group of the table, whose pictures are JPEGs.

    Args:
        video: The video.
        output: A folder that does not exist yet, or is empty.
        setting: Which frames, and how many make a sentence.
        describer: Describes them; None to leave descriptions empty.

    Raises:
        UserError: If the video gives fewer than two frames, or the folder holds something or cannot be written.
    """
    setting, describer = setting or SentenceSetting(), describer or NoDescriber()
    folder = check_output(output)
    timeline, indices = plan_keyframes(video, setting.keyframes)
    if len(indices) < LEAST_FRAMES:
        raise UserError(_too_few(video, setting, timeline))
    sentences = setting.divide(indices)
    notes = video.problems(timeline.report) + _missing(video, setting, indices, sentences)
    count = sum(map(len, sentences))
    sheet = ContactSheet(count, f"{title_of(video, setting.keyframes, count)}{_told(describer.kind)}")
    frames = read_frames(video, [index for sentence in sentences for index in sentence], setting.keyframes.max_side)
    records: list[dict[str, Any]] = []
    with new_folder(folder) as aside:
        with ParquetWriter(aside / TABLE, FEATURES.arrow_schema) as table:
            for number, sentence in enumerate(sentences):
                rows = list(_rows(video, number, list(islice(frames, len(sentence))), timeline, describer, sheet))
                table.write_table(pa.Table.from_pylist(rows, schema=FEATURES.arrow_schema))
                records += [{name: value for name, value in row.items() if name != "image"} for row in rows]
        sheet.draw().save(aside / SHEET)
        written = WrittenSentences(video.name, setting, describer.kind, records, shots_of(timeline), notes)
        (aside / RECORD).write_text(json.dumps(written.as_dict(), indent=2, ensure_ascii=False), encoding="utf-8")
    return written


def _rows(
    video: VideoFile,
    sentence: int,
    frames: list[VideoFrame],
    timeline: Timeline,
    describer: Describer,
    sheet: ContactSheet,
) -> Iterator[dict[str, Any]]:
    """The rows of one sentence."""
    descriptions = describer.describe([frame.image for frame in frames])
    for frame, description in zip(frames, descriptions, strict=True):
        shot = timeline.shot_of(frame.index)
        told = description or ("" if describer.kind == NoDescriber.kind else NOTHING)
        sheet.add(frame.image, moment_of(frame.time, shot), told)
        yield {
            "image": {"bytes": encoded(frame.image, SUFFIX), "path": f"{video.path.stem}-{frame.index:06d}.{SUFFIX}"},
            "time": frame.time,
            "shot": shot,
            "description": description,
            "video": video.name,
            "description_kind": describer.kind,
            "sentence": sentence,
            "index": frame.index,
        }


def _told(kind: str) -> str:
    return {"words": ", with the nearest words", "caption": ", with captions"}.get(kind, "")


def _missing(
    video: VideoFile, setting: SentenceSetting, indices: Sequence[int], sentences: Sequence[Sequence[int]]
) -> list[str]:
    """What was asked for and is not there."""
    left = len(indices) - sum(map(len, sentences))
    notes = []
    if len(sentences[0]) < setting.frames:
        notes.append(f"{video.name} gives {len(sentences[0])} of the {setting.frames} frames of a sentence.")
    elif setting.sentences is not None and len(sentences) < setting.sentences:
        notes.append(f"{video.name} gives {len(sentences)} of the {setting.sentences} sentences.")
    if left:
        notes.append(f"The last {left} frames of {video.name} do not fill a sentence and are left out.")
    return notes


def _too_few(video: VideoFile, setting: SentenceSetting, timeline: Timeline) -> str:
    if setting.keyframes.method == "shots":
        shots = len(timeline.shots)
        return (
            f"{video.name} gives one frame only ({shots} shot{'s' if shots > 1 else ''}), and a sentence needs "
            f"{LEAST_FRAMES}: take more frames of each shot, or every n-th frame (method stride)."
        )
    return (
        f"{video.name} gives one frame only (it has {len(timeline.times)}, one in {setting.keyframes.stride} is "
        f"taken), and a sentence needs {LEAST_FRAMES}: take a smaller stride."
    )
