"""`visual-sentence restore` and `evaluate restoration`: what they write, print and refuse."""

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset, Features, disable_progress_bars, enable_progress_bars
from datasets import Image as ImageFeature
from transformers import AutoTokenizer

from visual_sentence.language import entry_texts
from visual_sentence.modeling import LocalVocabulary, V2LConfig, V2LImageProcessor, V2LModel

SIZES = {"image_size": 16, "block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4}


@pytest.fixture(autouse=True)
def _no_bars():
    """In a process of its own the command silences these before they are made."""
    disable_progress_bars()
    yield
    enable_progress_bars()


@pytest.fixture
def model(llm_folder, tmp_path) -> Path:
    """A saved V2L model of random weights: 16 pixels, 8 x 8 tokens of the tiny language model."""
    torch.manual_seed(0)
    texts = entry_texts(AutoTokenizer.from_pretrained(llm_folder))
    sizes = {"local_codebook_size": len(texts), "local_embedding_dim": 8, "latent_channels": 8}
    model = V2LModel(V2LConfig(encoder_type=None, **SIZES, **sizes, language_model=str(llm_folder)))
    model.set_local_vocabulary(LocalVocabulary(texts, str(llm_folder)))
    folder = tmp_path / "v2l-local"
    model.save_pretrained(folder)
    V2LImageProcessor(local_size=16, do_global_view=False).save_pretrained(folder)
    return folder


@pytest.fixture
def files(pictures, tmp_path) -> list[Path]:
    paths = [tmp_path / f"{index}.png" for index in range(2)]
    for picture, path in zip(pictures, paths, strict=False):
        picture.save(path)
    return paths


@pytest.fixture
def table(tmp_path, pictures) -> Path:
    path = tmp_path / "pictures.parquet"
    Dataset.from_dict({"picture": pictures}, Features({"picture": ImageFeature()})).to_parquet(path)
    return path


@pytest.fixture
def restore(run, model, tmp_path):
    return lambda *arguments: run("restore", *arguments, "--model", model, "--device", "cpu", "-o", tmp_path / "out")


@pytest.fixture
def evaluate(run, model, table):
    common = ("--data", table, "--model", model, "--device", "cpu", "--perceptual", "none", "--frechet", "none")
    return lambda *arguments: run("evaluate", "restoration", *common, *arguments)


def test_pictures_are_written(restore, files, table, tmp_path):
    done = restore("inpainting", *files, "--examples", table)
    assert done.status == 0, done.err
    assert [line.split(":")[0] for line in done.out.splitlines()] == [str(path) for path in files]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["0.inpainting.png", "0.inpainting.restored.png", "1.inpainting.png", "1.inpainting.restored.png"]


def test_json_says_what_was_done(restore, files, table):
    done = restore("shift", *files, "--examples", table, "--m", 3, "--seed", 2, "--published-shift", "--json")
    found = json.loads(done.out)
    assert [found[name] for name in ("task", "mode", "n", "m", "seed", "shift")] == [
        "shift",
        "leak-free",
        16,
        3,
        2,
        None,
    ]
    assert [row["image"] for row in found["images"]] == [str(path) for path in files] and found["skipped"] == []


def test_damaged_pictures(restore, files, table, bad_files):
    bad = bad_files["text"][0]
    done = restore("rotation", *files, bad, "--examples", table, "--degraded", "--skip-bad", "--dtype", "float32")
    assert done.status == 0 and done.err.count("skipped: ") == 1 and len(done.out.splitlines()) == 2


def test_evaluation_prints_numbers(evaluate):
    result = json.loads(evaluate("--task", "outpainting", "--limit", 3, "--json").out)
    assert (result["pictures"], result["mode"], result["grid"]) == (3, "leak-free", [8, 8])
    printed = evaluate("--task", "rotation", "--mode", "paper", "--limit", 2).out.splitlines()
    assert printed[0].startswith("rotation, mode paper, n = 16, m = 2, seed 0, 2 pictures, ")
    assert printed[2] == "| | psnr | ssim | identical | token_accuracy |"
    rows = [line.split(" | ")[0] for line in printed[4:]]
    assert rows == ["| degraded", "| degraded tokens", "| random tokens", "| restored", "| clean tokens"]


def test_mistakes_are_one_line_before_any_model_is_loaded(restore, evaluate, files, table, monkeypatch):
    monkeypatch.setattr("visual_sentence.restoration.load_picture_restorer", lambda *args: pytest.fail("loaded"))
    restore("haze", *files).is_one_line("no restoration task 'haze'", "choose one of inpainting")
    restore("shift", *files).is_one_line("give examples, or choose mode paper")
    restore("shift", *files, "--mode", "paper", "--degraded").is_one_line("come degraded: choose mode leak-free")
    restore("shift", *files, "--examples", table.with_name("no.parquet")).is_one_line("no such file")
    restore("shift", *files, "--mode", "honest").is_one_line("no restoration mode 'honest'")
    evaluate("--task", "haze").is_one_line("no restoration task 'haze'")


def test_what_cannot_be_is_one_line(restore, evaluate, files, run, v2l_folder, tmp_path):
    evaluate("--task", "shift").is_one_line("all of the data is measured: give --examples, or --limit")
    served = ("--mode", "paper", "--llm", "http://localhost:1/v1")
    restore("shift", *files, *served).is_one_line("is a served language model", "give a folder or a Hub id")
    lacking = run("restore", "shift", *files, "--mode", "paper", "--model", v2l_folder, "-o", tmp_path / "out")
    lacking.is_one_line("without a local half")
