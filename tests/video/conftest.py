"""Videos made frame by frame, with times, rotation and damage as wanted."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="needs the extra video (PyAV)")
pytest.importorskip("scenedetect", reason="needs the extra video (PySceneDetect)")

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
MILLISECONDS = Fraction(1, 1000)


def write_video(
    path: Path,
    frames: Sequence[np.ndarray],
    times: Sequence[int] | None = None,
    codec: str = "libx264",
    layers: str = "yuv420p",
    aspect: Fraction | None = None,
    **options: str,
) -> Path:
    """Writes a video.

    Args:
        path: Its suffix says in which container.
        frames: [H, W, 3] uint8 each.
        times: Milliseconds at which they are shown; every 40 by default.
        codec: FFmpeg's name of it.
        layers: FFmpeg's name of the layout of pixels.
        aspect: Width of a pixel divided by its height.
        **options: Of the container.
    """
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25, options={"crf": "10"} if codec == "libx264" else {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = layers
        stream.codec_context.time_base = MILLISECONDS
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for place, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = (40 * place if times is None else times[place]), MILLISECONDS
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def turn_by(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Writes a display matrix (a, b, c, d) into the track header of an MP4."""
    content = bytearray(path.read_bytes())
    header = content.index(b"tkhd") + 4
    place = header + (40 if content[header] == 0 else 52)
    a, b, c, d = (65536 * value for value in matrix)
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


def grey(level: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A frame of one grey, [H, W, 3]."""
    return np.full((*size, 3), level, np.uint8)


def textured(color: tuple[int, int, int], seed: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A frame of one colour with some noise."""
    noise = np.random.default_rng(seed).integers(-6, 7, (*size, 1))
    return np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def films(tmp_path_factory) -> Path:
    """The folder of videos that several tests read."""
    return tmp_path_factory.mktemp("films")


@pytest.fixture(scope="session")
def levels(films) -> Path:
    """30 frames; frame i is of the grey 8 i."""
    return write_video(films / "levels.mp4", [grey(8 * place) for place in range(30)])


@pytest.fixture(scope="session")
def scenes(films) -> Path:
    """Three shots of 25, 30 and 20 frames, at 25 frames a second."""
    parts = [((200, 40, 40), 25), ((40, 60, 200), 30), ((240, 230, 90), 20)]
    frames = [textured(color, seed) for color, count in parts for seed in range(count)]
    return write_video(films / "scenes.mp4", frames)


@pytest.fixture(scope="session")
def cut_off(films) -> Path:
    """The first two thirds of a video of 30 frames of noise, whose index stands in front."""
    frames = [np.random.default_rng(place).integers(0, 256, (48, 64, 3), dtype=np.uint8) for place in range(30)]
    path = write_video(films / "cut.mp4", frames, movflags="faststart")
    content = path.read_bytes()
    path.write_bytes(content[: 2 * len(content) // 3])
    return path


@pytest.fixture
def real_clip():
    """The path of a real clip; skips where it is absent."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"needs {name} of the shared data, which is not here")
        return path

    return find


@pytest.fixture
def write():
    return write_video


@pytest.fixture
def turn():
    return turn_by
