"""Checkpoints are complete or absent, and reading one runs nothing."""

import errno
import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from visual_sentence.errors import UserError
from visual_sentence.training.checkpoints import CheckpointFolder, write_folder


def save_model(folder: Path) -> None:
    save_file({"weight": torch.arange(4.0)}, folder / "model.safetensors")


@pytest.fixture
def write(tmp_path):
    """Writes the checkpoint of a step; returns the folder of checkpoints too."""
    checkpoints = CheckpointFolder(tmp_path, keep=2)

    def go(step: int, save=save_model) -> Path:
        state = {"numbers": [1, 2.5, None], "tensor": torch.ones(2), "nested": {"words": ("a", "b")}}
        return checkpoints.write(step, save, {"average.0": torch.full((2,), step)}, state, {"step": step})

    return checkpoints, go


def test_what_is_written_is_read_back(write):
    checkpoints, go = write
    found = checkpoints.read(go(7))
    assert found.progress == {"step": 7} and found.path.name == "step-000007"
    assert torch.equal(found.model["weight"], torch.arange(4.0))
    assert torch.equal(found.tensors["average.0"], torch.full((2,), 7))
    assert found.state["numbers"] == [1, 2.5, None] and found.state["nested"] == {"words": ("a", "b")}


def test_only_the_newest_are_kept_whatever_their_digits(write):
    checkpoints, go = write
    for step in (2, 999_999, 1_000_000):
        go(step)
    assert [path.name for path in checkpoints.all()] == ["step-999999", "step-1000000"]
    assert checkpoints.latest().name == "step-1000000"


def test_old_ones_go_only_when_the_new_one_is_there(write, monkeypatch):
    checkpoints, go = write
    go(1), go(2)
    seen = []
    removed = __import__("shutil").rmtree

    def note(path, *args, **kwargs) -> None:
        if Path(path).name == "step-000001":
            seen.append([one.name for one in checkpoints.all()])
        removed(path, *args, **kwargs)

    monkeypatch.setattr("shutil.rmtree", note)
    go(3)
    assert seen == [["step-000001", "step-000002", "step-000003"]]


@pytest.mark.parametrize("place", ["model", "state", "rename", "to disk"])
def test_a_full_disk_leaves_the_former_checkpoint_whole(write, monkeypatch, place):
    checkpoints, go = write
    former = go(1)
    before = {file.name: file.read_bytes() for file in former.iterdir()}

    def full(*args, **kwargs) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def half_a_model(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        full()

    if place == "state":
        monkeypatch.setattr("torch.save", full)
    elif place == "rename":
        monkeypatch.setattr(Path, "rename", full)
    elif place == "to disk":
        monkeypatch.setattr("os.fsync", full)
    with pytest.raises(
        UserError, match=r"step 2 could not be written .*No space left on device.*step-000001 is whole"
    ) as e:
        go(2, half_a_model if place == "model" else save_model)
    assert "\n" not in str(e.value) and "--resume latest" in str(e.value)
    monkeypatch.undo()
    assert {file.name: file.read_bytes() for file in former.iterdir()} == before
    assert [path.name for path in checkpoints.folder.iterdir()] == ["step-000001"]  # and nothing half-written
    assert checkpoints.read(checkpoints.latest()).progress == {"step": 1}


def test_a_run_that_cannot_write_says_so_and_ends(run, prepare, monkeypatch, tmp_path):
    run(max_steps=2, schedule="constant")
    outcome = prepare(max_steps=6, schedule="constant", resume="latest", checkpoint_every=2)

    def full(*args, **kwargs) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torch.save", full)
    with pytest.raises(UserError, match=r"step 4 could not be written .*step-000002 is whole"):
        outcome.trainer.train()
    monkeypatch.undo()
    again = run(max_steps=6, schedule="constant", resume="latest")
    assert again.steps == [3, 4, 5, 6]


def test_what_a_crash_left_is_no_checkpoint(write):
    checkpoints, go = write
    go(1)
    (checkpoints.folder / ".step-000002.partial").mkdir()
    (checkpoints.folder / "step-notes").mkdir()
    assert [path.name for path in checkpoints.all()] == ["step-000001"]
    go(2)
    assert not (checkpoints.folder / ".step-000002.partial").exists()


def test_a_checkpoint_cannot_run_code(write, tmp_path):
    checkpoints, go = write
    path = go(1)
    mark = tmp_path / "it-ran"

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(mark),)

    torch.save({"state": Evil()}, path / "training_state.pt")
    with pytest.raises(UserError, match="is not a whole checkpoint") as caught:
        checkpoints.read(path)
    (path / "training_state.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match="is not a whole checkpoint"):
        checkpoints.read(path)
    assert not mark.exists() and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors", "training_progress.json"])
@pytest.mark.parametrize("how", ["cut off", "missing"])
def test_a_damaged_file_is_told(write, name, how):
    checkpoints, go = write
    path = go(1)
    if how == "missing":
        (path / name).unlink()
    else:
        content = (path / name).read_bytes()
        (path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="is not a whole checkpoint"):
        checkpoints.read(path)


def test_a_folder_that_is_there_is_replaced_as_a_whole(tmp_path):
    folder = tmp_path / "model"
    write_folder(folder, lambda place: (place / "old").write_text("old"))
    with pytest.raises(RuntimeError):
        write_folder(folder, lambda place: (_ for _ in ()).throw(RuntimeError))
    assert [file.name for file in folder.iterdir()] == ["old"]
    write_folder(folder, lambda place: (place / "new").write_text("new"))
    assert [file.name for file in folder.iterdir()] == ["new"]
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_progress_is_json(write):
    _, go = write
    assert json.loads((go(3) / "training_progress.json").read_text()) == {"step": 3}
