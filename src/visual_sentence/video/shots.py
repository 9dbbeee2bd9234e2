"""Where the shots of a video begin and end, found by PySceneDetect on frames that PyAV decodes.

Knows frames and their times; which of them are taken is decided elsewhere.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UserError
from ..progress import progress_bar
from .reading import DecodingReport, VideoFile

if TYPE_CHECKING:
    from scenedetect.detector import SceneDetector

# Detectors of PySceneDetect with the thresholds that it gives them.
DETECTORS = {"adaptive": 3.0, "content": 27.0}
# Width to which PySceneDetect itself scales frames down before it compares them.
COMPARED_WIDTH = 256
MICROSECONDS = 1_000_000


@dataclass(frozen=True)
class ShotSetting:
    """How cuts are found.

    Args:
        detector: "adaptive" (the change from frame to frame, divided by that of the frames around it) or "content" (the
            change itself: hue, saturation and brightness, each in [0, 255], averaged).
        threshold: A cut is where this is reached; by default PySceneDetect's 3.0 and 27.0.
        min_shot: Seconds from one cut to the next, at least.

    Raises:
        UserError: If a value is not allowed.
    """

    detector: str = "adaptive"
    threshold: float | None = None
    min_shot: float = 0.6

    @property
    def level(self) -> float:
        """The threshold, the usual one where none is given."""
        return DETECTORS[self.detector] if self.threshold is None else self.threshold

    def __post_init__(self) -> None:
        if self.detector not in DETECTORS:
            raise UserError(f"There is no shot detector {self.detector!r}: use {' or '.join(DETECTORS)}.")
        if self.threshold is None:
            object.__setattr__(self, "threshold", DETECTORS[self.detector])
        if self.level <= 0:
            raise UserError(f"A threshold of {self.level:g} would cut at every frame: give one above 0.")
        if self.min_shot < 0:
            raise UserError(f"A shot cannot take {self.min_shot:g} s: give 0 or more.")


@dataclass(frozen=True)
class Shot:
    """What the camera took in one go.

    Args:
        number: Its place among the shots, from 0.
        first: Index of its first frame.
        stop: Index behind its last frame.
        start: Time of its first frame, in seconds.
    """

    number: int
    first: int
    stop: int
    start: float

    def spread(self, count: int) -> list[int]:
        """The indices of `count` frames evenly spread over the shot, of one frame the middle one; all if it has fewer.

        Frame j of n stands in the middle of the j-th n-th of the shot, so that none is at a cut.
        """
        length = self.stop - self.first
        count = min(count, length)
        return [self.first + (2 * place + 1) * length // (2 * count) for place in range(count)]


@dataclass(frozen=True)
class Timeline:
    """The frames of a video that were looked at, and its shots.

    Args:
        times: [N] float64, seconds, of each frame.
        shots: At least one; together they hold every frame once.
        report: What became of the stream.
    """

    times: np.ndarray
    shots: list[Shot]
    report: DecodingReport = field(default_factory=DecodingReport)

    def shot_of(self, index: int) -> int:
        """The number of the shot that a frame belongs to."""
        return bisect_right([shot.first for shot in self.shots], index) - 1


def find_shots(
    video: VideoFile, setting: ShotSetting | None = None, start: float = 0.0, span: int | None = None
) -> Timeline:
    """Finds the cuts of a video; one frame is in memory at a time.

    Args:
        video: The video.
        setting: How cuts are found.
        start: Seconds, for `span`.
        span: How many frames from the first one at or behind `start` are of interest; the video is read no further
            than they and the detector need. None for all.

    Raises:
        UserError: If PySceneDetect is not installed, or no frame decodes.
    """
    detector = _detector(setting or ShotSetting())
    spare = detector.event_buffer_length  # how far behind the newest frame a cut may be found
    report, times, cuts = DecodingReport(), [], []
    with progress_bar(f"finding shots in {video.name}", video.declared_frames if span is None else None) as bar:
        for time, found in _cuts(video, detector, report):
            times.append(time)
            cuts += found
            bar.advance()
            if span is not None and len(times) >= bisect_left(times, start) + span + spare:
                break
    return Timeline(np.array(times), _shots(times, cuts), report)


def _cuts(video: VideoFile, detector: "SceneDetector", report: DecodingReport) -> Iterator[tuple[float, list[int]]]:
    """The time of each frame, and the indices of the frames that are found, at this one, to begin a shot."""
    from scenedetect.common import FrameTimecode, Timecode

    size: tuple[int, int] | None = None
    places: dict[int, int] = {}
    begin = 0.0
    for frame in video.decode(report):
        small = frame.picture(COMPARED_WIDTH, size)
        if size is None:  # the detector compares frames of one size, and a stream may change its own
            size, begin = small.size, frame.time
        moment = max(0, round((frame.time - begin) * MICROSECONDS))
        places.setdefault(moment, frame.index)
        timecode = FrameTimecode(Timecode(moment, Fraction(1, MICROSECONDS)), video.rate)
        pixels = np.ascontiguousarray(np.asarray(small)[:, :, ::-1])  # blue first, as in OpenCV
        yield frame.time, [places[cut.pts] for cut in detector.process_frame(timecode, pixels)]


def _shots(times: list[float], cuts: list[int]) -> list[Shot]:
    firsts = sorted({0, *cuts})
    stops = [*firsts[1:], len(times)]
    return [
        Shot(number, first, stop, times[first]) for number, (first, stop) in enumerate(zip(firsts, stops, strict=True))
    ]


def _detector(setting: ShotSetting) -> "SceneDetector":
    try:
        from scenedetect.detectors import AdaptiveDetector, ContentDetector
    except ImportError as error:
        raise UserError(
            "Finding shots needs PySceneDetect, which is not installed: `pip install 'visual-sentence[video]'`."
        ) from error
    shortest = float(setting.min_shot)  # a float is seconds to it, an int frames
    if setting.detector == "adaptive":
        return AdaptiveDetector(adaptive_threshold=setting.level, min_scene_len=shortest)
    return ContentDetector(threshold=setting.level, min_scene_len=shortest)
