"""What codebooks of both kinds do with their files: see whether they are there and are what was saved."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch

from ..errors import UserError


def require_files(folder: Path, names: Iterable[str], what: str) -> None:
    """Checks that a folder holds all files of a codebook.

    Args:
        folder: Where they should lie.
        names: The files' names.
        what: What they make up, for the message.

    Raises:
        UserError: One is missing.
    """
    for name in names:
        if not (folder / name).is_file():
            raise UserError(f"There is no {name} in {folder}, so it holds no {what}: build one or correct the path.")


def tensor_digest(tensor: torch.Tensor) -> str:
    """The sha256 of a tensor's values, in hexadecimal."""
    return hashlib.sha256(tensor.contiguous().view(torch.uint8).numpy().data).hexdigest()


def require_digest(folder: Path, embeddings: torch.Tensor, expected: str) -> None:
    """Checks that embeddings are the ones that were saved with the rest of a codebook.

    Args:
        folder: Where the codebook lies, for the message.
        embeddings: As they are stored, [N, D].
        expected: Their `tensor_digest` at that time.

    Raises:
        UserError: They are others.
    """
    found = tensor_digest(embeddings)
    if found != expected:
        raise UserError(
            f"{folder}: the embeddings do not match their digest ({found[:12]}, expected {expected[:12]}), so words "
            "and embeddings may not belong together: build or fetch the codebook again."
        )
