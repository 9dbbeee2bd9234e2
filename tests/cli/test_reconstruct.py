"""`visual-sentence reconstruct` and `evaluate reconstruction`: what they write, print and refuse."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, disable_progress_bars, enable_progress_bars
from datasets import Image as ImageFeature
from PIL import Image

from visual_sentence.modeling import (
    LocalVocabulary,
    V2LConfig,
    V2LImageProcessor,
    V2LModel,
    VQGANConfig,
    VQGANImageProcessor,
    VQGANModel,
)

SIZES = {"image_size": 16, "block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4}
NO_NETWORKS = ("--perceptual", "none", "--frechet", "none")


@pytest.fixture(autouse=True)
def _no_bars():
    """In a process of its own the command silences these before they are made."""
    disable_progress_bars()
    yield
    enable_progress_bars()


@pytest.fixture
def vqgan_folder(tmp_path) -> Path:
    """A saved VQGAN of random weights: 16 pixels, 8 x 8 tokens of 24."""
    torch.manual_seed(0)
    folder = tmp_path / "vqgan"
    VQGANModel(VQGANConfig(**SIZES, latent_channels=8, codebook_size=24, codebook_dim=8)).save_pretrained(folder)
    VQGANImageProcessor(local_size=16).save_pretrained(folder)
    return folder


@pytest.fixture
def words_folder(tmp_path) -> Path:
    """A saved V2L model with a local half only, whose 24 codes are words."""
    torch.manual_seed(0)
    folder = tmp_path / "v2l-local"
    sizes = {"local_codebook_size": 24, "local_embedding_dim": 8, "latent_channels": 8}
    model = V2LModel(V2LConfig(encoder_type=None, **SIZES, **sizes))
    model.set_local_vocabulary(LocalVocabulary([f"word{index}" for index in range(24)]))
    model.save_pretrained(folder)
    V2LImageProcessor(local_size=16, do_global_view=False).save_pretrained(folder)
    return folder


@pytest.fixture
def reconstruct(run, vqgan_folder, tmp_path):
    models = ("--model", vqgan_folder, "--device", "cpu", "-o", tmp_path / "out")
    return lambda *arguments: run("reconstruct", *models, *arguments)


@pytest.fixture
def table(tmp_path, pictures) -> Path:
    path = tmp_path / "pictures.parquet"
    Dataset.from_dict({"picture": pictures}, Features({"picture": ImageFeature()})).to_parquet(path)
    return path


@pytest.fixture
def nothing_loads(monkeypatch):
    """Fails the test as soon as a model is asked for."""

    def load(*args, **kwargs):
        pytest.fail("a model was loaded before the pictures were checked")

    monkeypatch.setattr("visual_sentence.reconstruction.load_image_codec", load)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_kind_of_good_picture(reconstruct, good_files, tmp_path):
    outcome = reconstruct(*good_files.values())
    assert (outcome.status, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert len(lines) == len(good_files)
    for line, path in zip(lines, good_files.values(), strict=True):
        result = tmp_path / "out" / f"{path.stem}.reconstruction.png"
        assert line.startswith(f"{path}: 8 x 8 tokens, ") and " dB: " in line and line.endswith(str(result))
        assert Image.open(result).size == (16 + 2 + 16, 16)
    assert len(list((tmp_path / "out").iterdir())) == 2 * len(good_files)


def test_words_and_tokens(run, words_folder, good_files, tmp_path):
    options = ("--model", words_folder, "--output", tmp_path / "out", "--json", "--batch-size", 2, "--device", "cpu")
    outcome = run("reconstruct", *options, good_files["plain"], good_files["cmyk"], good_files["palette"])
    assert (outcome.status, outcome.err) == (0, "")
    printed = json.loads(outcome.out)
    assert printed["model"] == str(words_folder) and printed["skipped"] == []
    assert [row["image"] for row in printed["images"]] == [
        str(good_files[kind]) for kind in ("plain", "cmyk", "palette")
    ]
    for row in printed["images"]:
        tokens = json.loads(Path(row["tokens"]).read_text(encoding="utf-8"))
        assert set(tokens) == {"image", "model", "grid", "tokens", "words", "global_tokens", "global_words"}
        assert (tokens["image"], tokens["model"]) == (row["image"], str(words_folder))
        assert tokens["grid"] == row["grid"] == [8, 8] == list(np.shape(tokens["tokens"]))
        assert tokens["words"] == [[f"word{token}" for token in line] for line in tokens["tokens"]]
        assert len(np.unique(tokens["tokens"])) == row["distinct_tokens"]
        assert tokens["global_tokens"] is tokens["global_words"] is None
        picture = Image.open(row["words"])
        assert min(picture.size) > 600 and len(picture.convert("RGB").getcolors(2**24)) > 100


def test_pictures_of_one_name_do_not_overwrite_each_other(reconstruct, pictures, tmp_path):
    paths = [tmp_path / name for name in ("a/cat.png", "b/cat.png", "b/cat-2.png", "c/CAT.jpg")]
    for path, picture in zip(paths, pictures, strict=False):
        path.parent.mkdir(exist_ok=True)
        picture.save(path)
    outcome = reconstruct("--json", *paths)
    names = [Path(row["reconstruction"]).name for row in json.loads(outcome.out)["images"]]
    assert names == [f"{name}.reconstruction.png" for name in ("cat", "cat-3", "cat-2", "CAT-4")]
    for row, path in zip(json.loads(outcome.out)["images"], paths, strict=True):
        assert json.loads(Path(row["tokens"]).read_text())["image"] == str(path)
    assert len(list((tmp_path / "out").iterdir())) == 8


def test_inputs_are_never_overwritten(reconstruct, pictures, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "elsewhere").mkdir()
    pictures[0].save(out / "cat.png")
    pictures[1].save(out / "cat.reconstruction.png")
    pictures[2].save(tmp_path / "elsewhere" / "dog.png")
    pictures[3].save(tmp_path / "elsewhere" / "real.png")
    (out / "dog.reconstruction.png").symlink_to(tmp_path / "elsewhere" / "real.png")
    inputs = [out / "cat.png", out / "cat.reconstruction.png", tmp_path / "elsewhere" / "dog.png"]
    inputs += [out / "dog.reconstruction.png"]
    before = [path.read_bytes() for path in inputs]
    outcome = reconstruct("--json", *inputs)
    assert outcome.status == 0
    assert [path.read_bytes() for path in inputs] == before
    assert (out / "dog.reconstruction.png").is_symlink()
    names = [Path(row["reconstruction"]).name for row in json.loads(outcome.out)["images"]]
    assert names[0] == "cat-2.reconstruction.png" and names[2] == "dog-2.reconstruction.png"


def test_results_are_replaced_whole_or_not_at_all(reconstruct, good_files, tmp_path, monkeypatch):
    reconstruct(good_files["plain"])
    before = contents(tmp_path / "out")
    assert reconstruct(good_files["plain"]).status == 0
    assert contents(tmp_path / "out") == before

    def full(self, path, *args, **kwargs):
        Path(path).write_bytes(b"half a pic")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    reconstruct(good_files["plain"]).is_one_line(str(tmp_path / "out"), "No space left", "--output")
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "binary", "empty", "truncated", "huge"])
def test_a_bad_picture_stops_everything_before_any_work(
    kind, reconstruct, bad_files, good_files, nothing_loads, tmp_path
):
    path, found, remedy = bad_files[kind]
    reconstruct(path).is_one_line(str(path), found, remedy)
    reconstruct(good_files["plain"], path).is_one_line(str(path), found, remedy, "--skip-bad")
    assert not (tmp_path / "out").exists()


def test_bad_pictures_are_named_and_skipped_on_demand(reconstruct, good_files, bad_files, tmp_path):
    bad = [path for path, _, _ in bad_files.values()]
    outcome = reconstruct("--skip-bad", "--json", good_files["plain"], *bad, good_files["cmyk"])
    assert outcome.status == 0
    lines = outcome.err.splitlines()
    assert len(lines) == len(bad)
    for line, (path, found, _) in zip(lines, bad_files.values(), strict=True):
        assert line.startswith(f"skipped: {path}") and found in line
    printed = json.loads(outcome.out)
    assert [row["image"] for row in printed["images"]] == [str(good_files["plain"]), str(good_files["cmyk"])]
    assert [f"skipped: {problem}" for problem in printed["skipped"]] == lines


def test_models_that_cannot_reconstruct(run, good_files, v2l_folder, tmp_path, table):
    def both(model, *parts):
        run("reconstruct", good_files["plain"], "-o", tmp_path / "out", "--model", model).is_one_line(*parts)
        run("evaluate", "reconstruction", "--data", table, "--model", model, *NO_NETWORKS).is_one_line(*parts)
        assert not (tmp_path / "out").exists()

    both(v2l_folder, str(v2l_folder), "without a local half", "VQGAN")
    both(tmp_path / "nowhere", "found nothing", "check the path")
    both("no-such-owner/no-such-model", "no-such-owner/no-such-model", "spelling")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "preprocessor_config.json"])
def test_damaged_model_folders(name, reconstruct, vqgan_folder, good_files):
    path = vqgan_folder / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    reconstruct(good_files["plain"]).is_one_line(str(vqgan_folder), "not a model that can be loaded")


def test_options_out_of_range(reconstruct, run, vqgan_folder, good_files, tmp_path):
    picture = good_files["plain"]
    reconstruct(picture, "--batch-size", 0).is_one_line("--batch-size", "1", "--help")
    reconstruct(picture, "--dtype", "int3").is_one_line("int3", "float32, bfloat16, float16")
    reconstruct(picture, "--device", "abacus").is_one_line("abacus", "cpu")
    reconstruct().is_one_line("IMAGE", "--help")
    run("reconstruct", picture, "--model", vqgan_folder).is_one_line("--output", "--help")
    (tmp_path / "out").write_text("a file")
    reconstruct(picture).is_one_line(str(tmp_path / "out"), "cannot be written", "--output")


def test_the_model_that_ships_is_taken_where_none_is_named(run, good_files, tmp_path, table):
    outcome = run("reconstruct", good_files["plain"], "-o", tmp_path / "out", "--json", "--device", "cpu")
    assert (outcome.status, outcome.err) == (0, "")
    (row,) = json.loads(outcome.out)["images"]
    assert row["grid"] == [16, 16] and Path(row["words"]).exists()
    outcome = run("evaluate", "reconstruction", "--data", table, "--json", "--device", "cpu", *NO_NETWORKS)
    result = json.loads(outcome.out)
    assert (result["model"], result["tokens_per_image"], result["codebook_size"]) == ("default", 256, 49_152)


def test_evaluation(run, vqgan_folder, table, pictures, tmp_path):
    evaluate = ("evaluate", "reconstruction", "--model", vqgan_folder, "--device", "cpu", *NO_NETWORKS)
    outcome = run(*evaluate, "--data", table, "--json")
    assert (outcome.status, outcome.err) == (0, "")
    result = json.loads(outcome.out)
    assert result["model"] == str(vqgan_folder) and result["data"] == "pictures.parquet"
    assert (result["n"], result["resolution"], result["tokens_per_image"]) == (5, 16, 64)
    assert run(*evaluate, "--data", f"{table}[1:4]", "--json").out.count('"n": 3') == 1
    assert json.loads(run(*evaluate, "--data", table, "--limit", 2, "--json").out)["n"] == 2
    shown = run(*evaluate, "--data", table, "--column", "picture").out
    assert f"| psnr | {result['psnr']:.4g} |" in shown.splitlines()


@pytest.mark.usefixtures("nothing_loads")
def test_evaluation_data(run, vqgan_folder, table, tmp_path):
    def evaluate(data, *arguments):
        return run("evaluate", "reconstruction", "--model", vqgan_folder, "--data", data, *arguments)

    evaluate(tmp_path / "missing.parquet").is_one_line("missing.parquet", "no such file", "check the path")
    evaluate("no-such-owner/no-such-data").is_one_line("no-such-owner/no-such-data", "Hub id")
    evaluate(table, "--column", "label").is_one_line("label", "picture")
    evaluate(table, "--limit", 0).is_one_line("--limit", "1", "--help")
    run("evaluate", "reconstruction", "--model", vqgan_folder).is_one_line("--data", "--help")


def test_a_damaged_picture_ends_an_evaluation_with_its_name(run, vqgan_folder, tmp_path, pictures, bad_files):
    folder = tmp_path / "set"
    folder.mkdir()
    pictures[0].save(folder / "a.png")
    shutil.copy(bad_files["truncated"][0], folder / "b.jpg")
    outcome = run("evaluate", "reconstruction", "--model", vqgan_folder, "--data", folder, *NO_NETWORKS)
    outcome.is_one_line(str(folder / "b.jpg"), "damaged or cut off")


def test_unknown_measures(run, vqgan_folder, table):
    def evaluate(*arguments):
        return run("evaluate", "reconstruction", "--model", vqgan_folder, "--data", table, *arguments)

    evaluate("--perceptual", "eyes", "--frechet", "none").is_one_line("eyes", "lpips", "--perceptual none")
    evaluate("--frechet", "eyes", "--perceptual", "none").is_one_line("eyes", "inception", "--frechet none")


@pytest.mark.slow
def test_a_process_of_its_own_prints_nothing_but_the_result(run_apart, vqgan_folder, table):
    outcome = run_apart("evaluate", "reconstruction", "--model", vqgan_folder, "--data", table, "--json", *NO_NETWORKS)
    assert (outcome.status, outcome.err) == (0, "")
    assert json.loads(outcome.out)["n"] == 5
