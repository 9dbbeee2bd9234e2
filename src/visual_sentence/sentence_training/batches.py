"""Rows of token sentences as batches for a language model, from a place that a resumed run finds again.

A row is one sentence, or several that are packed. Rows come in chunks: an epoch of a table, or the next sentences of a
stream. A chunk's rows are dealt to P processes as one process with P times the batch would take them; what does not
fill a step is left out, other rows each time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any, Literal, Protocol

import numpy as np
import torch

from ..data.token_sentences import ComposedSentences, SentenceTable, TokenSentence
from ..data.token_stream import SentenceStream
from ..errors import UserError
from ..modeling import ImageTokenConverter
from ..training.data import Share

IGNORED = -100
# Sentences that are taken from a stream at once, at least.
STREAM_CHUNK = 512
Row = list[TokenSentence]


@dataclass(frozen=True)
class SentenceBatch:
    """B rows of L tokens.

    Args:
        input_ids: [B, L] int64.
        labels: [B, L] int64, -100 where nothing is asked.
        attention_mask: [B, L] int64 with 0 for padding; None where there is none, or sentences share rows.
        sentence_numbers: [B, L] int64, each token's sentence in its row, -1 for padding; None where sentences of a row
            see each other.
        position_ids: [B, L] int64, from 0 in each sentence where they do not see each other; None for a plain count.
        tokens: Tokens that are no padding.
        asked: Tokens that are learned.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    attention_mask: torch.Tensor | None
    sentence_numbers: torch.Tensor | None
    position_ids: torch.Tensor | None
    tokens: int
    asked: int

    def inputs(self, device: torch.device | str = "cpu") -> dict[str, torch.Tensor | None]:
        """Arguments of the model; where sentences share rows, its mask is [B, 1, L, L] bool."""
        names = ("input_ids", "labels", "attention_mask", "position_ids")
        found = {name: _moved(getattr(self, name), device) for name in names}
        numbers = _moved(self.sentence_numbers, device)
        if numbers is not None:  # made there: it is L times what is carried over
            found["attention_mask"] = block_mask(numbers)
        return found


def _moved(part: torch.Tensor | None, device: torch.device | str) -> torch.Tensor | None:
    return None if part is None else part.to(device, non_blocking=True)


class Collator:
    """Makes batches of rows.

    A sentence is framed by the vocabulary's begin and end, if it has them; sentences that see each other are framed as
    one, as places within images are counted from a row's beginning.

    Args:
        converter: Image tokens to ids.
        tokens_per_image: T.
        max_images: Images of the longest row.
        loss_on: "targets" or "everything".
        packing: "none", "separate" or "together".
    """

    def __init__(
        self,
        converter: ImageTokenConverter,
        tokens_per_image: int,
        max_images: int,
        loss_on: Literal["targets", "everything"],
        packing: Literal["none", "separate", "together"],
    ):
        self.converter, self.tokens_per_image, self.max_images = converter, tokens_per_image, max_images
        self.loss_on, self.packing = loss_on, packing

    def framed(self, sentences: Sequence[TokenSentence]) -> tuple[np.ndarray, np.ndarray]:
        """Ids [l] and labels [l] of sentences that follow each other, with what they begin and end with."""
        tokens = torch.from_numpy(np.concatenate([one.tokens for one in sentences]))
        ids = self.converter.to_ids(tokens).numpy()
        is_target = np.concatenate([one.is_target for one in sentences])
        labels = ids.copy()
        if self.loss_on == "targets":
            labels[~np.repeat(is_target, self.tokens_per_image)] = IGNORED
        begin, end = self.converter.begin_id, self.converter.end_id
        if begin is not None:
            ids, labels = np.append(begin, ids), np.append(IGNORED, labels)
        if end is not None:
            ids, labels = np.append(ids, end), np.append(labels, end if self.loss_on == "everything" else IGNORED)
        labels[0] = IGNORED  # nothing stands before it
        return ids, labels

    def __call__(self, rows: Sequence[Row]) -> SentenceBatch:
        """A batch of rows of sentences."""
        parts = [[self.framed(part) for part in ([row] if self.packing == "together" else zip(row))] for row in rows]
        lengths = [sum(len(ids) for ids, _ in row) for row in parts]
        shape = (len(rows), max(lengths))
        ids = np.full(shape, self.converter.pad_id, np.int64)
        labels, numbers = np.full(shape, IGNORED, np.int64), np.full(shape, -1, np.int64)
        places = np.zeros(shape, np.int64)
        for place, row in enumerate(parts):
            start = 0
            for number, (own, asked) in enumerate(row):
                span = slice(start, start + len(own))
                ids[place, span], labels[place, span], numbers[place, span] = own, asked, number
                # padding goes on counting behind the last sentence: where a place is 0, a GRU begins anew
                places[place, start:] = np.arange(shape[1] - start)
                start = span.stop
        separate = numbers.max() > 0
        padded = min(lengths) < shape[1]
        return SentenceBatch(
            torch.from_numpy(ids),
            torch.from_numpy(labels),
            torch.from_numpy((numbers >= 0).astype(np.int64)) if padded and not separate else None,
            torch.from_numpy(numbers) if separate else None,
            torch.from_numpy(places) if separate else None,
            sum(lengths),
            int((labels != IGNORED).sum()),
        )


