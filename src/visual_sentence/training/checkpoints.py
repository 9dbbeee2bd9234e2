"""Checkpoints: everything a run needs to go on as if it had never stopped, each complete or absent.

A checkpoint is written into a folder beside its place, brought to the disk and then renamed, so that a crash or a full
disk leaves the one before it whole. It is a model folder that `AutoModel` loads, with three files more. Reading one
runs no code from it: safetensors, JSON, and `torch.load(weights_only=True)`. Knows nothing of the loop.
"""

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..errors import UserError

FOLDER = "checkpoints"
MODEL_FILE = "model.safetensors"
TENSORS_FILE = "training.safetensors"
STATE_FILE = "training_state.pt"
PROGRESS_FILE = "training_progress.json"
PARTIAL = ".partial"
# What the libraries raise when a file cannot be written; theirs hide the system's own error.
WRITING_ERRORS = (OSError, SafetensorError, RuntimeError)
READING_ERRORS = (OSError, SafetensorError, RuntimeError, ValueError, EOFError, KeyError, UnpicklingError)


@dataclass(frozen=True)
class Checkpoint:
    """What is read back.

    Args:
        path: The folder.
        model: The model's tensors.
        tensors: Other tensors by name: the discriminator's and the moving average's.
        state: Optimizers, random numbers, ...: tensors, numbers, strings and containers of these.
        progress: Step and settings, as JSON values.
    """

    path: Path
    model: dict[str, torch.Tensor]
    tensors: dict[str, torch.Tensor]
    state: dict[str, Any]
    progress: dict[str, Any]


class CheckpointFolder:
    """The checkpoints of one run.

    Args:
        output: The run's folder; they lie in `checkpoints` there.
        keep: How many are kept.
    """

    def __init__(self, output: Path, keep: int):
        self.folder, self.keep = Path(output) / FOLDER, keep

    def all(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        found = self.folder.glob("step-*") if self.folder.is_dir() else ()
        return sorted((path for path in found if re.fullmatch(r"step-\d+", path.name)), key=_step)

    def latest(self) -> Path | None:
        """The newest complete checkpoint."""
        return (self.all() or [None])[-1]

    def find(self, reference: str) -> Path | None:
        """What `--resume` names: "latest" (None where there is none) or a checkpoint's folder.

        Raises:
            UserError: If that folder is no checkpoint.
        """
        if reference == "latest":
            return self.latest()
        path = Path(reference).expanduser()
        if not (path / PROGRESS_FILE).is_file():
            raise UserError(f"--resume {reference}: no checkpoint's folder: give 'latest' or a step-... folder.")
        return path

    def write(
        self,
        step: int,
        save_model: Callable[[Path], None],
        tensors: dict[str, torch.Tensor],
        state: dict[str, Any],
        progress: dict[str, Any],
    ) -> Path:
        """Writes a checkpoint, then removes those beyond `keep`.

        Args:
            step: Finished steps.
            save_model: Writes the model into a folder.
            tensors: See `Checkpoint`.
            state: See `Checkpoint`.
            progress: See `Checkpoint`.

        Returns:
            Its folder.

        Raises:
            UserError: If it cannot be written; checkpoints that were there before are untouched.
        """
        path = self.folder / f"step-{step:06d}"

        def fill(folder: Path) -> None:
            save_model(folder)
            save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, folder / TENSORS_FILE)
            torch.save(state, folder / STATE_FILE)
            (folder / PROGRESS_FILE).write_text(json.dumps(progress, indent=1) + "\n", encoding="utf-8")

        try:
            write_folder(path, fill)
        except WRITING_ERRORS as error:
            last = self.latest()
            raise UserError(
                f"The checkpoint of step {step} could not be written to {self.folder} ({reason(error)}), so the run "
                f"stops; {f'{last} is whole' if last else 'there was none before'}: make room and start again with "
                "--resume latest."
            ) from error
        for old in self.all()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)
        return path

    @staticmethod
    def read(path: Path) -> Checkpoint:
        """Reads a checkpoint.

        Raises:
            UserError: If a file is missing or damaged.
        """
        try:
            return Checkpoint(
                path,
                load_file(path / MODEL_FILE),
                load_file(path / TENSORS_FILE),
                torch.load(path / STATE_FILE, map_location="cpu", weights_only=True),
                CheckpointFolder.read_progress(path),
            )
        except READING_ERRORS as error:
            raise UserError(
                f"{path} is not a whole checkpoint ({reason(error)}): resume from another one, or start "
                "anew in another folder."
            ) from error

    @staticmethod
    def read_progress(path: Path) -> dict[str, Any]:
        """Step and settings of a checkpoint."""
        return json.loads((path / PROGRESS_FILE).read_text(encoding="utf-8"))


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Lets a folder appear whole or not at all; one that is there is replaced.

    Args:
        path: The folder.
        fill: Writes its files into the folder that it is given.
    """
    aside = path.with_name(f".{path.name}{PARTIAL}")
    former = path.with_name(f".{path.name}.former")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        fill(aside)
        for file in sorted(aside.rglob("*")):
            if file.is_file():
                _to_disk(file)
        _to_disk(aside)
        if path.exists():
            shutil.rmtree(former, ignore_errors=True)
            path.rename(former)
        aside.rename(path)
        _to_disk(path.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(former, ignore_errors=True)


def _to_disk(path: Path) -> None:
    """Waits until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def reason(error: Exception) -> str:
    """The first line of what a library said."""
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


__all__ = ["Checkpoint", "CheckpointFolder", "write_folder"]
