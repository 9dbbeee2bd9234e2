"""The scripts in processes of their own, alone and several together."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from transformers import AutoImageProcessor, AutoModel

from visual_sentence.codebook.local import LocalCodebook
from visual_sentence.modeling import LocalVocabulary, V2LConfig, V2LModel, VQGANConfig, VQGANModel

from ..conftest import free_port
from ..forked import ForkedGroup, ForkedScript

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
CODEC = {
    "image_size": 16,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "latent_channels": 8,
    "norm_num_groups": 4,
}
SHORT = ("--max-steps", "2", "--batch-size", "4", "--perceptual-weight", "0", "--log-every", "1", "--tracker", "none")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1"}


@pytest.fixture
def vqgan_folder(tmp_path) -> Path:
    VQGANConfig(**CODEC, codebook_size=32, codebook_dim=8).save_pretrained(tmp_path / "vqgan")
    return tmp_path / "vqgan"


def start(
    script: str, *arguments: object, launcher: tuple[str, ...] | None = None, processes: int = 1
) -> subprocess.Popen | ForkedScript | ForkedGroup:
    """Starts a script: with a launcher as a user does, `()` for Python itself; else in processes that begin sooner."""
    path, words = SCRIPTS / script, [*map(str, arguments)]
    if launcher is None:
        if processes == 1:
            return ForkedScript(path, words, ENVIRONMENT)
        return ForkedGroup(processes, free_port(), path, words, ENVIRONMENT)
    command = [sys.executable, *launcher, str(path), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


def finish(process: subprocess.Popen | ForkedScript | ForkedGroup) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def losses(folder: Path, name: str = "loss") -> list[float]:
    return [json.loads(line)[name] for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_train_vqgan(vqgan_folder, picture_table, tmp_path):
    arguments = ("--config", vqgan_folder, "--data", picture_table, "--output", tmp_path / "out", *SHORT)
    status, out, err = finish(start("train_vqgan.py", *arguments, "--set", "codebook=simvq", launcher=()))
    assert status == 0, err
    assert out.count("\n") == 1 and out.startswith("finished after 2 steps, 8 images")
    assert "first batch: pixel_values" in err and "step 2/2: loss" in err
    model = AutoModel.from_pretrained(tmp_path / "out/model")
    assert isinstance(model, VQGANModel) and model.config.codebook == "simvq"
    assert AutoImageProcessor.from_pretrained(tmp_path / "out/model").local_size == 16

    # where it ended it can go on, and what it left is a start for another run
    status, out, err = finish(start("train_vqgan.py", *arguments, "--set", "codebook=simvq"))
    assert status == 2 and out == "" and err.splitlines()[-1].startswith("error: ") and "--resume latest" in err
    status, out, err = finish(
        start("train_vqgan.py", "--config", tmp_path / "out/model", *arguments[2:5], tmp_path / "more", *SHORT)
    )
    assert status == 0, err
    assert losses(tmp_path / "more")[0] != losses(tmp_path / "out")[0]


@pytest.mark.slow
def test_train_v2l(picture_folder, tmp_path):
    V2LConfig(encoder_type=None, local_latent_dim=8, **CODEC).save_pretrained(tmp_path / "v2l")
    vocabulary = LocalVocabulary([f"word{number}" for number in range(40)], "tiny")
    LocalCodebook(torch.randn(40, 12), vocabulary, {"kind": "text"}).save(tmp_path / "words")
    status, _, err = finish(
        start(
            "train_v2l.py",
            *("--config", tmp_path / "v2l", "--local-codebook", tmp_path / "words", "--preset", "small"),
            *("--data", picture_folder, "--output", tmp_path / "out", "--warmup-steps", "0"),
            *("--unquantized-steps", "1", "--mixed-precision", "no", *SHORT),
        )
    )
    assert status == 0, err
    model = AutoModel.from_pretrained(tmp_path / "out/model")
    assert isinstance(model, V2LModel) and model.local_vocabulary.words[3] == "word3"
    assert json.loads((tmp_path / "out/training.json").read_text())["config"]["ema_decay"] == 0.995


@pytest.mark.slow
def test_train_v2l_on_embeddings_that_it_builds(picture_folder, llm_folder, tmp_path):
    V2LConfig(encoder_type=None, local_latent_dim=8, **CODEC).save_pretrained(tmp_path / "v2l")
    arguments = ("--config", tmp_path / "v2l", "--local-embeddings", "llm", "--llm", llm_folder, *SHORT)
    status, out, err = finish(start("train_v2l.py", *arguments, "--data", picture_folder, "--output", tmp_path / "out"))
    assert status == 0, err
    model = AutoModel.from_pretrained(tmp_path / "out/model")
    built = LocalCodebook.load(tmp_path / "out/local-codebook")
    assert torch.equal(model.local_quantizer.codebook, built.embeddings)
    assert out.startswith("finished after 2 steps")
    arguments += ("--local-codebook", tmp_path / "out/local-codebook")
    status, out, err = finish(
        start("train_v2l.py", *arguments, "--data", picture_folder, "--output", tmp_path / "more")
    )
    assert (status, out, err.count("\n")) == (2, "", 1) and "give one of them" in err


@pytest.mark.slow
def test_sigterm_saves_and_ends_well(vqgan_folder, picture_folder, tmp_path):
    arguments = ("--config", vqgan_folder, "--data", picture_folder, "--output", tmp_path / "out", *SHORT[2:])
    arguments += ("--cache-in-memory", "never", "--num-workers", "1")  # processes of its own that hear signals too
    process = start("train_vqgan.py", *arguments, "--max-steps", "100000", "--checkpoint-every", "50000")
    log = tmp_path / "out/log.jsonl"
    until = time.monotonic() + 200
    while not (log.exists() and log.read_text().count("\n") > 3):
        assert time.monotonic() < until and process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    status, out, err = finish(process)
    assert status == 0, err
    assert out.startswith("stopped by SIGTERM after ") and out.count("\n") == 1
    steps = json.loads((tmp_path / "out/training.json").read_text())["steps"]
    assert [path.name for path in (tmp_path / "out/checkpoints").iterdir()] == [f"step-{steps:06d}"]
    assert "Traceback" not in err


@pytest.mark.slow
def test_two_processes_are_one_with_twice_the_batch(vqgan_folder, picture_folder, tmp_path):
    common = ("--config", vqgan_folder, "--data", picture_folder, *SHORT[4:], "--max-steps", "6", "--ema-decay", "0.9")
    common += ("--adversarial-weight", "0.5", "--discriminator-layers", "1", "--discriminator-width", "4")
    common += ("--discriminator-norm", "group", "--adversarial-start", "2", "--learning-rate", "1e-3")
    common += ("--gradient-accumulation", "2", "--collapse-window", "2")
    common += ("--unquantized-steps", "2")
    two = start(
        "train_vqgan.py",
        *(*common, "--output", tmp_path / "two", "--batch-size", "2"),
        launcher=("-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port())),
    )
    status, out, err = finish(two)
    assert status == 0, err
    assert out.count("finished after 6 steps, 48 images") == 1
    report = json.loads((tmp_path / "two/training.json").read_text())
    assert report["processes"] == 2
    status, _, err = finish(start("train_vqgan.py", *common, "--output", tmp_path / "one", "--batch-size", "4"))
    assert status == 0, err
    for name in ("loss", "reconstruction_loss", "commitment_loss", "gradient_norm", "codebook_usage"):
        assert losses(tmp_path / "two", name) == pytest.approx(losses(tmp_path / "one", name), abs=1e-4), name
    assert json.loads((tmp_path / "one/training.json").read_text())["terms"]["discriminator_loss"] == pytest.approx(
        report["terms"]["discriminator_loss"], abs=1e-4
    )


@pytest.mark.slow
def test_two_processes_resume(vqgan_folder, picture_folder, tmp_path):
    common = ("--config", vqgan_folder, "--data", picture_folder, *SHORT[2:], "--schedule", "constant")

    def go(output: str, *more: object) -> None:
        status, _, err = finish(start("train_vqgan.py", *common, "--output", tmp_path / output, *more, processes=2))
        assert status == 0, err

    go("whole", "--max-steps", 4)
    go("parts", "--max-steps", 2)
    go("parts", "--max-steps", 4, "--resume", "latest")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
