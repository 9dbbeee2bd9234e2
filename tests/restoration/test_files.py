"""What is written for picture files, and under which name."""

import numpy as np
import pytest
from PIL import Image

from visual_sentence import UserError
from visual_sentence.image_io import ImageSource, open_image
from visual_sentence.reconstruction.drawing import draw_row
from visual_sentence.restoration import RestorationSetting, view_of
from visual_sentence.restoration.files import plan_restorations, restore_files


def test_pictures_stand_side_by_side_enlarged():
    colors = ("red", "lime", "blue")
    row = draw_row([(name, Image.new("RGB", (40, 40), name)) for name in colors])
    assert row.size == (3 * 160 + 4 * 8, 8 + 160 + 20)
    pixels = np.asarray(row)
    for index, color in enumerate(colors):
        left = 8 + index * 168
        assert (pixels[8:168, left : left + 160] == np.asarray(Image.new("RGB", (1, 1), color))[0, 0]).all()
        assert pixels[168:, left : left + 160].min() < 100  # its caption
    assert draw_row([("one", Image.new("RGB", (200, 200)))]).width == 216


def test_files_hold_what_was_restored(restorer, noise, noise_files, tmp_path):
    files = plan_restorations(noise_files[:3], tmp_path / "out", "rotation")
    chosen = RestorationSetting("rotation", n=4, num_examples=2)
    source = ImageSource("noise", len(noise), lambda: iter(noise))
    rows = list(restore_files(restorer, noise_files[:3], files, chosen, source, batch_size=2))
    examples = [view_of(picture, 16) for picture in noise[3:]]
    found = restorer.restore([view_of(open_image(path), 16) for path in noise_files[:3]], chosen, examples)
    for index, (row, path) in enumerate(zip(rows, noise_files[:3], strict=True)):
        assert row["image"] == str(path) and row["grid"] == [4, 4]
        assert row["changed_tokens"] == int((found.degraded_tokens[index] != found.restored_tokens[index]).sum())
        assert open_image(row["restored"]).tobytes() == found.restored[index].tobytes()
        panels = (("original", found.originals), ("degraded", found.degraded), ("restored", found.restored))
        expected = draw_row([(name, pictures[index]) for name, pictures in panels])
        assert open_image(row["side_by_side"]).tobytes() == expected.tobytes()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"{index}.rotation{kind}.png" for index in range(3) for kind in ("", ".restored")
    ]


def test_pictures_that_came_degraded_have_no_original(restorer, noise, noise_files, tmp_path):
    files = plan_restorations(noise_files[:1], tmp_path / "out", "deblurring")
    source = ImageSource("noise", len(noise), lambda: iter(noise))
    chosen = RestorationSetting("deblurring", num_examples=2)
    (row,) = restore_files(restorer, noise_files[:1], files, chosen, source, already_degraded=True)
    assert open_image(row["side_by_side"]).width == 2 * 128 + 3 * 8


def test_names_never_meet_an_input(noise_files, tmp_path):
    twin = tmp_path / "twin"
    twin.mkdir()
    (twin / "0.png").write_bytes(noise_files[0].read_bytes())
    files = plan_restorations([noise_files[0], twin / "0.png"], tmp_path / "out", "shift")
    assert [places.row.name for places in files] == ["0.shift.png", "0-2.shift.png"]
    taken = twin / "0.shift.png"
    taken.write_bytes(noise_files[0].read_bytes())
    files = plan_restorations([twin / "0.png", taken], twin, "shift")
    assert [places.row.name for places in files] == ["0-2.shift.png", "0.shift.shift.png"]


def test_a_folder_that_cannot_be_written_is_named(restorer, noise_files, tmp_path, monkeypatch):
    files = plan_restorations(noise_files[:1], tmp_path / "out", "shift")

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(UserError, match=r"out cannot be written \(No space left on device\)"):
        list(restore_files(restorer, noise_files[:1], files, RestorationSetting("shift", "paper")))
