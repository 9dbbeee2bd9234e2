"""Videos as upright frames with their times, one at a time, scaled while they are decoded.

Decoding is PyAV's, that is FFmpeg's libraries'. Of a damaged stream there is what decodes, and a line that says how
much. Knows nothing of shots.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..errors import UserError
from .opening import open_video, pyav

if TYPE_CHECKING:
    from av import VideoFrame as DecodedFrame
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

# What FFmpeg assumes of a stream that names no rate.
DEFAULT_RATE = Fraction(25)
# Signs of the 2 x 2 part (a, b, c, d) of a display matrix, which takes (x, y) to (a x + c y, b x + d y), y downwards.
UPRIGHT = {
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}
SIDES_SWAPPED = tuple(turn for (a, *_), turn in UPRIGHT.items() if a == 0)
# The same by PyAV's angle, for frames whose other side data PyAV does not know and therefore refuses to list.
BY_ANGLE = {
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}


@dataclass
class DecodingReport:
    """What became of a stream; filled while it is read.

    Args:
        kept: Frames that were decoded.
        damaged: Frames that the decoder marked as damaged, which are left out.
        failed: Packets that could not be read or decoded.
        end: Time of the last frame, in seconds.
        complete: Whether the stream was read to its end.
    """

    kept: int = 0
    damaged: int = 0
    failed: int = 0
    end: float = 0.0
    complete: bool = False


@dataclass(frozen=True)
class RawFrame:
    """A frame as it was decoded, before it is scaled and turned.

    Args:
        index: Its number among the frames that decode, in the order in which they are shown; the first is 0.
        time: Seconds since the file begins to play.
        decoded: PyAV's frame.
        aspect: Width of a pixel divided by its height.
        turn: What brings it upright.
    """

    index: int
    time: float
    decoded: "DecodedFrame"
    aspect: Fraction = Fraction(1)
    turn: Image.Transpose | None = None

    def picture(self, max_side: int | None = None, size: tuple[int, int] | None = None) -> Image.Image:
        """The frame as a picture: RGB, upright, of square pixels, transparency on white.

        Args:
            max_side: The longer side is scaled down to so many pixels, if it is longer.
            size: (width, height) in pixels of the picture whatever the frame's; None to keep its proportions.
        """
        if size is None:
            width, height = self.decoded.width, self.decoded.height
            wide = max(1, round(width * self.aspect))
            scale = min(1.0, max_side / max(wide, height)) if max_side else 1.0
            width, height = max(1, round(wide * scale)), max(1, round(height * scale))
        else:
            width, height = size[::-1] if self.turn in SIDES_SWAPPED else size
        clear = any(component.is_alpha for component in self.decoded.format.components)
        layers = "rgba" if clear or self.decoded.format.name == "pal8" else "rgb24"
        # scaled by FFmpeg, so that a large frame is never there as a picture
        picture = self.decoded.reformat(width, height, format=layers, interpolation="BICUBIC").to_image()
        if picture.mode == "RGBA":
            ground = Image.new("RGB", picture.size, "white")
            ground.paste(picture, mask=picture.getchannel("A"))
            picture = ground
        return picture if self.turn is None else picture.transpose(self.turn)


@dataclass(frozen=True)
class VideoFrame:
    """A frame of a video.

    Args:
        index: As `RawFrame.index`.
        time: Seconds since the file begins to play.
        image: RGB, upright.
    """

    index: int
    time: float
    image: Image.Image


class VideoFile:
    """A video that can be read several times from its beginning.

    Args:
        path: A file of any format that FFmpeg decodes, animated GIFs among them.

    Raises:
        UserError: If there is no such file, or it is a folder, empty, a picture, text, sound only, cut off before its
            index, too large, or of no known format.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser()
        self.name = self.path.name
        with open_video(self.path) as (container, stream):
            self.declared_frames = stream.frames or None
            self.duration = None if container.duration is None else container.duration / 1_000_000
            self.rate = Fraction(stream.average_rate or stream.base_rate or DEFAULT_RATE)

    def decode(self, report: DecodingReport | None = None) -> Iterator[RawFrame]:
        """Decodes the frames in the order in which they are shown, one at a time.

        Times are those of the stream (presentation timestamp x time base), not index / rate; a frame without one comes
        one frame's duration behind the frame before it.

        Args:
            report: Filled while the stream is read.

        Raises:
            UserError: If not one frame decodes.
        """
        report = DecodingReport() if report is None else report
        error_class = pyav().error.FFmpegError
        with open_video(self.path) as (container, stream):
            origin = None if container.start_time is None else Fraction(container.start_time, 1_000_000)
            aspect = Fraction(stream.codec_context.sample_aspect_ratio or stream.sample_aspect_ratio or 1)
            aspect = aspect if aspect > 0 else Fraction(1)
            time, angle, turn = -1 / self.rate, None, None
            for packet in _packets(container, stream, report):
                try:
                    frames = stream.decode(packet)
                except error_class:
                    report.failed += 1
                    continue
                for frame in frames:
                    if frame.is_corrupt:
                        report.damaged += 1
                        continue
                    if frame.pts is None or frame.time_base is None:
                        time += 1 / self.rate
                    else:
                        stamp = frame.pts * Fraction(frame.time_base)
                        origin = stamp if origin is None else origin
                        time = stamp - origin
                    if frame.rotation != angle:  # asked no oftener: PyAV's list of side data keeps its frame alive
                        angle, turn = frame.rotation, _turn(frame)
                    report.end = float(time)
                    report.kept += 1
                    yield RawFrame(report.kept - 1, float(time), frame, aspect, turn)
        report.complete = True
        if report.kept == 0:
            raise UserError(self._nothing(report))

    def frames(self, indices: list[int], max_side: int | None = None) -> Iterator[VideoFrame]:
        """Some frames, one at a time; reads no further than the last of them.

        Args:
            indices: Their numbers, in ascending order.
            max_side: As `RawFrame.picture`.

        Raises:
            UserError: As `decode`.
        """
        wanted, last = set(indices), max(indices, default=-1)
        if not wanted:
            return
        for frame in self.decode():
            if frame.index in wanted:
                yield VideoFrame(frame.index, frame.time, frame.picture(max_side))
            if frame.index == last:
                return

    def problems(self, report: DecodingReport) -> list[str]:
        """What is wrong with the stream, in at most one line; nothing where it was not read to its end."""
        lost = [
            *([f"damaged packets: {report.failed}"] if report.failed else []),
            *([f"damaged frames left out: {report.damaged}"] if report.damaged else []),
        ]
        if report.complete and self.declared_frames and report.kept < self.declared_frames:
            lost.append(f"its header names {self.declared_frames} frames")
        elif report.complete and not self.declared_frames and self._ends_early(report.end):
            lost.append(f"the last at {report.end:.2f} s, though its header says that it takes {self.duration:.2f} s")
        return [f"{self.name}: {report.kept} of its frames could be decoded ({', '.join(lost)})."] if lost else []

    def _ends_early(self, end: float) -> bool:
        return self.duration is not None and self.duration - end > max(1.0, 0.1 * self.duration)

    def _nothing(self, report: DecodingReport) -> str:
        if report.failed or report.damaged:
            return (
                f"{self.path}: not one frame could be decoded (damaged packets: {report.failed}, damaged frames: "
                f"{report.damaged}): fetch or export the video again."
            )
        return f"{self.path} holds a video stream without a single frame: record or export it again."


