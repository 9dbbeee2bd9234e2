"""A tiny VQGAN, a few pictures, and a way to train the one on the other in a second."""

import io
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from datasets import Dataset
from datasets import Image as ImageFeature
from PIL import Image

from visual_sentence.modeling import VQGANConfig, VQGANImageProcessor, VQGANModel
from visual_sentence.training import Trainer, TrainingReport, make_training_config, open_pictures

TINY = {
    "image_size": 16,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "latent_channels": 8,
    "codebook_size": 32,
    "codebook_dim": 8,
    "norm_num_groups": 4,
}
PICTURES = 24
BASE = {
    "batch_size": 4,
    "max_steps": 3,
    "learning_rate": 1e-2,
    "perceptual_weight": 0.0,
    "tracker": "none",
    "log_every": 1,
    "checkpoint_every": 0,
    "sample_every": 0,
}


def smooth_picture(generator: np.random.Generator, size: tuple[int, int] = (24, 20)) -> Image.Image:
    """A picture with large features, which a tiny model can learn."""
    small = generator.integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory) -> Path:
    """24 pictures of 24 x 20 pixels."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for number in range(PICTURES):
        smooth_picture(generator).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="session")
def picture_table(picture_folder, tmp_path_factory) -> Path:
    """The same pictures as a Parquet file."""
    rows = []
    for path in sorted(picture_folder.iterdir()):
        rows.append({"bytes": path.read_bytes(), "path": path.name})
    table = Dataset.from_dict({"label": list(range(PICTURES)), "picture": rows}).cast_column("picture", ImageFeature())
    path = tmp_path_factory.mktemp("table") / "pictures.parquet"
    table.to_parquet(str(path))
    return path


@pytest.fixture
def damaged_folder(picture_folder, tmp_path) -> Path:
    """The pictures, number 5 cut off."""
    folder = tmp_path / "damaged"
    folder.mkdir()
    for path in picture_folder.iterdir():
        content = path.read_bytes()
        (folder / path.name).write_bytes(content[:80] if path.stem == "05" else content)
    return folder


@pytest.fixture
def cut_off_jpeg() -> bytes:
    """A JPEG that ends too early."""
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(whole, "jpeg")
    return whole.getvalue()[:700]


@dataclass
class Outcome:
    """What a run did.

    Args:
        trainer: Who trained.
        report: What was reported; None if the run was broken off.
        terms: The terms of each step.
        steps: The numbers of finished steps, as they were told.
    """

    trainer: Trainer
    report: TrainingReport | None = None
    terms: list[dict[str, float]] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)

    def curve(self, name: str) -> list[float]:
        """One term of all steps."""
        return [terms[name] for terms in self.terms]

    @property
    def folder(self) -> Path:
        return self.trainer.config.folder

    def weights(self) -> torch.Tensor:
        """All trained numbers in a row."""
        return torch.cat([parameter.detach().flatten() for parameter in self.trainer.model.trainable_parameters()])


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    """A run that breaks off in a test must not decide over the next one."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    logging.getLogger("visual_sentence.training").setLevel(logging.NOTSET)


@pytest.fixture
def prepare(picture_folder, tmp_path) -> Callable[..., Outcome]:
    """Makes a run of a tiny VQGAN; settings over `BASE`, fields of the model under `model`."""

    def make(on_step: Callable[[int, dict], None] | None = None, model: Any = None, processor=None, **settings):
        preset = settings.pop("preset", None)
        given = {**BASE, "data": [str(picture_folder)], "output": str(tmp_path / "run"), **settings}
        if given.get("epochs") is not None or given["max_steps"] is None:
            given.pop("max_steps")
        config = make_training_config(preset, given)
        torch.manual_seed(0)
        if not isinstance(model, torch.nn.Module):
            model = VQGANModel(VQGANConfig(**{**TINY, **(model or {})}))
        outcome = Outcome(None)

        def note(step: int, terms: dict[str, float]) -> None:
            outcome.steps.append(step)
            outcome.terms.append(terms)
            if on_step is not None:
                on_step(step, terms)

        source = open_pictures(config.data, config.split, config.column, config.streaming)
        processor = processor or VQGANImageProcessor(local_size=model.config.image_size)
        outcome.trainer = Trainer(config, model, processor, source, on_step=note)
        return outcome

    return make


@pytest.fixture
def gradient_scaler(monkeypatch):
    """Gives runs the gradient scaler that fp16 has on a GPU; it grows every other step."""
    from visual_sentence.training import loop

    plain = loop.make_accelerator

    def make(config):
        accelerator = plain(config)
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=2)
        return accelerator

    monkeypatch.setattr(loop, "make_accelerator", make)


@pytest.fixture
def run(prepare) -> Callable[..., Outcome]:
    """As `prepare`, and trains."""

    def go(*args, **kwargs) -> Outcome:
        outcome = prepare(*args, **kwargs)
        outcome.report = outcome.trainer.train()
        return outcome

    return go
