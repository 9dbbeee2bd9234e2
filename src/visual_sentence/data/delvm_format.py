"""DeLVM's files: `train.bin` with a pair or a sentence a line, and `train.bin.meta` with where each line begins.

Source: https://github.com/ggjy/DeLVM, data_generation/generate/ (img_to_token.py, token_concat.py), InternLM's layout.
A line is `{"tokens": [...]}`; the meta file is numpy's, [N, 2] int64: the line's first byte, its number of tokens.
DeLVM's training takes token 0 for "no loss" (internlm/data/collaters.py), ours does not.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ..errors import UserError
from .imported_rows import PAIRS, rows_of_line
from .shards import written_aside
from .token_rows import TokenHeader, TokenRow

BIN, META = "train.bin", ".meta"


def write_delvm(folder: str | Path, sentences: Iterable[np.ndarray]) -> int:
    """Writes `train.bin` and `train.bin.meta`, each whole or not at all.

    Args:
        folder: Where to; is made.
        sentences: [n * T] integers each, the tokens of n images; n is 2 in DeLVM's own files of pairs.

    Returns:
        How many lines there are.

    Raises:
        UserError: If they cannot be written.
    """
    path, places, begin = Path(folder) / BIN, [], 0
    with written_aside(path) as aside, aside.open("wb") as file:
        for tokens in sentences:
            line = json.dumps({"tokens": np.asarray(tokens).tolist()}).encode() + b"\n"
            file.write(line)
            places.append((begin, len(tokens)))
            begin += len(line)
    with written_aside(_meta_of(path)) as aside, aside.open("wb") as file:
        np.save(file, np.array(places, np.int64).reshape(-1, 2))
    return len(places)


def read_delvm(path: str | Path, header: TokenHeader, layout: str = PAIRS, task: str = "delvm") -> Iterator[TokenRow]:
    """Reads a file of DeLVM's layout.

    Args:
        path: `train.bin`, or the folder that holds it. Where its `.meta` is there, the two must agree.
        header: Whose tokens they are; the file does not say it.
        layout: "pairs": a line is cut into input and target in turn; "sequence": it is one row.
        task: What the rows are called.

    Yields:
        Rows for `write_shards`.

    Raises:
        UserError: If there is no such file, a line is none, or the meta file says otherwise; the line is named.
    """
    path = Path(path) / BIN if Path(path).is_dir() else Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file: check the path.")
    places, begin, number = _read_meta(path), 0, 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            tokens = _tokens(line, number, path)
            if places is not None and (number > len(places) or places[number - 1] != (begin, len(tokens))):
                raise _disagreement(path, number)
            begin += len(line)
            yield from rows_of_line(tokens, number, path, header, layout, task)
    if places is not None and number != len(places):
        raise _disagreement(path, number + 1)


def _meta_of(path: Path) -> Path:
    return path.with_name(path.name + META)


def _read_meta(path: Path) -> list[tuple[int, int]] | None:
    """(first byte, tokens) of each line; None where there is no meta file."""
    meta = _meta_of(path)
    if not meta.is_file():
        return None
    try:
        return [(int(begin), int(count)) for begin, count in np.load(meta, allow_pickle=False)]
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise UserError(f"{meta} is no table of (first byte, tokens) ({error}): delete it or make it anew.") from error


def _disagreement(path: Path, number: int) -> UserError:
    return UserError(
        f"{path}, line {number} is not as {_meta_of(path).name} says: one of the two is cut off or of another run; "
        "fetch both again, or delete the .meta file to go without it."
    )


def _tokens(line: bytes, number: int, path: Path) -> np.ndarray:
    try:
        tokens = np.array(json.loads(line)["tokens"])
        if tokens.ndim != 1 or (len(tokens) and tokens.dtype.kind != "i"):
            raise TypeError("its tokens are no list of whole numbers")
        return tokens.astype(np.int64)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{path}, line {number} is no {{"tokens": [numbers]}} ({error}): give a file of the layout of DeLVM, or '
            "fetch it again."
        ) from error


__all__ = ["read_delvm", "write_delvm"]
