"""The commands, run in this process with tiny models."""

import json
from collections.abc import Callable

import datasets
import pytest
import transformers

from visual_sentence_cli import main


@pytest.fixture
def run(monkeypatch, capsys, tmp_path) -> Callable[..., tuple[int, str, str]]:
    """Runs `visual-sentence`: status, standard output, standard error."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["visual-sentence", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main()
        return exit_info.value.code or 0, *capsys.readouterr()

    yield call
    transformers.utils.logging.enable_progress_bar()
    datasets.enable_progress_bars()


def test_keyframes(run, scenes, tmp_path):
    status, out, err = run("keyframes", scenes, "--output", tmp_path / "a")
    assert (status, err) == (0, "") and len(out.splitlines()) == 3
    assert out.splitlines()[1] == f"{tmp_path / 'a' / 'frame-000040.jpg'}: frame 40, 1.600 s, shot 1"
    status, out, _ = run(
        *("keyframes", scenes, "-o", tmp_path / "b", "--method", "stride", "--stride", 10, "--max-frames", 3),
        *("--start", 0.1, "--max-side", 32, "--format", "png", "--json"),
    )
    record = json.loads(out)
    assert status == 0 and [frame["index"] for frame in record["frames"]] == [3, 13, 23]
    assert record["setting"]["max_side"] == 32 and (tmp_path / "b" / "frame-000013.png").exists()
    assert record["output"] == str(tmp_path / "b")
    for options, shots in (
        (("--threshold", 250, "--detector", "content"), 1),
        (("--min-shot", 1.5), 2),
        (("--frames-per-shot", 2), 3),
    ):
        record = json.loads(run("keyframes", scenes, "-o", tmp_path / f"c{shots}", "--json", *options)[1])
        assert len(record["shots"]) == shots and len(record["frames"]) == (6 if shots == 3 else shots)


def test_sentence(run, levels, v2l_folder, llm_folder, pictures, tmp_path):
    status, out, err = run(
        *("sentence", levels, "-o", tmp_path / "a", "--frames", 4, "--stride", 3, "--sentences", 0),
        *("--model", v2l_folder, "--words", 2, "--device", "cpu", "--json"),
    )
    record = json.loads(out)
    assert status == 0 and record["description_kind"] == "words" and record["setting"]["sentences"] is None
    assert [row["index"] for row in record["frames"]] == list(range(0, 24, 3))
    assert all(len(row["description"].split(", ")) == 2 for row in record["frames"])
    assert err == "note: The last 2 frames of levels.mp4 do not fill a sentence and are left out.\n"
    folder = tmp_path / "examples"
    folder.mkdir()
    lines = [json.dumps({"file_name": f"{place}.png", "caption": "A thing."}) for place in range(3)]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    for place in range(3):
        pictures[place].save(folder / f"{place}.png")
    status, out, _ = run(
        *("sentence", levels, "-o", tmp_path / "b", "--frames", 2, "--model", v2l_folder, "--llm", llm_folder),
        *("--examples", folder, "--num-examples", 2, "--words", 2, "--device", "cpu", "--dtype", "float32", "--json"),
    )
    assert status == 0 and {row["description_kind"] for row in json.loads(out)["frames"]} == {"caption"}
    status, out, _ = run("sentence", levels, "-o", tmp_path / "c", "--frames", 3, "--no-describe")
    assert out == "".join(f"sentence 0, frame {place}, {place / 25:.3f} s, shot 0\n" for place in (0, 8, 16))


def test_a_damaged_video_is_used_with_a_note(run, cut_off, tmp_path):
    status, out, err = run("keyframes", cut_off, "-o", tmp_path / "a")
    assert status == 0 and out and err.startswith("note: cut.mp4: ") and err.count("\n") == 1


def test_wrong_use_is_one_line_and_leaves_nothing(run, scenes, good_files, bad_files, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "visual_sentence.words.WordFinder.load", lambda *_, **__: pytest.fail("a model was loaded for no video")
    )
    new = tmp_path / "new"
    for arguments, said in [
        (("keyframes", tmp_path / "none.mp4", "-o", new), "no such file"),
        (("keyframes", good_files["plain"], "-o", new), "a single picture where a video was expected"),
        (("sentence", bad_files["text"][0], "-o", new), "looks like text"),
        (("sentence", tmp_path, "-o", new), "is a folder"),
        (("keyframes", scenes), "--output"),
        (("keyframes", scenes, "-o", new, "--method", "best"), "use shots or stride"),
        (("keyframes", scenes, "-o", new, "--detector", "best"), "use adaptive or content"),
        (("keyframes", scenes, "-o", new, "--stride", 0), "--stride"),
        (("sentence", scenes, "-o", new, "--start", 99, "--no-describe"), "start earlier"),
        (("sentence", scenes, "-o", new, "--frames", 1), "--frames"),
        (("sentence", scenes, "-o", good_files["plain"].parent, "--no-describe"), "not empty, and nothing is overw"),
    ]:
        status, out, err = run(*arguments)
        assert (status, out) == (2, "") and err.count("\n") == 1 and said in err, err
    assert not new.exists()
