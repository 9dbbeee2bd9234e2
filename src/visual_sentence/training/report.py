"""What a run was and what came out, as `training.json`."""

import json
import platform
import resource
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

FILE = "training.json"
PACKAGES = ("visual-sentence", "torch", "transformers", "diffusers", "datasets", "accelerate", "numpy", "pillow")


@dataclass(frozen=True)
class TrainingReport:
    """The outcome of a run.

    Args:
        model_type: "v2l" or "vqgan".
        stopped_by: "steps" for the last step, "time", or the signal's name.
        steps: Finished steps.
        images_seen: Pictures that went through the model, each time counted.
        seconds: Training time, resumed parts included.
        images_per_second: The first over the second.
        processes: How many trained together.
        device: Where the first one ran.
        peak_memory_bytes: Of the first process: resident memory, and what was allocated on a GPU.
        trainable_parameters: Numbers that were trained.
        terms: Means of the terms over the last steps.
        perceptual: The perceptual measure's true name; None without one.
        data: Name and count of each source.
        config: The settings.
        model_config: The model's settings.
        versions: Of Python and the libraries.
    """

    model_type: str
    stopped_by: str
    steps: int
    images_seen: int
    seconds: float
    images_per_second: float
    processes: int
    device: str
    peak_memory_bytes: dict[str, int]
    trainable_parameters: int
    terms: dict[str, float]
    perceptual: str | None
    data: list[dict[str, Any]]
    config: dict[str, Any]
    model_config: dict[str, Any]
    versions: dict[str, str]

    def save(self, folder: Path) -> Path:
        """Writes `training.json` into the run's folder."""
        path = folder / FILE
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return path

    def summary(self, folder: Path) -> str:
        """One line for the user."""
        ended = {"steps": "finished", "time": "time is up"}.get(self.stopped_by, f"stopped by {self.stopped_by}")
        terms = ", ".join(
            f"{name.removesuffix('_loss').replace('_', ' ')} {self.terms[name]:.4g}"
            for name in ("loss", "reconstruction_loss", "codebook_usage")
            if name in self.terms
        )
        more = "" if self.stopped_by == "steps" else "; --resume latest continues"
        return (
            f"{ended} after {self.steps} steps, {self.images_seen} images, {self.seconds:.0f} s "
            f"({self.images_per_second:.1f} images/s): {terms or 'no step was logged'}; model in "
            f"{folder / 'model'}{more}"
        )


def peak_memory(device: torch.device) -> dict[str, int]:
    """Largest resident memory of this process, and largest allocation on its GPU, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    found = {"resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if device.type == "cuda":
        found["gpu"] = torch.cuda.max_memory_allocated(device)
    return found


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that a run depends on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


__all__ = ["TrainingReport"]