def video_frames(
    path: str | Path,
    frames: int = 16,
    stride: int = 8,
    start: float = 0.0,
    max_side: int | None = 512,
) -> list[tuple[int, float, Image.Image]]:
    """Every `stride`-th frame of a video, at most `frames` of them: LVM's sequences are 16 frames, every 8th.

    Args:
        path: The video.
        frames: The most frames; a shorter video gives fewer.
        stride: From one frame to the next, in frames of the video.
        start: Seconds; the first frame is the first one at or behind it.
        max_side: Pixels of a picture's longer side, if it is longer; None to leave it.

    Returns:
        (index, time in seconds, RGB picture) of each, in order.

    Raises:
        UserError: If the video cannot be read, a number is not positive, or no frame is at or behind `start`.
    """
    for name, number in (("frames", frames), ("stride", stride)):
        if number < 1:
            raise UserError(f"{name} must be 1 or more, got {number}.")
    video = VideoFile(path)
    found: list[tuple[int, float, Image.Image]] = []
    first: int | None = None
    report = DecodingReport()
    for frame in video.decode(report):
        if first is None and frame.time < start:
            continue
        first = frame.index if first is None else first
        if (frame.index - first) % stride == 0:
            found.append((frame.index, frame.time, frame.picture(max_side)))
        if len(found) == frames:
            break
    if not found:
        raise starts_too_late(video, start, report.end)
    return found


def starts_too_late(video: VideoFile, start: float, end: float) -> UserError:
    """The error of a start behind the last frame."""
    return UserError(f"{video.name} has no frame at or behind {start:g} s (its last is at {end:.2f} s): start earlier.")


def _packets(container: "InputContainer", stream: "VideoStream", report: DecodingReport) -> "Iterator[Packet | None]":
    """The stream's packets and, also where reading ends in an error, an empty one, which empties the decoder."""
    try:
        yield from container.demux(stream)
    except pyav().error.FFmpegError:
        report.failed += 1
        yield None


def _turn(frame: "DecodedFrame") -> Image.Transpose | None:
    """What brings a frame upright, from its display matrix (nine int32, row by row, 16.16 fixed point)."""
    try:
        side_data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV's, where any side data of the frame is of a kind that it does not know
        return BY_ANGLE.get(frame.rotation % 360)
    if side_data is None:
        return None
    content: Any = side_data  # a buffer
    matrix = np.frombuffer(bytes(content), dtype=np.int32)[:9].reshape(3, 3) / 65536
    return UPRIGHT.get(tuple(np.rint(matrix[:2, :2]).astype(int).ravel().tolist()))
