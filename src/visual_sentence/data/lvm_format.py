"""LVM's files: a visual sentence a line, its tokens as base64 of little-endian int32.

Source: https://github.com/ytongbai/LVM, EasyLM/data.py and tokenize_examples/. A line is
`{"tokens": "<base64>"}`; tokens are places in the codebook, image after image, without special ids.
"""

import base64
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ..errors import UserError
from .imported_rows import rows_of_line
from .shards import written_aside
from .token_rows import SEQUENCE, TokenHeader, TokenRow

LITTLE_ENDIAN = np.dtype("<i4")


def write_lvm(path: str | Path, sentences: Iterable[np.ndarray]) -> int:
    """Writes a file for LVM's training, whole or not at all.

    Args:
        path: The file to be, `.jsonl`.
        sentences: [n * T] integers each, the tokens of n images.

    Returns:
        How many lines it has.

    Raises:
        UserError: If it cannot be written.
    """
    lines = 0
    with written_aside(Path(path)) as aside, aside.open("w", encoding="ascii") as file:
        for tokens in sentences:
            text = base64.b64encode(np.asarray(tokens).astype(LITTLE_ENDIAN).tobytes()).decode()
            file.write(json.dumps({"tokens": text}) + "\n")
            lines += 1
    return lines


def read_lvm(path: str | Path, header: TokenHeader, layout: str = SEQUENCE, task: str = "lvm") -> Iterator[TokenRow]:
    """Reads a file of LVM's layout.

    Args:
        path: The file.
        header: Whose tokens they are; the file does not say it.
        layout: "sequence": a line is one row; "pairs": it is cut into input and target in turn.
        task: What the rows are called.

    Yields:
        Rows for `write_shards`.

    Raises:
        UserError: If there is no such file, or a line is none, its number named.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file: check the path.")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield from rows_of_line(_tokens(line, number, path), number, path, header, layout, task)


def _tokens(line: bytes, number: int, path: Path) -> np.ndarray:
    try:
        content = base64.b64decode(json.loads(line)["tokens"], validate=True)
        return np.frombuffer(content, LITTLE_ENDIAN).astype(np.int64)
    except (ValueError, KeyError, TypeError) as error:  # bad base64 is a ValueError, too
        raise UserError(
            f'{path}, line {number} is no {{"tokens": "<base64 of int32>"}} ({error}): give a file of LVM\'s layout, '
            "or fetch it again."
        ) from error


__all__ = ["read_lvm", "write_lvm"]
