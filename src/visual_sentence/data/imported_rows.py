"""Sentences of other projects' files as token rows: checked, since these files say nothing about their tokens."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import UserError
from .token_rows import PAIR, SEQUENCE, TokenHeader, TokenRow

PAIRS = "pairs"
IMPORT_LAYOUTS = (SEQUENCE, PAIRS)
IMAGES_OF_A_PAIR = 2


def rows_of_line(
    tokens: np.ndarray, number: int, path: Path, header: TokenHeader, layout: str, task: str
) -> Iterator[TokenRow]:
    """The rows of one line.

    As "sequence" a line is one row. As "pairs" it is cut into pairs, input and target in turn, each a source of its
    own, as the files name none. The pairs of a longer line stay among themselves, by a setting of their own; lines of
    a single pair are composed with each other.

    Args:
        tokens: [m] integers.
        number: Of the line, from 1 on.
        path: The file.
        header: Whose tokens they are said to be.
        layout: "sequence" or "pairs".
        task: What the rows are called.

    Raises:
        UserError: If the layout is unknown, the tokens are not whole images or pairs, or lie outside the codebook.
    """
    if layout not in IMPORT_LAYOUTS:
        raise UserError(f"There is no layout {layout!r}: choose one of {', '.join(IMPORT_LAYOUTS)}.")
    size, where = header.tokens_per_image, f"{path}, line {number}"
    images, rest = divmod(len(tokens), size)
    if rest or not images:
        raise UserError(
            f"{where} has {len(tokens):,} tokens, which are no whole images of {size}: name the model (--model) that "
            "they are of, or mend the line."
        )
    wrong = np.flatnonzero((tokens < 0) | (tokens >= header.codebook_size))
    if len(wrong):
        raise UserError(
            f"{where} has the token {tokens[wrong[0]]} at place {wrong[0]}, but the model's codebook ends at "
            f"{header.codebook_size - 1}: name the model (--model) that they are of, or take special ids out."
        )
    if layout == SEQUENCE:
        yield TokenRow(tokens, task, "", f"{path.name}:{number}", SEQUENCE, number - 1)
        return
    if images % IMAGES_OF_A_PAIR:
        raise UserError(f"{where} has {images} images, which are no pairs: import it with --layout sequence.")
    setting = f"line={number}" if images > IMAGES_OF_A_PAIR else ""
    for place, pair in enumerate(tokens.reshape(-1, IMAGES_OF_A_PAIR * size)):
        yield TokenRow(pair, task, setting, f"{path.name}:{number}.{place}", PAIR, number - 1)


__all__ = ["IMPORT_LAYOUTS", "PAIRS", "rows_of_line"]
