"""Reading tensors out of other people's files without running what lies in them.

Torch files are pickles, and a pickle may name any function to be called while it is read. They are read with
`weights_only=True` here, which knows tensors and plain containers and refuses everything else.
"""

import argparse
import hashlib
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ..errors import UserError
from ..references import LOADING_ERRORS

# What training scripts save beside the weights as "args": a bag of settings, without behaviour of its own.
SAFE_GLOBALS: list[Any] = [argparse.Namespace]
SAFETENSORS = ".safetensors"


def pick_weights(folder: Path, patterns: Sequence[str]) -> Path:
    """Finds the one file of weights in a folder.

    Args:
        folder: Where to look.
        patterns: Names with wildcards, the best first; the first one that matches any file counts.

    Raises:
        UserError: If none matches, or the one that counts matches several files.
    """
    for pattern in patterns:
        found = sorted(path for path in folder.glob(pattern) if path.is_file())
        if len(found) == 1:
            return found[0]
        if found:
            listed = ", ".join(path.name for path in found[:5])
            raise UserError(f"{folder} holds {len(found)} files of weights ({listed}): name the one to convert.")
    wanted = ", ".join(patterns)
    raise UserError(f"{folder} holds no file of weights (looked for {wanted}): check the path or name the file itself.")


def sha256(path: Path) -> str:
    """The digest of a file in hexadecimal, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def read_checkpoint(path: Path, sections: Sequence[str] = ()) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Reads a file of weights onto the CPU.

    Args:
        path: A safetensors or torch file.
        sections: Names under which the state dict may lie in a torch file, the best first; without any of them the
            file itself is taken for a state dict.

    Returns:
        The tensors by name, and whatever else the file holds beside the section.

    Raises:
        UserError: If the file is damaged, holds anything but tensors and plain values, or holds no state dict.
    """
    if path.suffix == SAFETENSORS:
        try:
            return load_file(path), {}
        except LOADING_ERRORS as error:
            raise _unreadable(path, str(error)) from error
    content = _load_torch_file(path)
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a state dict: give the file of a whole model.")
    section = next((name for name in sections if isinstance(content.get(name), Mapping)), None)
    state = content if section is None else content[section]
    others = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if others or not state:
        found = f"{others[0]!r} is no tensor" if others else "it is empty"
        wanted = f" under {' or '.join(map(repr, sections))}" if sections and section is None else ""
        raise UserError(f"{path} holds no state dict{wanted} ({found}): give the file that the source project saved.")
    return dict(state), {} if section is None else {name: content[name] for name in content if name != section}


def _load_torch_file(path: Path) -> Any:
    """What a torch file holds, its tensors mapped from disk where the format allows it."""
    try:
        with torch.serialization.safe_globals(SAFE_GLOBALS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old pickle protocols, which load or fail anyway
            # only the zip format of torch 1.6 and later can be mapped
            return torch.load(path, weights_only=True, map_location="cpu", mmap=zipfile.is_zipfile(path))
    except Exception as error:  # bytes that are no pickle make the reader fail in any way there is
        culprit = re.search(r"GLOBAL (\S+)", str(error))
        if culprit:
            raise _needs_code(path, culprit.group(1)) from error
        said = "it is not made of tensors and plain values" if "Weights only" in str(error) else str(error)
        raise _unreadable(path, said or type(error).__name__) from error


def _needs_code(path: Path, culprit: str) -> UserError:
    """The message for a pickle that names something to be loaded or called, with the way round it."""
    return UserError(
        f"{path} holds more than tensors: reading it would load {culprit}, and run whatever the file says, so it was "
        "not read. If you trust its author, open it once on a machine that you trust and save the tensors alone: "
        f'`checkpoint = torch.load("{path.name}", map_location="cpu", weights_only=False)`, then '
        '`torch.save({name: checkpoint[name] for name in ("state_dict", "model") if name in checkpoint}, '
        '"tensors.ckpt")`; convert tensors.ckpt.'
    )


def _unreadable(path: Path, said: str) -> UserError:
    first_line = said.strip().splitlines()[0][:150]
    return UserError(f"{path} cannot be read as weights ({first_line}): it may be cut off, so fetch it again.")


__all__ = ["pick_weights", "read_checkpoint", "sha256"]