def block_mask(numbers: torch.Tensor) -> torch.Tensor:
    """Who may see whom where sentences share rows: [B, 1, L, L] bool.

    Args:
        numbers: [B, L] int64, each token's sentence in its row, -1 for padding; padding sees itself only.
    """
    length = numbers.shape[1]
    same = (numbers[:, :, None] == numbers[:, None, :]) & (numbers >= 0)[:, :, None]
    causal = torch.ones(length, length, dtype=torch.bool, device=numbers.device).tril()
    alone = torch.eye(length, dtype=torch.bool, device=numbers.device)  # a row of nothing would be no numbers
    return ((same & causal) | alone).unsqueeze(1)


def pack_first_fit(sizes: Sequence[int], limit: int) -> list[list[int]]:
    """Places of sentences for rows of at most `limit`: each goes into the first row that has room.

    Args:
        sizes: Images of each, none above the limit.
        limit: Images of a row.
    """
    rows: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(limit + 1)]  # heaps of rows, by the room that is left in them
    for place, size in enumerate(sizes):
        wide = [left for left in range(size, limit + 1) if with_room[left]]
        room = min(wide, key=lambda left: with_room[left][0], default=None)
        if room is None:
            row, room = len(rows), limit
            rows.append([])
        else:
            row = heappop(with_room[room])
        rows[row].append(place)
        heappush(with_room[room - size], row)
    return rows


