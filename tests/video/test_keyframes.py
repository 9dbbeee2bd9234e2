"""Which frames are taken, and what is written of them."""

import json

import numpy as np
import pytest
from PIL import Image

from visual_sentence.errors import UserError
from visual_sentence.video import KeyframeSetting, Shot, Timeline, VideoFile, write_keyframes
from visual_sentence.video.contact_sheet import MOST_TILES, ContactSheet
from visual_sentence.video.keyframes import moment_of

# Three shots of 10, 2 and 8 frames, ten frames a second.
TIMELINE = Timeline(np.arange(20) / 10, [Shot(0, 0, 10, 0.0), Shot(1, 10, 12, 1.0), Shot(2, 12, 20, 1.2)])


@pytest.mark.parametrize(
    ("options", "indices"),
    [
        ({}, [5, 11, 16]),
        ({"frames_per_shot": 3}, [1, 5, 8, 10, 11, 13, 16, 18]),
        ({"max_frames": 2}, [5, 11]),
        ({"start": 1.05}, [11, 16]),
        ({"method": "stride"}, [0, 8, 16]),
        ({"method": "stride", "stride": 7, "max_frames": 2}, [0, 7]),
        ({"method": "stride", "stride": 4, "start": 0.25}, [3, 7, 11, 15, 19]),
        ({"start": 3}, []),
    ],
)
def test_which_frames_are_chosen(options, indices):
    assert KeyframeSetting(**options).choose(TIMELINE) == indices


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "best"}, "no way 'best' to choose frames: use shots or stride"),
        ({"stride": 0}, "stride must be 1 or more, got 0"),
        ({"max_frames": 0}, "max_frames must be 1 or more"),
        ({"max_side": 8}, "max_side must be 16 pixels or more, got 8"),
        ({"start": -2}, "start must be 0 s or later, got -2"),
    ],
)
def test_bad_settings(options, said):
    with pytest.raises(UserError, match=said):
        KeyframeSetting(**options)


def test_shots_give_their_middle_frames(scenes, tmp_path):
    found = write_keyframes(VideoFile(scenes), tmp_path / "out", suffix="png")
    assert [(frame.index, frame.shot) for frame in found.frames] == [(12, 0), (40, 1), (65, 2)]
    assert [frame.time for frame in found.frames] == pytest.approx([0.48, 1.6, 2.6]) and found.problems == []
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("contact-sheet.png", "frame-000012.png", "frame-000040.png", "frame-000065.png", "frames.json")
    ]
    for frame, color in zip(found.frames, [(200, 40, 40), (40, 60, 200), (240, 230, 90)], strict=True):
        pixels = np.asarray(Image.open(tmp_path / "out" / frame.file), float).mean((0, 1))
        assert np.abs(pixels - color).max() < 12
    record = json.loads((tmp_path / "out" / "frames.json").read_text())
    assert record == json.loads(json.dumps(found.as_dict()))
    assert record["video"] == "scenes.mp4" and record["frames"][1] == {
        "file": "frame-000040.png",
        "index": 40,
        "time": 1.6,
        "shot": 1,
    }
    assert record["shots"] == [
        {"shot": 0, "first": 0, "time": 0.0, "frames": 25},
        {"shot": 1, "first": 25, "time": 1.0, "frames": 30},
        {"shot": 2, "first": 55, "time": 2.2, "frames": 20},
    ]
    assert "stride" not in record["setting"] and record["setting"]["shots"]["threshold"] == 3


def test_stride_knows_shots_too_and_the_result_is_the_same_again(scenes, tmp_path):
    setting = KeyframeSetting("stride", stride=25, max_side=32)
    found = [write_keyframes(VideoFile(scenes), tmp_path / name, setting) for name in ("a", "b")]
    assert [(frame.index, frame.shot) for frame in found[0].frames] == [(0, 0), (25, 1), (50, 1)]
    assert Image.open(tmp_path / "a" / "frame-000025.jpg").size == (32, 24)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    first = write_keyframes(VideoFile(scenes), tmp_path / "c", KeyframeSetting("stride", stride=5, max_frames=6))
    assert [(frame.index, frame.shot) for frame in first.frames][-2:] == [(20, 0), (25, 1)]
    assert first.problems == []  # though it was not read to its end


def test_what_is_wrong_with_the_stream_stands_in_the_record(cut_off, tmp_path):
    found = write_keyframes(VideoFile(cut_off), tmp_path / "out", KeyframeSetting("stride", stride=4))
    assert len(found.problems) == 1 and "its header names 30" in found.problems[0]
    assert len(found.frames) == -(-found.shots[-1]["frames"] // 4)  # noise without end is one shot


def test_nothing_is_overwritten_and_nothing_is_left_of_a_failure(scenes, tmp_path, monkeypatch):
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for place, said in ((full, "a folder that is not empty"), (tmp_path / "file", "is a file")):
        with pytest.raises(UserError, match=said):
            write_keyframes(VideoFile(scenes), place)
    with pytest.raises(UserError, match="cannot be written"):
        write_keyframes(VideoFile(scenes), tmp_path / "file" / "below")
    with pytest.raises(UserError, match="not written as 'tif': use jpg or png"):
        write_keyframes(VideoFile(scenes), tmp_path / "new", suffix="tif")
    with pytest.raises(UserError, match="no frame at or behind 9 s"):
        write_keyframes(VideoFile(scenes), tmp_path / "new", KeyframeSetting(start=9))
    monkeypatch.setattr(ContactSheet, "draw", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_keyframes(VideoFile(scenes), tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]
    monkeypatch.undo()
    (tmp_path / "new").mkdir()
    assert len(write_keyframes(VideoFile(scenes), tmp_path / "new").frames) == 3  # an empty folder is taken


def test_a_contact_sheet_shows_frames_in_order():
    sheet = ContactSheet(5, "five")
    for level in range(5):
        sheet.add(Image.new("RGB", (480, 270), (50 * level, 0, 0)), "when", "a text that is long " * level)
    pixels = np.asarray(sheet.draw())
    assert pixels.shape[1] == 2 * 32 + 4 * 240 + 3 * 16
    step = (pixels.shape[0] - 72 - 32 + 16) // 2
    for place in range(5):
        row, column = 72 + place // 4 * step + 60, 32 + place % 4 * 256 + 120
        assert tuple(pixels[row, column]) == (50 * place, 0, 0)


def test_a_contact_sheet_of_very_many_frames_shows_some():
    count = 3 * MOST_TILES + 1
    sheet = ContactSheet(count, "many")
    for place in range(count):
        sheet.add(Image.new("RGB", (24, 24), (place, 0, 0)), "")
    assert len(sheet._tiles) == MOST_TILES and "(60 of them here)" in sheet._title
    shown = [tile.getpixel((9, 9))[0] for tile, _ in sheet._tiles]
    assert (shown[0] == 0 and set(np.diff(shown)) == {3, 4}) or set(np.diff(shown)) == {3}


def test_moments_are_written_as_minutes_and_seconds():
    assert moment_of(0, 0) == "0:00.00, shot 0" and moment_of(59.999, 3) == "1:00.00, shot 3"
    assert moment_of(3725.5, 12) == "62:05.50, shot 12"
