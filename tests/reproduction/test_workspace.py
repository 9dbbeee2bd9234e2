"""What is finished is kept, what is not is gone on with, and two processes keep out of each other's way."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from visual_sentence import UserError
from visual_sentence.reproduction import workspace as rooms
from visual_sentence.reproduction.workspace import LOCK, Workspace, commit, write_json

SETTINGS = {"steps": 3, "codes": [8, 4]}


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def workspace(tmp_path, told) -> Workspace:
    return Workspace(tmp_path / "new" / "output", told.append)


@pytest.fixture
def dead_process() -> int:
    """The id of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def write_model(folder: Path) -> None:
    (folder / "model.bin").write_text("weights")


def unasked(*_: object) -> None:
    pytest.fail("what is finished was made again")


def interrupted(folder: Path) -> None:
    (folder / "checkpoint").write_text("half")
    raise KeyboardInterrupt


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_finished_piece_is_not_made_twice(workspace, told):
    folder = workspace.made("vqgan-8", SETTINGS, write_model)
    assert files(folder) == ["done.json", "model.bin"]
    assert workspace.made("vqgan-8", SETTINGS, unasked) == folder
    assert Workspace(workspace.folder, told.append).made("vqgan-8", SETTINGS, unasked) == folder
    assert told == ["making vqgan-8"]


def test_a_finished_piece_says_what_it_was_made_with(workspace):
    record = json.loads((workspace.made("vqgan-8", SETTINGS, write_model) / "done.json").read_text())
    assert record == {"name": "vqgan-8", "settings": SETTINGS, "seconds": pytest.approx(0, abs=5)}


@pytest.mark.parametrize(
    ("name", "settings"), [("vqgan-8", {**SETTINGS, "steps": 4}), ("vqgan-9", SETTINGS), ("vqgan-8", {"steps": 3})]
)
def test_other_settings_or_another_name_make_another_folder(workspace, name, settings):
    first = workspace.made("vqgan-8", SETTINGS, write_model)
    assert workspace.made(name, settings, write_model) != first
    assert len(list((workspace.folder / "made").iterdir())) == 2


def test_the_same_settings_are_found_whether_they_hold_tuples_or_lists(workspace):
    first = workspace.made("vqgan-8", SETTINGS, write_model)
    assert workspace.made("vqgan-8", {"steps": 3, "codes": (8, 4)}, unasked) == first


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, UserError])
def test_a_piece_that_fails_is_made_in_the_same_folder_by_the_next_run(workspace, error):
    left: list[Path] = []

    def fail(folder: Path) -> None:
        (folder / "checkpoint").write_text("half")
        left.append(folder)
        raise error("no")

    with pytest.raises(error):
        workspace.made("vqgan-8", SETTINGS, fail)
    assert files(left[0]) == ["checkpoint"]
    assert workspace.made("vqgan-8", SETTINGS, write_model) == left[0]
    assert files(left[0]) == ["checkpoint", "done.json", "model.bin"]


