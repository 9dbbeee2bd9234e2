"""Visual sentences packed into rows of one length, none of them cut."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from .token_sentences import TokenSentence

OPEN_ROWS = 32
NO_SENTENCE = -1


@dataclass(frozen=True, eq=False)
class PackedRow:
    """Sentences one behind the other, then padding. L places.

    Args:
        tokens: [L] int64 in [0, K); 0 in the padding.
        is_target: [L] bool, tokens of images that are answers; False in the padding.
        sentence_ids: [L] int64, 0, 1, ... in the order of the row's sentences; -1 in the padding. Two places may see
            each other where these are equal.
        position_ids: [L] int64, from 0 in each sentence; 0 in the padding.
    """

    tokens: np.ndarray
    is_target: np.ndarray
    sentence_ids: np.ndarray
    position_ids: np.ndarray


def pack(sentences: Iterable[TokenSentence], length_images: int, open_rows: int = OPEN_ROWS) -> Iterator[PackedRow]:
    """Puts each sentence into the first row that has room for it.

    A row is given away when it is full, or when it is the oldest of more than `open_rows` that are not.

    Args:
        sentences: Taken as they are needed.
        length_images: Images of a row at most.
        open_rows: How many rows wait for sentences that fit.

    Raises:
        UserError: If a sentence is longer than a row.
    """
    waiting: list[list[TokenSentence]] = []
    for sentence in sentences:
        if sentence.num_images > length_images:
            raise UserError(
                f"A sentence of {sentence.num_images} images does not fit into rows of {length_images}: take fewer "
                "pairs or longer rows."
            )
        room = (place for place, row in enumerate(waiting) if _images(row) + sentence.num_images <= length_images)
        place = next(room, len(waiting))
        if place == len(waiting):
            waiting.append([])
        waiting[place].append(sentence)
        if _images(waiting[place]) == length_images:
            yield _packed(waiting.pop(place), length_images)
        elif len(waiting) > open_rows:
            yield _packed(waiting.pop(0), length_images)
    for row in waiting:
        yield _packed(row, length_images)


def _images(row: list[TokenSentence]) -> int:
    return sum(sentence.num_images for sentence in row)


def _packed(row: list[TokenSentence], length_images: int) -> PackedRow:
    size = len(row[0].tokens) // row[0].num_images
    lengths = [len(sentence.tokens) for sentence in row]
    padding = length_images * size - sum(lengths)
    is_target = [np.repeat(sentence.is_target, size) for sentence in row]
    return PackedRow(
        np.concatenate([*(sentence.tokens for sentence in row), np.zeros(padding, np.int64)]),
        np.concatenate([*is_target, np.zeros(padding, bool)]),
        np.concatenate([np.repeat(np.arange(len(row)), lengths), np.full(padding, NO_SENTENCE)]),
        np.concatenate([*(np.arange(length) for length in lengths), np.zeros(padding, np.int64)]),
    )


__all__ = ["OPEN_ROWS", "PackedRow", "pack"]
