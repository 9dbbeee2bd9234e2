"""The training scripts of SimLVM as a user starts them, alone and in several processes."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from safetensors.torch import load_file
from transformers import AutoModel

from visual_sentence.modeling import SimLVMConfig, SimLVMForVisualSentence

from ..conftest import free_port
from ..forked import ForkedGroup, ForkedScript

ROOT = Path(__file__).resolve().parents[2]
LAUNCHES = ROOT / "scripts" / "accelerate"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
ON_CPU = {"ACCELERATE_USE_CPU": "true"}
VQGAN = {
    "image_size": 16,
    "codebook_size": 32,
    "codebook_dim": 8,
    "block_out_channels": [8, 8, 8],
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 4,
}
IN_COMMON = {"vocab_size": 40, "hidden_size": 16, "num_attention_heads": 2, "max_position_embeddings": 160}
BACKBONES = {
    "llama": {"model_type": "llama", "intermediate_size": 24, "num_hidden_layers": 2, **IN_COMMON},
    "visual_gru": {"model_type": "visual_gru", "num_gru_layers": 1, "num_attention_layers": 1, **IN_COMMON},
}
SETTINGS = ("--max-steps", "4", "--learning-rate", "1e-2", "--gradient-accumulation", "2", "--log-every", "1")
SETTINGS += ("--tracker", "none", "--min-pairs", "1", "--max-pairs", "2", "--checkpoint-every", "0")
DATA = ("segmentation:shapes[:14]", "denoising:shapes[20:34]")


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("model"), "llama")


def build(folder: Path, backbone: str) -> Path:
    torch.manual_seed(0)
    model = SimLVMForVisualSentence(SimLVMConfig(vq_config=VQGAN, text_config=BACKBONES[backbone], max_images=8))
    model.save_pretrained(folder)
    return folder


def start(
    model: Path,
    output: Path,
    *arguments: object,
    script: str = "train_simlvm.py",
    launch: tuple | None = None,
    processes: int = 1,
    **environment,
) -> subprocess.Popen | ForkedScript | ForkedGroup:
    """Starts a script: with a launcher as a user does, `()` for Python itself; else in processes that begin sooner."""
    path, environment = ROOT / "scripts" / script, {**ENVIRONMENT, **environment}
    words = [str(one) for one in ("--config", model, "--output", output, *SETTINGS, *arguments)]
    if launch is None:
        if processes == 1:
            return ForkedScript(path, words, environment)
        return ForkedGroup(processes, free_port(), path, words, environment)
    command = [sys.executable, *launch, str(path), *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, cwd=ROOT, **pipes)


def finish(process: subprocess.Popen | ForkedScript | ForkedGroup) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def succeed(*args, **kwargs) -> str:
    status, out, err = finish(start(*args, **kwargs))
    assert status == 0, err
    assert "Traceback" not in err
    return out


def accelerate(config: str) -> tuple[str, ...]:
    launcher = ("-m", "accelerate.commands.launch", "--config_file", str(LAUNCHES / config))
    return (*launcher, "--num_processes", "2", "--main_process_port", str(free_port()))


def as_accelerate_sets(config: str) -> dict[str, str]:
    """The variables of a process that `accelerate launch` starts with this configuration."""
    given, *_ = _validate_launch_command(
        launch_command_parser().parse_args(["--config_file", str(LAUNCHES / config), "--num_processes", "2", "script"])
    )
    return {name: value for name, value in prepare_multi_gpu_env(given).items() if os.environ.get(name) != value}


def terms(folder: Path) -> dict[str, list[float]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {name: [line[name] for line in lines] for name in ("step", "loss", "accuracy", "gradient_norm")}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


@pytest.mark.slow
def test_training_then_distilling_as_the_docs_say(model_folder, tmp_path):
    out = succeed(model_folder, tmp_path / "large", "--data", *DATA, "--batch-size", "2", launch=(), **ON_CPU)
    assert out.startswith("finished after 4 steps, ") and out.count("\n") == 1
    words = ("--teacher", tmp_path / "large/model", "--data", tmp_path / "large/tokens", "--batch-size", "2")
    out = succeed(model_folder, tmp_path / "small", *words, script="distill_simlvm.py", **ON_CPU)
    assert out.startswith("finished after 4 steps, ")
    assert "divergence" in json.loads((tmp_path / "small/log.jsonl").read_text().splitlines()[0])
    assert isinstance(AutoModel.from_pretrained(tmp_path / "small/model"), SimLVMForVisualSentence)


@pytest.mark.slow
def test_sigterm_saves_and_ends_well(model_folder, tmp_path):
    words = ("--data", *DATA, "--batch-size", "2", "--max-steps", "100000")
    process = start(model_folder, tmp_path / "out", *words, **ON_CPU)
    log, until = tmp_path / "out/log.jsonl", time.monotonic() + 200
    while not (log.exists() and log.read_text().count("\n") > 3):
        assert time.monotonic() < until and process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    status, out, err = finish(process)
    assert status == 0, err
    assert out.startswith("stopped by SIGTERM after ") and out.count("\n") == 1 and "Traceback" not in err
    steps = json.loads((tmp_path / "out/training.json").read_text())["steps"]
    assert [path.name for path in (tmp_path / "out/checkpoints").iterdir()] == [f"step-{steps:06d}"]


# Way -> backbone, how the processes are started (the first of each kind as a user does), how they are started again.
LAUNCHED = {
    "copies": ("llama", lambda: {"processes": 2, **ON_CPU}, None),
    "fsdp2": (
        "llama",
        lambda: {"launch": accelerate("fsdp2.yaml"), **ON_CPU},
        lambda: {"processes": 2, **as_accelerate_sets("fsdp2.yaml"), **ON_CPU},
    ),
    "fsdp2 of a gru": (
        "visual_gru",
        lambda: {"processes": 2, **as_accelerate_sets("fsdp2.yaml"), **ON_CPU},
        None,
    ),
    "deepspeed": (
        "llama",
        lambda: {"launch": accelerate("deepspeed_zero2.yaml"), "DS_ACCELERATOR": "cpu"},
        lambda: {"launch": accelerate("deepspeed_zero2.yaml"), "DS_ACCELERATOR": "cpu"},
    ),
}


# Two sets of data are two shards, which the processes share; sentences of 1 and 2 pairs are unequal batches.
SHARED = ("--data", *DATA, "--packing", "separate")


@pytest.fixture(scope="module")
def run_alone(tmp_path_factory):
    """Trains a backbone's model in one process, once: gives where the model and the run are."""

    @cache
    def run(backbone: str) -> tuple[Path, Path]:
        model, output = build(tmp_path_factory.mktemp("model"), backbone), tmp_path_factory.mktemp("alone") / "one"
        succeed(model, output, *SHARED, "--batch-size", "4", **ON_CPU)
        return model, output

    return run


