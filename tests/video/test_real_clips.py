"""Real clips: counts and cuts that were looked at by eye."""

import pytest

from visual_sentence.video import SentenceSetting, VideoFile, find_shots, video_frames, write_sentences
from visual_sentence.video.reading import DecodingReport


@pytest.mark.parametrize(
    ("name", "frames", "size", "end"),
    [
        ("video/bikes.mp4", 250, (640, 272), 9.96),
        ("video/carphone_distorted.mp4", 120, (193, 144), 119 * 1001 / 30000),  # pixels of 128:117
        ("visual-prompts/seggpt/video_1.mp4", 8, None, 0.7),
        ("visual-prompts/seggpt/video_3.mp4", 66, None, 13.0),
    ],
)
def test_all_frames_decode(real_clip, name, frames, size, end):
    video, report = VideoFile(real_clip(name)), DecodingReport()
    for frame in video.decode(report):
        if frame.index == 0:
            first = frame.picture()
    assert report.kept == frames and report.end == pytest.approx(end) and video.problems(report) == []
    assert size in (None, first.size)


def test_the_cuts_of_a_street_film(real_clip):
    timeline = find_shots(VideoFile(real_clip("video/bikes.mp4")))
    assert [shot.first for shot in timeline.shots] == [0, 30, 76, 137, 187, 242]


def test_one_take_has_no_cut(real_clip):
    assert len(find_shots(VideoFile(real_clip("video/carphone_pristine.mp4"))).shots) == 1


def test_a_sentence_of_a_real_clip(real_clip, tmp_path):
    path = real_clip("video/carphone_pristine.mp4")
    written = write_sentences(VideoFile(path), tmp_path / "out", SentenceSetting())
    assert [row["index"] for row in written.frames] == list(range(0, 120, 8))
    assert written.notes == ["carphone_pristine.mp4 gives 15 of the 16 frames of a sentence."]
    found = video_frames(real_clip("video/bigbuckbunny.mp4"), 2, 8)  # has sound too
    assert [(round(time, 2), image.size) for _, time, image in found] == [(0, (512, 288)), (0.32, (512, 288))]
