"""Frames, times and uprightness, against what was written; and what is no video."""

import gc
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from visual_sentence.errors import UserError
from visual_sentence.video import VideoFile, video_frames
from visual_sentence.video import reading as reading_module
from visual_sentence.video.reading import BY_ANGLE, UPRIGHT, DecodingReport, RawFrame

PARTS = (np.array([[[220, 30, 30], [30, 200, 30]], [[30, 30, 210], [240, 240, 240]]])).repeat(16, 0).repeat(24, 1)


def mean(image: Image.Image) -> float:
    return float(np.asarray(image, float).mean())


def frame_of(path, index: int = 0, **options) -> Image.Image:
    return next(iter(VideoFile(path).frames([index], **options))).image


def test_every_strideth_frame_with_its_time(levels):
    found = video_frames(levels, frames=4, stride=7)
    assert [index for index, _, _ in found] == [0, 7, 14, 21]
    assert [time for _, time, _ in found] == pytest.approx([0, 0.28, 0.56, 0.84], abs=1e-9)
    for index, _, image in found:
        assert image.mode == "RGB" and image.size == (64, 48) and abs(mean(image) - 8 * index) < 3
    assert [index for index, _, _ in video_frames(levels, 16, 8)] == [0, 8, 16, 24]  # a shorter video gives fewer
    assert [index for index, _, _ in video_frames(levels, 2, 3, start=0.5)] == [13, 16]


def test_times_are_the_streams_not_index_by_rate(tmp_path, write):
    times = [0, 40, 200, 210, 1000, 1700]
    path = write(tmp_path / "uneven.mp4", [np.full((32, 32, 3), 40 * place, np.uint8) for place in range(6)], times)
    found = video_frames(path, frames=6, stride=1)
    assert [time for _, time, _ in found] == pytest.approx([time / 1000 for time in times], abs=1e-9)
    assert [round(mean(image) / 40) for *_, image in found] == list(range(6))
    for name in ("late.mkv", "late.mp4"):  # of the first FFmpeg knows no start, it is so short
        late = write(tmp_path / name, [np.zeros((32, 32, 3), np.uint8)] * 2, [5000, 5300])
        assert [time for _, time, _ in video_frames(late, 2, 1)] == pytest.approx([0, 0.3])  # as a player shows it


def test_frames_without_times_follow_at_the_streams_rate(levels, monkeypatch):
    class Timeless:
        def __init__(self, frame):
            self.frame = frame

        pts = None

        def __getattr__(self, name):
            return getattr(self.frame, name)

    monkeypatch.setattr(reading_module, "_packets", lambda *_: [1, 2])
    video = VideoFile(levels)

    class Stream:
        sample_aspect_ratio = None
        codec_context = type("Context", (), {"sample_aspect_ratio": None})

        def decode(self, packet):
            return [Timeless(av.VideoFrame(8, 8, "rgb24"))]

    class Opened:
        def __init__(self, path):
            pass

        def __enter__(self):
            return type("Container", (), {"start_time": None}), Stream()

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(reading_module, "open_video", Opened)
    assert [frame.time for frame in video.decode()] == pytest.approx([0, 0.04])


@pytest.mark.parametrize("matrix", [(1, 0, 0, 1), *UPRIGHT])
def test_frames_come_upright(tmp_path, write, turn, matrix):
    path = turn(write(tmp_path / "turned.mp4", [PARTS.astype(np.uint8)] * 3), matrix)
    a, b, c, d = matrix
    moved = {(a * x + c * y, b * x + d * y): PARTS[y, x] for y in range(32) for x in range(48)}
    left, top = min(x for x, _ in moved), min(y for _, y in moved)
    expected = np.zeros((48, 32, 3) if b else (32, 48, 3))
    for (x, y), color in moved.items():
        expected[y - top, x - left] = color
    found = np.asarray(frame_of(path), float)
    assert found.shape == expected.shape and np.abs(found - expected).mean() < 8
    small = frame_of(path, max_side=24)
    assert max(small.size) == 24 and small.size == (24, 16)[:: -1 if b else 1]


