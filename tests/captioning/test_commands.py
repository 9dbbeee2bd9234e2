"""The commands, run in this process with tiny models."""

import json
from collections.abc import Callable

import datasets
import pytest
import transformers
from PIL import Image

from visual_sentence.captioning import InContextSetting, answer, caption
from visual_sentence.errors import UserError
from visual_sentence_cli import main

SMALL = ("--words", 3, "--num-examples", 2, "--max-new-tokens", 5, "--device", "cpu", "--dtype", "float32")
SETTING = InContextSetting(num_words=3, num_examples=2, max_new_tokens=5)


@pytest.fixture
def quiet():
    """In a process of its own the command switches the libraries' bars off before they are imported."""
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    yield
    transformers.utils.logging.enable_progress_bar()
    datasets.enable_progress_bars()


@pytest.fixture
def run(quiet, monkeypatch, capsys, v2l_folder, llm_folder) -> Callable[..., tuple[int, str, str]]:
    """Runs `visual-sentence` with the tiny models: status, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        models = ("--model", v2l_folder, "--llm", llm_folder)
        monkeypatch.setattr("sys.argv", ["visual-sentence", *map(str, (*arguments, *models, *SMALL))])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main()
        return exit_info.value.code or 0, *capsys.readouterr()

    return call


@pytest.fixture
def new(pictures, tmp_path) -> list:
    """Two pictures that are in no table."""
    paths = [tmp_path / "new0.png", tmp_path / "new1.png"]
    for path, picture in zip(paths, pictures, strict=False):
        picture.rotate(90).save(path)
    return paths


@pytest.fixture
def answer_folder(pictures, tmp_path, folder_of):
    rows = [
        {"question": "What is it?", "answers": ["cat", "dog", "cat"]},
        {"question": "Is it red?", "answers": ["no"]},
    ]
    return folder_of(tmp_path / "asked", [(pictures[place], rows[place % 2]) for place in range(4)])


def test_caption_prints_what_the_library_writes(run, new, caption_folder, v2l_folder, llm_folder, tmp_path):
    expected = caption(new, str(caption_folder), str(v2l_folder), str(llm_folder), SETTING, "float32", "cpu")
    status, out, err = run("caption", *new, "--examples", caption_folder, "--json", "--draw", tmp_path / "drawn.png")
    record = json.loads(out)
    assert (status, err) == (0, "")
    assert [(row["text"], tuple(row["words"]), row["copied"]) for row in record["images"]] == [
        (found.text, found.words, found.copied) for found in expected
    ]
    assert record["setting"]["num_examples"] == 2 and record["skipped"] == []
    assert Image.open(tmp_path / "drawn.png").width > 600
    _, out, _ = run("caption", *new, "--examples", caption_folder)
    assert out.splitlines()[0].startswith(f"{new[0]}: {expected[0].text or '(nothing was written)'}")


def test_every_option_reaches_the_prompt(run, new, caption_folder, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "visual_sentence.completion.local.LocalCompletions.complete",
        lambda self, prompts, max_new_tokens, stop: [seen.append((prompts[0], max_new_tokens)) or ""] * len(prompts),
    )
    for options in [(), ("--choose", "nearest"), ("--seed", 1), ("--prompt", "paper"), ("--caption-column", "caption")]:
        assert run("caption", new[0], "--examples", caption_folder, *options)[0] == 0
    prompts = [prompt for prompt, _ in seen]
    assert len(set(prompts)) == 4 and prompts[4] == prompts[0]  # the column is the one that was guessed
    assert {number for _, number in seen} == {5}


def test_answer_prints_what_the_library_writes(run, new, answer_folder, v2l_folder, llm_folder):
    models = (str(v2l_folder), str(llm_folder), SETTING, "float32", "cpu")
    expected = answer(new, "What is it?", str(answer_folder), *models)
    status, out, _ = run("answer", *new, "--question", "What is it?", "--examples", answer_folder, "--json")
    record = json.loads(out)
    assert status == 0 and record["question"] == "What is it?"
    assert [(row["answer"], row["text"]) for row in record["images"]] == [(row.answer, row.text) for row in expected]
    with pytest.raises(UserError, match="1 questions for 2 pictures"):
        answer(new, ["What is it?"], str(answer_folder), *models)


def test_evaluate_both_tasks(run, caption_folder, answer_folder):
    status, out, _ = run("evaluate", "captioning", "--data", caption_folder, "--examples", caption_folder, "--json")
    record = json.loads(out)
    assert status == 0 and record["results"]["n"] == len(record["texts"]) == 5
    assert record["setting"]["words" if "words" in record["setting"] else "num_words"] == 3
    status, out, _ = run("evaluate", "captioning", "--data", caption_folder, "--examples", f"{caption_folder}[:3]")
    assert status == 0 and "| measure | value | nearest caption |" in out and "| copied | " in out
    status, out, _ = run(
        *("evaluate", "question-answering", "--data", answer_folder, "--examples", answer_folder, "--json"),
        "--shuffle-words",
    )
    record = json.loads(out)
    assert status == 0 and record["setting"]["shuffle_words"] is True
    assert record["results"]["n"] == 4 and record["results"]["most_frequent_answer"]["answer"] == "cat"


def test_bad_examples_and_pictures_are_one_line(run, new, caption_folder, tmp_path):
    (tmp_path / "notes.png").write_text("text")
    for arguments, message in [
        (("caption", new[0], "--examples", tmp_path / "none.parquet"), "there is no such file"),
        (("caption", tmp_path / "notes.png", "--examples", caption_folder), "is not a picture"),
        (("caption", new[0], "--examples", caption_folder, "--choose", "best"), "use random or nearest"),
        (("caption", new[0], "--examples", caption_folder, "--draw", tmp_path / "a.xyz"), "name a .jpg or .png"),
        (("answer", new[0], "--question", "Who?", "--examples", caption_folder), "no column of questions"),
        (("answer", new[0], "--examples", caption_folder), "--question"),
    ]:
        status, out, err = run(*arguments)
        assert (status, out) == (2, "") and err.count("\n") == 1 and message in err, err


def test_skip_bad_names_what_it_leaves_out(run, new, caption_folder, tmp_path):
    (tmp_path / "notes.png").write_text("text")
    (caption_folder / "0.png").write_bytes(b"text")
    arguments = ("caption", new[0], tmp_path / "notes.png", "--examples", caption_folder, "--choose", "nearest")
    assert run(*arguments)[0] == 2
    status, out, err = run(*arguments, "--skip-bad")
    assert status == 0 and len(out.splitlines()) == 1
    assert [line[:9] for line in err.splitlines()] == ["skipped: "] * 2 and "row 0" in err and "notes.png" in err
