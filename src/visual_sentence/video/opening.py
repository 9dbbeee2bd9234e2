"""Opening a file as a video: everything that is none is refused in one line that says what it is instead."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..errors import UserError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# The limit that PIL sets for pictures: beyond it a file of a few bytes fills the memory.
MOST_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 2**28 // 3)  # PIL's own where someone has switched it off
# Formats of FFmpeg that show text as moving pictures, or name other files to be opened.
TEXT_FORMATS = ("tty", "srt", "webvtt", "ass", "lrc")
LIST_FORMATS = ("concat", "hls", "dash")
PICTURE_BRANDS = ("avif", "heic", "heix", "mif1")  # still pictures in the container of MP4


def pyav() -> Any:
    """The package `av`, which only videos need.

    Raises:
        UserError: If it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise UserError(
            "Reading videos needs PyAV, which is not installed: `pip install 'visual-sentence[video]'`."
        ) from error
    return av


@contextmanager
def open_video(path: Path) -> "Generator[tuple[InputContainer, VideoStream], None, None]":
    """Opens a file with PyAV.

    Args:
        path: The file.

    Yields:
        Its container, and the first stream in it that moves.

    Raises:
        UserError: If there is no such file, or it is a folder, empty, a picture, text, sound only, a list of other
            files, cut off before its index, too large, or of no known format.
    """
    av = pyav()
    _check_file(path)
    try:
        # other files, and the network, stay closed to a file that names them
        container = av.open(str(path), options={"protocol_whitelist": "file"})
    except (av.error.FFmpegError, OSError) as error:
        raise UserError(f"{path} is not a video that can be read: {_guess(path, error)}.") from error
    with container:
        _check_format(path, container)
        stream = _moving_picture(path, container)
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > MOST_PIXELS:
            raise UserError(
                f"{path} has frames of {width} x {height} pixels, of which one alone would fill the memory: "
                "scale the video down first."
            )
        yield container, stream


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise UserError(f"{path} is a folder where a video was expected: name one video.")
    if not path.exists():
        raise UserError(f"{path}: there is no such file: check the path.")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is an empty file where a video was expected: fetch it again.")


def _check_format(path: Path, container: "InputContainer") -> None:
    """Refuses what FFmpeg opens although it is no video."""
    name, streams = container.format.name, container.streams.video
    named = name.endswith("_pipe") or name == "image2"
    if named and not (streams and streams[0].codec_context.width):
        if name == "webp_pipe":
            raise UserError(f"{path} is an animated WebP, which FFmpeg does not decode: convert it to GIF or MP4.")
        # only the file's name says that it is a picture
        raise UserError(f"{path} is not a video that can be read: {_guess(path)}.")
    still = name == "gif" and streams and streams[0].frames == 1
    if named or still or container.metadata.get("major_brand", "").strip() in PICTURE_BRANDS:
        raise UserError(f"{path} is a single picture where a video was expected: give a video, or an animated GIF.")
    if name in TEXT_FORMATS:
        raise UserError(f"{path} is not a video that can be read: it looks like text.")
    if name in LIST_FORMATS:
        raise UserError(f"{path} is a list of videos, not a video: name one of those in it.")


def _moving_picture(path: Path, container: "InputContainer") -> "VideoStream":
    from av.stream import Disposition

    covers = [stream for stream in container.streams.video if stream.disposition & Disposition.attached_pic]
    moving = [stream for stream in container.streams.video if stream not in covers and stream.codec_context]
    if moving:
        return moving[0]
    if container.streams.audio:
        with_cover = ", and a cover picture" if covers else ""
        raise UserError(f"{path} holds sound only{with_cover}, so there are no frames: give a video.")
    raise UserError(
        f"{path} holds no video stream that can be read; it may be cut off before its index: fetch or export it again."
    )


def _guess(path: Path, error: Exception | None = None) -> str:
    """Why a file could not be opened, and what to do."""
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except OSError as reading:
        return f"{reading.strerror or reading}, so check who may read it"
    if all(byte in b"\t\n\r" or byte >= 32 for byte in head):
        return "it looks like text, so give a video such as MP4, MKV, WebM, MOV, AVI or GIF"
    if head[4:8] == b"ftyp":
        return "an MP4 that is cut off before its index, without which nothing decodes, so fetch or export it again"
    said = f" ({getattr(error, 'strerror', None) or type(error).__name__})" if error else ""
    return f"of no format that FFmpeg knows, or damaged at its beginning{said}, so convert or fetch it again"