def test_the_angle_says_the_same_where_side_data_cannot_be_listed(tmp_path, write, turn):
    class Unlisted:
        def __init__(self, frame):
            self.rotation = frame.rotation

        @property
        def side_data(self):
            raise ValueError("31 is not a valid Type")

    for matrix in [(1, 0, 0, 1), (0, 1, -1, 0), (0, -1, 1, 0), (-1, 0, 0, -1)]:
        path = turn(write(tmp_path / "turned.mp4", [PARTS.astype(np.uint8)]), matrix)
        frame = next(iter(VideoFile(path).decode())).decoded
        assert reading_module._turn(Unlisted(frame)) == reading_module._turn(frame) == UPRIGHT.get(matrix)
    assert set(BY_ANGLE) == {90, 180, 270}


def test_pixels_come_out_square(tmp_path, write):
    path = write(tmp_path / "wide.mp4", [PARTS.astype(np.uint8)], aspect=Fraction(3, 2))
    assert frame_of(path).size == (72, 32) and frame_of(path, max_side=36).size == (36, 16)


def test_frames_are_scaled_but_never_enlarged(levels):
    assert frame_of(levels, max_side=32).size == (32, 24)
    assert frame_of(levels, max_side=500).size == (64, 48)
    raw = next(iter(VideoFile(levels).decode()))
    assert raw.picture(size=(20, 30)).size == (20, 30)


def test_animated_gif_with_transparency_on_white(tmp_path):
    clear = Image.new("RGBA", (30, 20), (0, 0, 0, 0))
    clear.paste((255, 0, 0, 255), (0, 0, 15, 20))
    clear.save(tmp_path / "a.gif", save_all=True, append_images=[clear.transpose(Image.Transpose.FLIP_LEFT_RIGHT)],
               duration=[100, 300], disposal=2)  # fmt: skip
    found = video_frames(tmp_path / "a.gif", 2, 1)
    assert [time for _, time, _ in found] == [0, 0.1]
    assert found[0][2].getpixel((3, 10)) == (255, 0, 0) and found[0][2].getpixel((25, 10)) == (255, 255, 255)
    assert found[1][2].getpixel((25, 10)) == (255, 0, 0) and found[1][2].getpixel((3, 10)) == (255, 255, 255)


def test_no_frame_is_converted_that_is_not_wanted(levels, monkeypatch):
    converted = []
    picture = RawFrame.picture
    monkeypatch.setattr(RawFrame, "picture", lambda self, *args: converted.append(self.index) or picture(self, *args))
    report = DecodingReport()
    assert [frame.index for frame in VideoFile(levels).frames([2, 9])] == [2, 9] and converted == [2, 9]
    decoding = VideoFile(levels).decode(report)
    next(decoding), next(decoding)
    assert report.kept == 2 and not report.complete  # frames are taken as they are needed
    assert list(VideoFile(levels).frames([])) == []


def test_one_frame_is_in_memory_at_a_time(levels):
    gc.collect()
    gc.disable()  # so that a frame in a cycle of references would stay
    try:
        for frame in VideoFile(levels).decode():
            frame.picture()
        del frame
        assert sum(type(one) is av.VideoFrame for one in gc.get_objects()) <= 2
    finally:
        gc.enable()


def test_a_cut_off_video_gives_what_decodes(cut_off):
    report = DecodingReport()
    video = VideoFile(cut_off)
    times = [frame.time for frame in video.decode(report)]
    assert 10 < report.kept == len(times) < 28 and report.complete and times == sorted(times)
    (problem,) = video.problems(report)
    assert problem.startswith(f"cut.mp4: {report.kept} of its frames could be decoded (")
    assert "its header names 30 frames" in problem
    assert video.problems(DecodingReport(kept=3)) == []  # read in part only
    again = DecodingReport()
    list(video.decode(again))
    assert again == report


def test_a_cut_off_video_without_a_count(tmp_path, write):
    frames = [np.random.default_rng(place).integers(0, 256, (48, 64, 3), dtype=np.uint8) for place in range(60)]
    whole = write(tmp_path / "a.mkv", frames)
    (tmp_path / "b.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size // 3])
    for name, problems in (("a.mkv", 0), ("b.mkv", 1)):
        video, report = VideoFile(tmp_path / name), DecodingReport()
        assert len(list(video.decode(report))) == report.kept and len(video.problems(report)) == problems
    assert "though its header says that it takes 2.40 s" in video.problems(report)[0]


def test_damage_in_the_middle(tmp_path, write):
    frames = [np.random.default_rng(place).integers(0, 256, (48, 64, 3), dtype=np.uint8) for place in range(30)]
    path = write(tmp_path / "hurt.mp4", frames)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 9000] = bytes(255 - value for value in content[middle : middle + 9000])
    path.write_bytes(content)
    report, video = DecodingReport(), VideoFile(path)
    assert 15 < len(list(video.decode(report))) < 30
    assert report.failed + report.damaged >= 1 and "damaged" in video.problems(report)[0]