@pytest.mark.slow
@pytest.mark.parametrize("way", LAUNCHED)
def test_two_processes_are_one_with_twice_the_batch(run_alone, tmp_path, way):
    backbone, started, started_again = LAUNCHED[way]
    if way == "deepspeed" and importlib.util.find_spec("deepspeed") is None:
        pytest.skip("needs deepspeed, which is not installed")
    model, alone_folder = run_alone(backbone)
    out = succeed(model, tmp_path / "two", *SHARED, "--batch-size", "2", **started())
    assert out.count("finished after 4 steps") == 1
    assert json.loads((tmp_path / "two/training.json").read_text())["processes"] == 2
    one, two = terms(alone_folder), terms(tmp_path / "two")
    for name in one:
        assert two[name] == pytest.approx(one[name], rel=1e-4, abs=1e-6), name
    alone, shared = weights(alone_folder), weights(tmp_path / "two")
    assert alone.keys() == shared.keys()
    assert all(torch.allclose(alone[name], shared[name], atol=1e-5) for name in alone)
    assert all(torch.equal(alone[name], shared[name]) for name in alone if name.startswith("vqgan."))

    if started_again is None:
        return  # how a run is resumed does not depend on the backbone; copies are resumed by the tests of training
    # stopped behind the first step, then resumed, it is the same to the last bit
    words = (*SHARED, "--batch-size", "2")
    out = succeed(model, tmp_path / "parts", *words, "--max-minutes", "0", **started_again())
    assert "time is up after 1 steps" in out
    succeed(model, tmp_path / "parts", *words, "--resume", "latest", **started_again())
    assert terms(tmp_path / "parts") == two
    again = weights(tmp_path / "parts")
    assert all(torch.equal(again[name], shared[name]) for name in shared)


@pytest.mark.slow
def test_processes_that_do_not_find_each_other_are_one_line(model_folder, tmp_path):
    words = ("--data", *DATA, "--batch-size", "2")
    status, _, err = finish(start(model_folder, tmp_path / "out", *words, processes=2))
    assert status != 0 and "error: 2 processes were launched, but 1 found each other on cpu" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("path", sorted(LAUNCHES.glob("*.yaml")), ids=lambda path: path.name)
def test_accelerate_reads_the_configurations(path):
    config = load_config_from_file(str(path))
    fields = yaml.safe_load(path.read_text())
    assert str(config.distributed_type).endswith(fields["distributed_type"])
    assert config.num_processes == fields["num_processes"] > 1
    assert config.mixed_precision in (None, "no")  # the script's own option decides
    assert f"scripts/accelerate/{path.name}" in path.read_text()
    if "deepspeed_config" in fields:
        settings = json.loads((ROOT / fields["deepspeed_config"]["deepspeed_config_file"]).read_text())
        assert settings["zero_optimization"]["stage"] == 2
        for name in ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping"):
            assert settings[name] == "auto"
