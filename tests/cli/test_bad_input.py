"""The command answers every mistake in one line that says what was found and what to do, with status 2."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from visual_sentence.words import WordFinder


@pytest.fixture
def bert_folder(tmp_path) -> Path:
    """A model of a kind that nothing here can use."""
    config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    BertModel(config).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


@pytest.fixture
def nothing_loads(monkeypatch):
    """Fails the test as soon as a V2L model is asked for."""

    def load(*args, **kwargs):
        pytest.fail("a model was loaded before the pictures were checked")

    monkeypatch.setattr(WordFinder, "load", load)


@pytest.fixture
def describe(run, v2l_folder):
    return lambda *arguments: run("describe", "--model", v2l_folder, "--device", "cpu", *arguments)


@pytest.fixture
def classify(run, v2l_folder, llm_folder, class_folders):
    models = ("--model", v2l_folder, "--llm", llm_folder, "--device", "cpu", "--dtype", "float32")
    return lambda *arguments: run("classify", *models, "--support", class_folders, *arguments)


def test_unusual_but_good_pictures_work(describe, good_files):
    outcome = describe(*good_files.values())
    assert (outcome.status, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [str(path) for path in good_files.values()]
    assert all(len(line.partition(": ")[2].split(", ")) == 3 for line in lines)


def test_unusual_but_good_pictures_are_classified(classify, good_files):
    outcome = classify("--json", *good_files.values())
    assert (outcome.status, outcome.err) == (0, "")
    rows = json.loads(outcome.out)["images"]
    assert [row["image"] for row in rows] == [str(path) for path in good_files.values()]
    for row in rows:
        assert {answer["label"] for answer in row["answers"]} == {"french bulldog", "goldfish"}
        assert sum(answer["score"] for answer in row["answers"]) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "binary", "empty", "truncated", "huge"])
def test_a_bad_picture_stops_everything_before_any_work(kind, run, bad_files, good_files, class_folders, nothing_loads):
    path, found, remedy = bad_files[kind]
    run("describe", path).is_one_line(str(path), found, remedy)
    run("describe", good_files["plain"], path).is_one_line(str(path), found, remedy, "--skip-bad")
    run("classify", path, "--support", class_folders).is_one_line(str(path), found, remedy)
    shutil.copytree(path, class_folders / "goldfish" / path.name) if path.is_dir() else None
    if path.is_file():
        shutil.copy(path, class_folders / "goldfish" / path.name)
        run("classify", good_files["plain"], "--support", class_folders).is_one_line(path.name, found, remedy)


def test_bad_pictures_are_named_and_skipped_on_demand(describe, classify, good_files, bad_files):
    bad = [path for path, _, _ in bad_files.values()]
    for command in (describe, classify):
        outcome = command("--skip-bad", "--json", good_files["plain"], *bad, good_files["cmyk"])
        assert outcome.status == 0
        lines = outcome.err.splitlines()
        assert len(lines) == len(bad)
        for line, (path, found, _) in zip(lines, bad_files.values(), strict=True):
            assert line.startswith(f"skipped: {path}") and found in line
        printed = json.loads(outcome.out)
        assert [row["image"] for row in printed["images"]] == [str(good_files["plain"]), str(good_files["cmyk"])]
        assert [f"skipped: {problem}" for problem in printed["skipped"]] == lines


def test_a_bad_example_is_skipped_while_its_class_has_another(classify, class_folders, good_files, bad_files):
    shutil.copy(bad_files["text"][0], class_folders / "goldfish" / "notes.png")
    outcome = classify("--skip-bad", good_files["plain"])
    assert outcome.status == 0 and outcome.err.count("\n") == 1
    (class_folders / "goldfish" / "0.png").unlink()
    outcome = classify("--skip-bad", good_files["plain"])
    assert outcome.status == 2
    *skipped, error = outcome.err.splitlines()
    assert len(skipped) == 1 and error.startswith("error: ") and "goldfish" in error and "Traceback" not in error


def test_nothing_but_bad_pictures_is_a_mistake(run, bad_files, nothing_loads):
    outcome = run("describe", "--skip-bad", *(path for path, _, _ in bad_files.values()))
    outcome.is_one_line(f"None of the {len(bad_files)} files is a picture")


def test_support_folders(run, tmp_path, class_folders, good_files, nothing_loads):
    picture = good_files["plain"]
    run("classify", picture, "--support", tmp_path / "nowhere").is_one_line("nowhere", "one folder per class")
    run("classify", picture, "--support", class_folders / "goldfish").is_one_line("goldfish", "no class folders")
    (class_folders / "empty").mkdir()
    run("classify", picture, "--support", class_folders).is_one_line("empty", "holds no pictures", "put some in")
    run("classify", picture).is_one_line("--support", "--help")


def test_unknown_models(run, good_files, tmp_path, v2l_folder, bert_folder, class_folders):
    picture = good_files["plain"]
    hub = run("describe", picture, "--model", "no-such-owner/no-such-model")
    hub.is_one_line("no-such-owner/no-such-model", "spelling", "network", "'offline'")
    run("describe", picture, "--model", tmp_path / "nowhere").is_one_line("nowhere", "found nothing", "check the path")
    run("describe", picture, "--model", good_files["plain"]).is_one_line("plain.jpg", "a model is a folder")
    run("describe", picture, "--model", class_folders).is_one_line(str(class_folders), "not a model")
    run("describe", picture, "--model", bert_folder).is_one_line(str(bert_folder), "bert model", "V2L model")

    def llm(reference):
        return run("classify", picture, "--support", class_folders, "--model", v2l_folder, "--llm", reference)

    llm("no-such-owner/no-such-llm").is_one_line("no-such-owner/no-such-llm", "spelling", "network", "'offline'")
    llm(tmp_path / "nowhere").is_one_line("nowhere", "found nothing", "check the path")
    llm(class_folders).is_one_line(str(class_folders), "not a model")
    llm(v2l_folder).is_one_line(str(v2l_folder), "v2l model, not a causal language model")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "codebook.json", "processor_config.json"])
def test_damaged_model_folders(name, describe, v2l_folder, good_files):
    path = v2l_folder / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    describe(good_files["plain"]).is_one_line(str(v2l_folder), "not a model that can be loaded")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "processor_config.json"])
def test_incomplete_model_folders(name, describe, v2l_folder, good_files):
    (v2l_folder / name).unlink()
    describe(good_files["plain"]).is_one_line(str(v2l_folder), "not a model that can be loaded")


def test_a_v2l_model_without_words(describe, v2l_folder, good_files):
    (v2l_folder / "codebook.json").unlink()
    describe(good_files["plain"]).is_one_line("codebook.json", "build a codebook")


def test_a_model_made_of_packages_that_are_not_there(run, good_files, monkeypatch, tmp_path):
    from visual_sentence.offline.packages import OfflinePackage

    monkeypatch.setenv("VISUAL_SENTENCE_HOME", str(tmp_path))
    monkeypatch.setattr(OfflinePackage, "folder", None)
    outcome = run("describe", good_files["plain"])
    outcome.is_one_line("not installed", "visual-sentence offline install")


def test_numbers_out_of_range(describe, classify, good_files):
    picture = good_files["plain"]
    describe(picture, "--words", 0).is_one_line("--words", "1", "--help")
    describe(picture, "--words", "many").is_one_line("--words", "integer", "--help")
    describe(picture, "--words", 11).is_one_line("11", "the codebook offers 1 to 10 distinct words")
    classify(picture, "--words", 0).is_one_line("--words", "1", "--help")
    classify(picture, "--words", 11).is_one_line("11", "the codebook offers 1 to 10 distinct words")
    classify(picture, "--repetitions", -1).is_one_line("--repetitions", "0", "--help")


def test_unknown_choices(classify, describe, run, good_files):
    picture = good_files["plain"]
    classify(picture, "--scoring", "best").is_one_line("best", "calibrated", "position-mask")
    classify(picture, "--prompt", "poem").is_one_line("poem", "published-code")
    classify(picture, "--dtype", "int3").is_one_line("int3", "float32, bfloat16, float16")
    classify(picture, "--device", "abacus").is_one_line("abacus", "cpu")
    describe(picture, "--device", "abacus").is_one_line("abacus", "cpu")
    classify(picture, "--no-such-option").is_one_line("--no-such-option", "--help")
    describe().is_one_line("IMAGE", "--help")
    run("no-such-command").is_one_line("no-such-command", "(see `visual-sentence --help`)")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there(describe, good_files):
    describe(good_files["plain"], "--device", "cuda").is_one_line("cuda", "--device cpu")


def test_prompts_beyond_the_context(classify, good_files):
    classify(good_files["plain"], "--repetitions", 100).is_one_line("positions, the model has 2048", "fewer")


def test_a_network_that_does_not_answer(run, good_files, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("We couldn't connect to 'https://huggingface.co' to load the files.\nCheck your connection.")

    monkeypatch.setattr("visual_sentence.references.AutoConfig.from_pretrained", offline)
    outcome = run("describe", good_files["plain"], "--model", "some-owner/some-model")
    outcome.is_one_line("some-owner/some-model", "couldn't connect", "network")


def test_folders_that_cannot_be_made(run, tmp_path):
    (tmp_path / "taken").write_text("a file")
    run("demo", "--output", tmp_path / "taken").is_one_line(str(tmp_path / "taken"), "--output")
    run("demo", "--output", tmp_path / "taken" / "deeper").is_one_line(str(tmp_path / "taken"), "--output")


def test_evaluation_data(run, tmp_path, nothing_loads):
    few_shot = ("evaluate", "few-shot", "--data")
    run(*few_shot, tmp_path / "missing.parquet").is_one_line("missing.parquet", "no such file", "check the path")
    (tmp_path / "broken.parquet").write_text("no table")
    run(*few_shot, tmp_path / "broken.parquet").is_one_line("broken.parquet", "cannot be loaded as a data set")
    run(*few_shot, "no-such-owner/no-such-data").is_one_line("no-such-owner/no-such-data", "Hub id")
    run(*few_shot, "x.parquet", "--limit", 0).is_one_line("--limit", "1", "--help")
    run(*few_shot, "x.parquet", "--prompt", "poem").is_one_line("poem", "published-code")
    run("evaluate", "few-shot").is_one_line("--data", "(see `visual-sentence evaluate few-shot --help`)")


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--encoder", "open_clip:ViT-B-32@openai"], "open_clip:ViT-B-32@openai cannot be loaded by open_clip"),
        (["--encoder", "no-such-owner/no-such-model"], "no-such-owner/no-such-model is neither a local folder"),
    ],
)
def test_the_libraries_stay_silent_in_a_process_of_its_own(arguments, found, run_apart, class_folders, tmp_path):
    images = ("--images", class_folders, "--output", tmp_path / "out")
    run_apart("codebook", "build", *images, *arguments).is_one_line(found)
