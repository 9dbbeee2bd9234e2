"""Key frames of a video: which ones, and as picture files with a record and a contact sheet.

The video is decoded twice, once to find its shots and once to take the frames, so that no more than one frame is in
memory at a time.
"""

import json
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import UserError
from ..progress import progress_bar
from .contact_sheet import ContactSheet
from .output import check_output, new_folder
from .reading import VideoFile, VideoFrame, starts_too_late
from .shots import ShotSetting, Timeline, find_shots

METHODS = ("shots", "stride")
# Suffix of a picture file -> PIL's name of the format and how it is written.
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {"jpg": ("jpeg", {"quality": 95}), "png": ("png", {})}
RECORD, SHEET = "frames.json", "contact-sheet.png"
LEAST_SIDE = 16


@dataclass(frozen=True)
class KeyframeSetting:
    """Which frames of a video are taken, and how large.

    Args:
        method: "shots" (some of each shot) or "stride" (every so many frames).
        stride: Of "stride": from one frame to the next, in frames of the video. LVM's is 8.
        frames_per_shot: Of "shots": evenly spread over each; of one, the middle.
        max_frames: The most frames, from `start` on; None for all.
        start: Seconds; only frames at or behind it are taken.
        max_side: Pixels of a picture's longer side, if it is longer; None to leave it.
        shots: How cuts are found.

    Raises:
        UserError: If a value is not allowed.
    """

    method: str = "shots"
    stride: int = 8
    frames_per_shot: int = 1
    max_frames: int | None = None
    start: float = 0.0
    max_side: int | None = 1024
    shots: ShotSetting = field(default_factory=ShotSetting)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UserError(f"There is no way {self.method!r} to choose frames: use {' or '.join(METHODS)}.")
        for name in ("stride", "frames_per_shot", "max_frames"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise UserError(f"{name} must be 1 or more, got {number}.")
        if self.max_side is not None and self.max_side < LEAST_SIDE:
            raise UserError(f"max_side must be {LEAST_SIDE} pixels or more, got {self.max_side}.")
        if self.start < 0:
            raise UserError(f"start must be 0 s or later, got {self.start:g}.")

    def as_dict(self) -> dict[str, Any]:
        """The setting as it is printed, without what the method does not use."""
        unused = ("frames_per_shot",) if self.method == "stride" else ("stride",)
        return {name: value for name, value in asdict(self).items() if name not in unused}

    def find_shots(self, video: VideoFile) -> Timeline:
        """The shots of the part of a video that frames may come from.

        Raises:
            UserError: If no frame decodes.
        """
        if self.method == "shots" or self.max_frames is None:
            return find_shots(video, self.shots)
        return find_shots(video, self.shots, self.start, (self.max_frames - 1) * self.stride + 1)

    def choose(self, timeline: Timeline) -> list[int]:
        """The indices of the frames, in ascending order; none where the video ends before `start`.

        Args:
            timeline: Of `find_shots`.
        """
        first = bisect_left(timeline.times, self.start)
        if self.method == "stride":
            return list(range(first, len(timeline.times), self.stride))[: self.max_frames]
        spread = [index for shot in timeline.shots for index in shot.spread(self.frames_per_shot)]
        return [index for index in spread if index >= first][: self.max_frames]


@dataclass(frozen=True)
class Keyframe:
    """A frame that was taken.

    Args:
        file: Name of its picture in the folder.
        index: Its number among the video's frames, from 0.
        time: In seconds.
        shot: Number of its shot, from 0.
    """

    file: str
    index: int
    time: float
    shot: int


@dataclass(frozen=True)
class Keyframes:
    """What `write_keyframes` did.

    Args:
        video: Name of the video.
        setting: Which frames were taken.
        frames: They.
        shots: One record a shot of the part that was read: number, first frame, time in seconds, number of frames.
        problems: One line for what is wrong with the stream.
    """

    video: str
    setting: KeyframeSetting
    frames: list[Keyframe]
    shots: list[dict[str, Any]]
    problems: list[str]

    def as_dict(self) -> dict[str, Any]:
        """All of it, as it is printed."""
        return {**asdict(self), "setting": self.setting.as_dict()}


def plan_keyframes(video: VideoFile, setting: KeyframeSetting) -> tuple[Timeline, list[int]]:
    """Reads a video once and chooses its frames.

    Returns:
        The timeline, and the indices of the frames, at least one.

    Raises:
        UserError: If no frame decodes, or none is at or behind the setting's start.
    """
    timeline = setting.find_shots(video)
    indices = setting.choose(timeline)
    if not indices:
        raise starts_too_late(video, setting.start, float(timeline.times[-1]))
    return timeline, indices


def write_keyframes(
    video: VideoFile, output: str | Path, setting: KeyframeSetting | None = None, suffix: str = "jpg"
) -> Keyframes:
    """Writes frames as picture files, a contact sheet and `frames.json`.

    Args:
        video: The video.
        output: A folder that does not exist yet, or is empty.
        setting: Which frames.
        suffix: One of `FORMATS`.

    Raises:
        UserError: As `plan_keyframes`, or if the folder holds something or cannot be written.
    """
    setting = setting or KeyframeSetting()
    if suffix not in FORMATS:
        raise UserError(f"Frames are not written as {suffix!r}: use {' or '.join(FORMATS)}.")
    folder = check_output(output)
    timeline, indices = plan_keyframes(video, setting)
    digits = max(6, len(str(indices[-1])))
    sheet = ContactSheet(len(indices), title_of(video, setting, len(indices)))
    taken: list[Keyframe] = []
    with new_folder(folder) as aside:
        for frame in read_frames(video, indices, setting.max_side):
            name = f"frame-{frame.index:0{digits}d}.{suffix}"
            (aside / name).write_bytes(encoded(frame.image, suffix))
            taken.append(Keyframe(name, frame.index, frame.time, timeline.shot_of(frame.index)))
            sheet.add(frame.image, moment_of(frame.time, taken[-1].shot))
        sheet.draw().save(aside / SHEET)
        found = Keyframes(video.name, setting, taken, shots_of(timeline), video.problems(timeline.report))
        (aside / RECORD).write_text(json.dumps(found.as_dict(), indent=2), encoding="utf-8")
    return found


def read_frames(video: VideoFile, indices: list[int], max_side: int | None) -> Iterator[VideoFrame]:
    """Some frames of a video, one at a time, with a progress bar."""
    with progress_bar(f"taking frames of {video.name}", len(indices)) as bar:
        for frame in video.frames(indices, max_side):
            yield frame
            bar.advance()


def shots_of(timeline: Timeline) -> list[dict[str, Any]]:
    """The shots as they are printed."""
    return [
        {"shot": shot.number, "first": shot.first, "time": shot.start, "frames": shot.stop - shot.first}
        for shot in timeline.shots
    ]


def title_of(video: VideoFile, setting: KeyframeSetting, count: int) -> str:
    """What stands above a contact sheet."""
    if setting.method == "stride":
        how = f"one in {setting.stride}"
    else:
        how = "the middle of each shot" if setting.frames_per_shot == 1 else f"{setting.frames_per_shot} of each shot"
    return f"{video.name}: {count} frames, {how}"


def moment_of(time: float, shot: int) -> str:
    """When a frame is shown, and in which shot."""
    minutes, hundredths = divmod(round(time * 100), 6000)
    return f"{minutes}:{hundredths / 100:05.2f}, shot {shot}"


def encoded(image: Image.Image, suffix: str) -> bytes:
    """A picture as the content of a file of that suffix."""
    kind, options = FORMATS[suffix]
    content = BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()
