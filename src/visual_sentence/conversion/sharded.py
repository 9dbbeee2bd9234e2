"""Reading a language model's weights, which may lie in several files with an index over them."""

import json
from pathlib import Path

import torch

from ..errors import UserError
from .checkpoints import pick_weights, read_checkpoint

# as transformers writes them; safetensors first
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SINGLE = ("model.safetensors", "*.safetensors", "pytorch_model.bin", "*.bin")
HUB_FILES = ("config.json", *INDEXES, "*.safetensors", "*.bin")


def read_weights(path: Path) -> tuple[list[Path], dict[str, torch.Tensor]]:
    """Reads a language model's tensors onto the CPU.

    Args:
        path: Its folder, or its file of weights where there is one only.

    Returns:
        The files that were read, an index first, and the tensors by name.

    Raises:
        UserError: If a file is missing or damaged, or holds other tensors than the index says.
    """
    index = next((path / name for name in INDEXES if (path / name).is_file()), None)
    if index is None or (path / SINGLE[0]).is_file():
        weights = path if path.is_file() else pick_weights(path, SINGLE)
        return [weights], read_checkpoint(weights)[0]
    places = _read_index(index)
    tensors: dict[str, torch.Tensor] = {}
    files = [path / name for name in sorted(set(places.values()))]
    for file in files:
        if not file.is_file():
            raise UserError(f"{index} names {file.name}, which is not beside it: fetch all files of the model.")
        found, _ = read_checkpoint(file)
        wanted = {name for name, place in places.items() if place == file.name}
        if odd := sorted(wanted ^ found.keys()):
            raise UserError(
                f"{file} and {index.name} do not agree on {odd[0]}, so they belong to two models: fetch both again."
            )
        tensors |= found
    return [index, *files], tensors


def _read_index(path: Path) -> dict[str, str]:
    """Which tensor lies in which file of the same folder."""
    try:
        places = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        if not places or any(Path(name).name != name for name in places.values()):
            raise ValueError("no file of the same folder")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read as an index of weights ({error}): fetch it again.") from error
    return places


__all__ = ["HUB_FILES", "read_weights"]