def test_a_folder_at_which_another_process_works_is_refused_in_one_line(workspace, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        workspace.made("vqgan-8", SETTINGS, interrupted)
    (folder,) = (workspace.folder / "made").iterdir()
    (folder / LOCK).write_text(str(os.getppid()))
    with pytest.raises(UserError) as refused:
        workspace.made("vqgan-8", SETTINGS, unasked)
    assert re.fullmatch(rf"Process {os.getppid()} is at work in {folder}, .* another --output\.", str(refused.value))
    assert files(folder) == [LOCK, "checkpoint"]


def test_who_works_in_a_folder_is_written_there_and_only_as_long(workspace):
    def make(folder: Path) -> None:
        assert (folder / LOCK).read_text() == str(os.getpid())
        with pytest.raises(UserError, match="is at work in"):
            Workspace(workspace.folder, print).made("vqgan-8", SETTINGS, unasked)

    assert LOCK not in files(workspace.made("vqgan-8", SETTINGS, make))


@pytest.mark.parametrize("content", ["dead", "", "no number"])
def test_what_a_process_left_that_is_no_more_is_taken_over(workspace, dead_process, content):
    with pytest.raises(KeyboardInterrupt):
        workspace.made("vqgan-8", SETTINGS, interrupted)
    (folder,) = (workspace.folder / "made").iterdir()
    (folder / LOCK).write_text(str(dead_process) if content == "dead" else content)
    assert workspace.made("vqgan-8", SETTINGS, write_model) == folder
    assert files(folder) == ["checkpoint", "done.json", "model.bin"]


def test_a_process_of_another_user_counts_as_alive(monkeypatch):
    def refuse(process: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(rooms.os, "kill", refuse)
    assert rooms._is_alive(1)


def test_what_another_process_finished_in_the_meantime_is_not_made_again(workspace, monkeypatch):
    alone = Workspace._alone

    def finish_first(self, folder: Path):
        write_json(folder / "done.json", {})
        return alone(self, folder)

    monkeypatch.setattr(Workspace, "_alone", finish_first)
    workspace.made("vqgan-8", SETTINGS, unasked)


def test_a_measured_row_is_read_back(workspace, told):
    first = workspace.measured("table", "v2l-5:llm", SETTINGS, lambda: {"dice": {"value": 1.5}})
    assert first["cells"] == {"dice": {"value": 1.5}} and first["settings"] == SETTINGS
    assert workspace.measured("table", "v2l-5:llm", SETTINGS, unasked) == first
    assert told == ["measuring table: v2l-5:llm"]


def test_other_settings_measure_a_row_again(workspace):
    workspace.measured("table", "row", SETTINGS, lambda: {"dice": 1})
    other = workspace.measured("table", "row", {**SETTINGS, "steps": 9}, lambda: {"dice": 2})
    assert other["cells"] == {"dice": 2}
    assert workspace.measured("table", "row", {**SETTINGS, "steps": 9}, unasked) == other


def test_rows_and_tables_do_not_share_what_was_measured(workspace):
    for table, row, value in (("one", "a", 1), ("one", "b", 2), ("two", "a", 3)):
        assert workspace.measured(table, row, SETTINGS, lambda value=value: {"x": value})["cells"] == {"x": value}


def test_a_row_that_cannot_be_measured_leaves_nothing_behind(workspace):
    def fail() -> dict:
        raise rooms.NotRunnableError("needs more")

    with pytest.raises(rooms.NotRunnableError, match="needs more"):
        workspace.measured("table", "row", SETTINGS, fail)
    assert workspace.measured("table", "row", SETTINGS, lambda: {"x": 1})["cells"] == {"x": 1}


def test_a_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "done.json"
    with pytest.raises(TypeError):
        write_json(path, {"first": 1, "second": object()})
    assert files(tmp_path) == []
    write_json(path, {"first": 1})
    with pytest.raises(TypeError):
        write_json(path, {"second": object()})
    assert files(tmp_path) == ["done.json"] and json.loads(path.read_text()) == {"first": 1}


def test_a_file_is_written_aside_and_then_renamed(tmp_path, monkeypatch):
    path, seen = tmp_path / "done.json", []
    replace = Path.replace

    def watch(aside: Path, target: Path) -> Path:
        seen.append((path.exists(), json.loads(aside.read_text())))
        return replace(aside, target)

    monkeypatch.setattr(Path, "replace", watch)
    write_json(path, {"ü": 1})
    assert seen == [(False, {"ü": 1})] and path.read_text(encoding="utf-8") == '{\n "ü": 1\n}\n'


def test_an_output_that_is_a_file_is_refused_in_one_line(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match=r"taken cannot be written to \(File exists\): give another --output\.$"):
        Workspace(tmp_path / "taken", print)


def test_the_commit_is_named_or_unknown(monkeypatch):
    assert re.fullmatch(r"[0-9a-f]{7,}\+?|unknown", commit())
    monkeypatch.setattr(
        rooms.subprocess, "run", lambda *args, **kwargs: (_ for _ in ()).throw(FileNotFoundError("git"))
    )
    assert commit() == "unknown"