def sentence_sizes(sentences: Sequence[TokenSentence]) -> list[int]:
    """Images of each sentence; those that are not composed yet are not composed for it."""
    if not isinstance(sentences, ComposedSentences):
        return [one.num_images for one in sentences]
    lengths, places = np.diff(sentences.columns.offsets), sentences.composition
    ends = np.concatenate([[0], lengths[places.rows].cumsum()])[places.offsets]
    return (np.diff(ends) // sentences.header.tokens_per_image).tolist()


class Chunks(Protocol):
    """Where sentences come from, some at a time."""

    def next(self) -> tuple[dict[str, Any], Sequence[TokenSentence]]:
        """Where a chunk begins, as JSON values, and its sentences."""

    def seek(self, place: dict[str, Any]) -> None:
        """Lets the next chunk be the one that began there."""


class TableChunks:
    """Epochs of a table, each one chunk; the same in all processes."""

    is_dealt = False

    def __init__(self, table: SentenceTable):
        self.table, self.epoch = table, 0

    def next(self) -> tuple[dict[str, Any], Sequence[TokenSentence]]:
        """See `Chunks`."""
        place, found = {"epoch": self.epoch}, self.table.epoch(self.epoch)
        self.epoch += 1
        return place, found

    def seek(self, place: dict[str, Any]) -> None:
        """See `Chunks`."""
        self.epoch = place["epoch"]


class StreamChunks:
    """Sentences of a stream, which gives each process its own.

    Args:
        stream: The stream.
        size: Sentences of a chunk.
    """

    is_dealt = True

    def __init__(self, stream: SentenceStream, size: int = STREAM_CHUNK):
        self.stream, self.size = stream, size
        self._source: Iterator[TokenSentence] | None = None

    def next(self) -> tuple[dict[str, Any], Sequence[TokenSentence]]:
        """See `Chunks`."""
        place = self.stream.state_dict()
        if self._source is None:
            self._source = iter(self.stream)
        found, is_empty = [], False
        while len(found) < self.size:
            sentence = next(self._source, None)
            if sentence is not None:
                found.append(sentence)
                continue
            if is_empty and not found:  # two epochs without a sentence
                raise UserError(f"{self.stream.shards.name}: no sentence can be composed of this process's rows.")
            is_empty = not found
            self._source = iter(self.stream)  # the next epoch
        return place, found

    def seek(self, place: dict[str, Any]) -> None:
        """See `Chunks`."""
        self.stream.load_state_dict(place)
        self._source = None


class SentenceFeed:
    """Endless batches.

    Args:
        chunks: Where sentences come from.
        share: How rows are dealt.
        collator: Makes batches.

    Raises:
        UserError: If a sentence is longer than a row, or a step takes more rows than there are.
    """

    def __init__(self, chunks: TableChunks | StreamChunks, share: Share, collator: Collator):
        self.chunks, self.share, self.collator = chunks, share, collator
        self.position: dict[str, Any] | None = None

    def __iter__(self) -> Iterator[list[SentenceBatch]]:
        """Batches of one step at a time; `position` then tells where the next one begins."""
        first, share = 0, self.share
        is_begun = self.position is not None
        if self.position is not None:
            self.chunks.seek(self.position["chunk"])
            first = self.position["row"]
        processes, rank = (1, 0) if self.chunks.is_dealt else (share.processes, share.rank)
        together = share.batch_size * processes
        needed = together * share.accumulation
        while True:
            place, sentences = self.chunks.next()
            rows = self._rows(sentences)
            if len(rows) < needed and not is_begun:
                raise UserError(
                    f"A step takes {needed} rows (--batch-size {share.batch_size} x {processes} processes x "
                    f"--gradient-accumulation {share.accumulation}), but the data makes {len(rows)}: give more data, "
                    "or make it smaller."
                )
            is_begun = True  # from now on a chunk that happens to make a few rows less than a step is passed over
            for start in range(first, len(rows) - needed + 1, needed):
                self.position = {"chunk": place, "row": start + needed}
                begins = [start + part * together + rank * share.batch_size for part in range(share.accumulation)]
                yield [
                    self.collator([[sentences[one] for one in row] for row in rows[begin : begin + share.batch_size]])
                    for begin in begins
                ]
            first = 0

    def _rows(self, sentences: Sequence[TokenSentence]) -> list[list[int]]:
        sizes, limit = sentence_sizes(sentences), self.collator.max_images
        if max(sizes, default=0) > limit:
            raise UserError(
                f"A sentence of the data has {max(sizes)} images, this model reads {limit}: make --max-pairs smaller, "
                "or the model's max_images larger."
            )
        if self.collator.packing == "none":
            return [[place] for place in range(len(sizes))]
        return pack_first_fit(sizes, limit)


def stream_chunk(share: Share, collator: Collator) -> int:
    """How many sentences of a stream make rows for whole steps, with little left over."""
    step = share.batch_size * share.accumulation
    if collator.packing == "none":
        return -(-STREAM_CHUNK // step) * step
    return max(STREAM_CHUNK, 2 * step * collator.max_images)
