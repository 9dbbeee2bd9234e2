"""Tiny SimLVMs, shards of random tokens, and a way to train the one on the other in a second."""

import gc
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from visual_sentence.data.shards import TokenShards, write_shards
from visual_sentence.data.token_rows import TokenHeader, TokenRow
from visual_sentence.data.token_sentences import TokenSentence
from visual_sentence.data.tokenizing import token_header
from visual_sentence.modeling import SimLVMConfig, SimLVMForVisualSentence
from visual_sentence.sentence_training import SentenceTrainer, command, trainer

T, K = 16, 32  # tokens of an image, entries of the codebook
VQGAN = {
    "image_size": 16,
    "codebook_size": K,
    "codebook_dim": 8,
    "block_out_channels": [8, 8, 8],
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 4,
}
IN_COMMON = {"vocab_size": 40, "hidden_size": 16, "num_attention_heads": 2, "max_position_embeddings": 160}
BACKBONES = {
    "llama": {"model_type": "llama", "intermediate_size": 24, "num_hidden_layers": 1, **IN_COMMON},
    "visual_gru": {"model_type": "visual_gru", "num_gru_layers": 1, "num_attention_layers": 1, **IN_COMMON},
}
BASE = ("--max-steps", "4", "--batch-size", "2", "--learning-rate", "1e-2", "--warmup-steps", "1", "--log-every", "1")
BASE += ("--checkpoint-every", "0", "--tracker", "none", "--min-pairs", "1", "--max-pairs", "2")


def make_config(backbone: str = "llama", text: dict | None = None, **options) -> SimLVMConfig:
    return SimLVMConfig(
        vq_config=VQGAN, text_config={**BACKBONES[backbone], **(text or {})}, **{"max_images": 8, **options}
    )


@pytest.fixture
def make_simlvm():
    """Builds a tiny SimLVM: 16 px to 4 x 4 tokens of 32 codes, sentences of 8 images."""

    def make(backbone: str = "llama", seed: int = 0, **options) -> SimLVMForVisualSentence:
        torch.manual_seed(seed)
        return SimLVMForVisualSentence(make_config(backbone, **options)).eval()

    return make


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Callable[..., Path]:
    """The folder of a tiny SimLVM with weights, or with its config alone; its VQGAN is the same for one seed."""
    found: dict[str, Path] = {}

    def make(backbone: str = "llama", weights: bool = True, vqgan_seed: int = 0, **options) -> Path:
        key = json.dumps([backbone, weights, vqgan_seed, options], sort_keys=True)
        if key not in found:
            folder = found[key] = tmp_path_factory.mktemp("model")
            torch.manual_seed(1)
            model = SimLVMForVisualSentence(make_config(backbone, **options))
            torch.manual_seed(vqgan_seed)
            model.vqgan.load_state_dict(
                {name: torch.randn_like(tensor) * 0.3 for name, tensor in model.vqgan.state_dict().items()}
            )
            model.take_codes()
            model.save_pretrained(folder) if weights else model.config.save_pretrained(folder)
        return found[key]

    return make


@pytest.fixture(scope="session")
def vqgan_folder(model_folder) -> Callable[..., Path]:
    """The folder of the VQGAN of `model_folder`."""

    def make(seed: int = 0) -> Path:
        folder = model_folder(vqgan_seed=seed) / "vqgan"
        if not folder.exists():
            SimLVMForVisualSentence.from_pretrained(folder.parent).vqgan.save_pretrained(folder)
        return folder

    return make


def token_rows(count: int, seed: int = 0, task: str = "edges", images: int = 2) -> list[TokenRow]:
    """Random rows, each of a source of its own."""
    rng = np.random.default_rng(seed)
    layout = "pair" if images == 2 else "sequence"
    return [
        TokenRow(rng.integers(0, K, images * T), task, "", f"{task}-{place}", layout, place) for place in range(count)
    ]


@pytest.fixture(scope="session")
def header(model_folder) -> TokenHeader:
    """Of the VQGAN of `model_folder`."""
    return token_header(SimLVMForVisualSentence.from_pretrained(model_folder()).vqgan)