def test_nothing_decodes(tmp_path, write):
    path = write(tmp_path / "a.mp4", [PARTS.astype(np.uint8)] * 5, movflags="faststart")
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"mdat") + 4])
    with pytest.raises(UserError, match="holds a video stream without a single frame"):
        list(VideoFile(path).decode())
    path.write_bytes(content[: content.index(b"mdat") + 4] + bytes(len(content)))
    with pytest.raises(UserError, match=r"not one frame could be decoded \(damaged packets: "):
        video_frames(path)


def write_sound(path, cover: bool = False):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        stream.layout = "mono"
        if cover:
            picture = container.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = 32, 32, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic.value
            container.mux(picture.encode(av.VideoFrame.from_image(Image.new("RGB", (32, 32)))))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 44100, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if cover:
            container.mux(picture.encode())
    return path


def bad_files(folder, write) -> dict:
    """What is no video: name -> (file, what must be said)."""
    (folder / "notes.mp4").write_text("this is only text\n" * 9)
    (folder / "notes.txt").write_text("this is only text\n" * 9)
    (folder / "notes.png").write_text("this is only text\n" * 9)
    (folder / "screen.txt").write_bytes(b"\x1b[31mhello\x1b[0m\n" * 99)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(4000))
    (folder / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.0,\nc.ts\n#EXT-X-ENDLIST\n")
    write(folder / "c.ts", [PARTS.astype(np.uint8)] * 30)
    whole = write(folder / "whole.mp4", [PARTS.astype(np.uint8)] * 30).read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: whole.index(b"moov")])
    picture = Image.fromarray(PARTS.astype(np.uint8))
    for name in ("a.png", "a.jpg", "a.webp", "a.bmp", "a.gif"):
        picture.save(folder / name)
    picture.save(folder / "renamed.mp4", "png")
    picture.save(folder / "moving.webp", save_all=True, append_images=[picture.rotate(180)], duration=100)
    single = "a single picture where a video was expected: give a video"
    return {
        "missing": (folder / "none.mp4", "no such file: check the path"),
        "folder": (folder, "is a folder where a video was expected"),
        "empty": (folder / "empty.mp4", "an empty file"),
        "text": (folder / "notes.mp4", "looks like text, so give a video"),
        "text too": (folder / "notes.txt", "looks like text, so give a video"),
        "text named as a picture": (folder / "notes.png", "looks like text, so give a video"),
        "text as a screen": (folder / "screen.txt", "it looks like text"),
        "noise": (folder / "noise.mp4", "of no format that FFmpeg knows"),
        "list": (folder / "list.m3u8", "a list of videos, not a video: name one"),
        "cut": (folder / "cut.mp4", "cut off before its index"),
        "sound": (write_sound(folder / "a.m4a"), "holds sound only, so there are no frames: give a video"),
        "sound with cover": (write_sound(folder / "b.mp4", cover=True), "sound only, and a cover picture"),
        **{name: (folder / name, single) for name in ("a.png", "a.jpg", "a.webp", "a.bmp", "a.gif", "renamed.mp4")},
        "animated webp": (folder / "moving.webp", "an animated WebP, which FFmpeg does not decode: convert it"),
    }


def test_what_is_no_video_is_refused_in_one_line(tmp_path, write):
    for kind, (path, said) in bad_files(tmp_path, write).items():
        with pytest.raises(UserError) as error:
            VideoFile(path)
        assert said in str(error.value) and str(path) in str(error.value), (kind, str(error.value))


def test_too_large_and_too_late(levels, monkeypatch):
    with pytest.raises(UserError, match=r"levels.mp4 has no frame at or behind 9 s \(its last is at 1.16 s\)"):
        video_frames(levels, start=9)
    with pytest.raises(UserError, match="stride must be 1 or more, got 0"):
        video_frames(levels, stride=0)
    monkeypatch.setattr("visual_sentence.video.opening.MOST_PIXELS", 64 * 48 - 1)
    with pytest.raises(UserError, match=r"frames of 64 x 48 pixels, .* scale the video down"):
        VideoFile(levels)


def test_pyav_is_named_where_it_is_missing(levels, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(UserError, match=r"pip install 'visual-sentence\[video\]'"):
        VideoFile(levels)
