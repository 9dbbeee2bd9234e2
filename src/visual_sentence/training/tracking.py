"""What a run says while it goes: lines of text, `log.jsonl`, curves in a tracker, and pictures.

Knows nothing of losses; it is given names and numbers.
"""

import importlib.util
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image

from ..errors import UserError

LOG_FILE = "log.jsonl"
SAMPLES_FOLDER = "samples"
TRACKER_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio"}
# Pixels between the pictures of a sample.
GAP = 2

logger = logging.getLogger("visual_sentence.training")


def require_tracker(name: str) -> None:
    """Checks that a tracker's package is installed; Accelerate would go on without it.

    Raises:
        UserError: If it is not.
    """
    package = TRACKER_PACKAGES.get(name)
    if package is not None and importlib.util.find_spec(package) is None:
        raise UserError(f"--tracker {name} needs the package {package}: pip install {package}, or give --tracker none.")


class RunLog:
    """Writes the log of a run; silent in all processes but the first.

    Args:
        folder: The run's folder.
        accelerator: Knows the tracker.
        settings: The run's settings, for the tracker.
        step: Finished steps of a resumed run; later lines of the run that it continues are dropped.
    """

    def __init__(self, folder: Path, accelerator: Accelerator, settings: dict[str, Any], step: int = 0):
        self.path, self.samples = folder / LOG_FILE, folder / SAMPLES_FOLDER
        self.accelerator = accelerator
        self.is_main = accelerator.is_main_process
        if accelerator.log_with:
            flat = {
                name: value if isinstance(value, int | float | str) else str(value) for name, value in settings.items()
            }
            start = {"tensorboard": {"purge_step": step}} if step else {}
            accelerator.init_trackers("visual-sentence", config=flat, init_kwargs=start)
        if self.is_main:
            folder.mkdir(parents=True, exist_ok=True)
            kept = [line for line in self.entries() if line["step"] <= step] if step else []
            self.path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    def entries(self) -> list[dict[str, Any]]:
        """The lines of `log.jsonl`; one that a crash cut off is passed over."""
        found = []
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else ():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def say(self, line: str) -> None:
        """Tells the user something."""
        if self.is_main:
            logger.info(line)

    def warn(self, line: str) -> None:
        """Warns the user of something."""
        if self.is_main:
            logger.warning(line)

    def record(self, step: int, total: int | None, terms: dict[str, float]) -> None:
        """Writes the terms of a step."""
        if not self.is_main:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **terms}) + "\n")
        self.accelerator.log(terms, step=step)
        shown = ", ".join(f"{name.removesuffix('_loss')} {value:.4g}" for name, value in terms.items())
        logger.info("step %d%s: %s", step, f"/{total}" if total else "", shown)

    def describe_batch(self, pixel_values: torch.Tensor, tokens: torch.Tensor, codebook_size: int) -> None:
        """Says what the first batch looks like, where most mistakes show."""
        if self.is_main:
            low, high = (value.item() for value in pixel_values.aminmax())
            first, last = (value.item() for value in tokens.aminmax())
            logger.info(
                "first batch: pixel_values %s %s in [%.3f, %.3f], tokens %s in [%d, %d] of %d",
                *(tuple(pixel_values.shape), _dtype(pixel_values), low, high),
                *(tuple(tokens.shape), first, last, codebook_size),
            )

    def save_samples(self, step: int, originals: torch.Tensor, reconstructions: torch.Tensor) -> Path:
        """Writes originals above their reconstructions as one picture.

        Args:
            step: Finished steps.
            originals: [n, 3, S, S] in [-1, 1].
            reconstructions: [n, 3, S, S], clipped here.
        """
        rows = [_as_strip(images) for images in (originals, reconstructions)]
        picture = np.concatenate([rows[0], np.full((GAP, *rows[0].shape[1:]), 255, np.uint8), rows[1]])
        self.samples.mkdir(parents=True, exist_ok=True)
        path = self.samples / f"step-{step:06d}.png"
        Image.fromarray(picture).save(path)
        for tracker in self.accelerator.trackers:
            if hasattr(tracker, "log_images"):
                tracker.log_images({"samples": picture[None]}, step=step, **_image_format(tracker.name))
        return path


def _image_format(tracker: str) -> dict[str, str]:
    return {"dataformats": "NHWC"} if tracker == "tensorboard" else {}


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _as_strip(images: torch.Tensor) -> np.ndarray:
    """Images [n, 3, S, S] side by side, [S, n * S + gaps, 3] uint8."""
    pixels = ((images.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    pixels = pixels.permute(0, 2, 3, 1).cpu().numpy()
    gap = np.full((pixels.shape[1], GAP, pixels.shape[3]), 255, np.uint8)
    parts = [part for image in pixels for part in (image, gap)][:-1]
    return np.concatenate(parts, axis=1)


__all__ = ["RunLog", "require_tracker"]