@pytest.fixture(scope="session")
def shards(header, tmp_path_factory) -> Path:
    """40 pairs of two tasks as token shards."""
    folder = tmp_path_factory.mktemp("data") / "shards"
    write_shards(folder, header, token_rows(24) + token_rows(16, 1, "denoising"), shard_rows=10)
    return folder


@pytest.fixture
def open_shards(header, tmp_path):
    """Writes rows as shards and opens them."""

    def make(rows: list[TokenRow], name: str = "rows", **options) -> TokenShards:
        write_shards(tmp_path / name, header, rows, **options)
        return TokenShards.open(str(tmp_path / name))

    return make


@pytest.fixture
def sentence():
    """A random sentence of n images of T tokens, every second one an answer."""

    def make(images: int, seed: int = 0, size: int = T) -> TokenSentence:
        tokens = np.random.default_rng(seed).integers(0, K, images * size)
        return TokenSentence(tokens, images, np.arange(images) % 2 == 1, "edges")

    return make


@pytest.fixture(autouse=True, scope="session")
def _young_memory():
    """Each run's end collects garbage; without what the libraries brought along that is done in no time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _fresh_accelerator(monkeypatch):
    """A run that breaks off in a test must not decide over the next one; machines' speed is not what is tested."""
    monkeypatch.setattr(trainer, "product_flops", lambda device, precision: 1e9)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    logging.getLogger("visual_sentence.training").setLevel(logging.NOTSET)


@dataclass
class Run:
    """What a run left.

    Args:
        folder: Its output.
        report: `training.json`.
        terms: `log.jsonl` without what depends on time.
        weights: The model's tensors.
    """

    folder: Path
    report: dict[str, Any]
    terms: list[dict[str, float]]
    weights: dict[str, torch.Tensor]

    def curve(self, name: str = "loss") -> list[float]:
        return [line[name] for line in self.terms]


TIMES = ("tokens_per_second", "loader_share", "flops_utilization")


def read_run(folder: Path) -> Run:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    terms = [{name: value for name, value in line.items() if name not in TIMES} for line in lines]
    report = json.loads((folder / "training.json").read_text())
    return Run(folder, report, terms, load_file(folder / "model" / "model.safetensors"))


@pytest.fixture
def start(model_folder, shards, tmp_path, capsys):
    """Calls a script's `main` with the base settings and others; gives status, output and the error line."""

    def go(*arguments: object, output: str = "run", config: Path | None = None, data: Path | str | None = None):
        words = ["--config", config or model_folder(), "--output", tmp_path / output, "--data", data or shards]
        distills = "--teacher" in arguments
        status = command.train_sentences("a script", distills, [str(one) for one in (*words, *BASE, *arguments)])
        out, err = capsys.readouterr()
        return SimpleNamespace(status=status, out=out, err=err, folder=tmp_path / output)

    return go


@pytest.fixture
def run(start):
    """As `start`, of a run that has to end well; gives what it left."""

    def go(*arguments: object, **options) -> Run:
        done = start(*arguments, **options)
        assert done.status == 0, done.err
        return read_run(done.folder)

    return go


@pytest.fixture
def refused(start):
    """As `start`, of a run that has to be refused; gives the one line."""

    def go(*arguments: object, **options) -> str:
        done = start(*arguments, **options)
        lines = [line for line in done.err.splitlines() if line.startswith("error: ")]
        assert done.status == 2 and done.out == "" and len(lines) == 1, done
        assert done.err.splitlines()[-1] == lines[0]
        return lines[0]

    return go


@pytest.fixture
def behind_step(monkeypatch):
    """Lets something happen behind a step, once."""

    def at(step: int, happens: Callable[[], None]) -> None:
        take = SentenceTrainer._take

        def taking(self, *args):
            found = take(self, *args)
            if self.step == step:
                monkeypatch.setattr(SentenceTrainer, "_take", take)
                happens()
            return found

        monkeypatch.setattr(SentenceTrainer, "_take", taking)

    return at
