"""Shots, against videos whose cuts are known."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from visual_sentence.errors import UserError
from visual_sentence.video import Shot, ShotSetting, VideoFile, find_shots
from visual_sentence.video.reading import DecodingReport


@pytest.mark.parametrize("detector", ["adaptive", "content"])
def test_cuts_are_found_where_they_are(scenes, detector):
    timeline = find_shots(VideoFile(scenes), ShotSetting(detector))
    assert [(shot.number, shot.first, shot.stop) for shot in timeline.shots] == [(0, 0, 25), (1, 25, 55), (2, 55, 75)]
    assert [shot.start for shot in timeline.shots] == pytest.approx([0, 1.0, 2.2])
    np.testing.assert_allclose(timeline.times, np.arange(75) / 25)
    assert [timeline.shot_of(index) for index in (0, 24, 25, 54, 55, 74)] == [0, 0, 1, 1, 2, 2]
    assert timeline.report.kept == 75 and timeline.report.complete


def test_a_still_video_is_one_shot(levels):
    (shot,) = find_shots(VideoFile(levels)).shots
    assert (shot.first, shot.stop) == (0, 30)


def test_the_shortest_shot_is_counted_in_seconds(tmp_path, write, scenes):
    assert len(find_shots(VideoFile(scenes), ShotSetting(min_shot=1.5)).shots) == 2  # the second begins after 1 s
    frames = [np.full((48, 64, 3), 200 * (place >= 10), np.uint8) for place in range(20)]
    slow = write(tmp_path / "slow.mp4", frames, [200 * place for place in range(20)])  # ten frames are two seconds here
    fast = write(tmp_path / "fast.mp4", frames, [20 * place for place in range(20)])
    assert [shot.first for shot in find_shots(VideoFile(slow)).shots] == [0, 10]
    assert [shot.first for shot in find_shots(VideoFile(fast)).shots] == [0]
    assert [shot.first for shot in find_shots(VideoFile(fast), ShotSetting(min_shot=0.1)).shots] == [0, 10]


def test_the_threshold_decides(scenes):
    assert len(find_shots(VideoFile(scenes), ShotSetting("content", threshold=250)).shots) == 1
    assert ShotSetting("content").threshold == 27 and ShotSetting().threshold == 3


def test_reads_no_further_than_it_must(scenes):
    timeline = find_shots(VideoFile(scenes), start=0.2, span=21)  # frames 5 to 25; a cut is known two frames later
    assert timeline.report == DecodingReport(kept=28, end=pytest.approx(27 / 25))
    assert [shot.first for shot in timeline.shots] == [0, 25]


def test_a_stream_that_changes_its_size(tmp_path, write, scenes, monkeypatch):
    small = VideoFile(write(tmp_path / "small.mp4", [np.zeros((32, 80, 3), np.uint8)] * 20))
    first = list(VideoFile(scenes).decode())[:20]
    later = [replace(frame, index=20 + frame.index, time=1 + frame.time) for frame in small.decode()]
    monkeypatch.setattr(VideoFile, "decode", lambda self, report: iter([*first, *later]))
    assert [shot.first for shot in find_shots(VideoFile(scenes)).shots] == [0, 20]


def test_frames_are_spread_over_a_shot():
    shot = Shot(0, first=10, stop=20, start=0.0)
    assert shot.spread(1) == [15] and shot.spread(2) == [12, 17] and shot.spread(10) == list(range(10, 20))
    assert shot.spread(50) == list(range(10, 20)) and Shot(0, 3, 4, 0.0).spread(1) == [3]
    for count in range(1, 10):
        found = shot.spread(count)
        assert len(set(found)) == count and found == sorted(found) and found[0] >= 10 and found[-1] < 20


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"detector": "magic"}, "no shot detector 'magic': use adaptive or content"),
        ({"threshold": 0}, "a threshold of 0 would cut"),
        ({"min_shot": -1}, "cannot take -1 s"),
    ],
)
def test_bad_settings(options, said):
    with pytest.raises(UserError, match=f"(?i){said}"):
        ShotSetting(**options)


def test_pyscenedetect_is_named_where_it_is_missing(scenes, monkeypatch):
    monkeypatch.setitem(sys.modules, "scenedetect.detectors", None)
    with pytest.raises(UserError, match=r"PySceneDetect, .*`pip install 'visual-sentence\[video\]'"):
        find_shots(VideoFile(scenes))
