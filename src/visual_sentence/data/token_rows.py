"""Rows of tokens in memory: whose tokens they are, one row, many rows by columns."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa

from ..errors import UserError

PAIR, SEQUENCE = "pair", "sequence"
LAYOUTS = (PAIR, SEQUENCE)
FORMAT_VERSION = 1
UINT16_CODES = 2**16
TEXT_COLUMNS = ("task", "setting", "source", "layout")


@dataclass(frozen=True)
class TokenHeader:
    """Whose tokens they are.

    Args:
        vqgan_sha256: Fingerprint of the VQGAN's weights that decide the tokens, in hexadecimal.
        codebook_size: K; tokens lie in [0, K).
        grid: (h, w), tokens of an image by rows and columns; an image has T = h * w.
    """

    vqgan_sha256: str
    codebook_size: int
    grid: tuple[int, int]

    @property
    def tokens_per_image(self) -> int:
        """T."""
        return self.grid[0] * self.grid[1]

    @property
    def dtype(self) -> np.dtype:
        """The smallest of uint16 and uint32 that holds all tokens."""
        return np.dtype(np.uint16 if self.codebook_size <= UINT16_CODES else np.uint32)

    def to_json(self) -> str:
        """The text that stands in a shard's metadata."""
        return json.dumps({"version": FORMAT_VERSION, **asdict(self)})

    @classmethod
    def from_json(cls, text: str | bytes) -> "TokenHeader":
        """The header of a shard's metadata.

        Raises:
            ValueError, KeyError, TypeError: If it is none, or of a later version of the format.
        """
        values = json.loads(text)
        if values["version"] != FORMAT_VERSION:
            raise ValueError(f"version {values['version']}, known is {FORMAT_VERSION}")
        height, width = values["grid"]
        return cls(str(values["vqgan_sha256"]), int(values["codebook_size"]), (int(height), int(width)))

    def check_same(self, wanted: "TokenHeader", name: str) -> None:
        """Refuses tokens of another VQGAN.

        Args:
            wanted: Of the model that is to read the tokens.
            name: Where this header was found.

        Raises:
            UserError: If the two differ.
        """
        remedy = "tokenize the pictures again with scripts/tokenize_dataset.py --model, or use the model they are of"
        if self.vqgan_sha256 != wanted.vqgan_sha256:
            raise UserError(
                f"{name} holds tokens of the VQGAN {self.vqgan_sha256[:12]}, but the model's VQGAN is "
                f"{wanted.vqgan_sha256[:12]}, to which they mean other images: {remedy}."
            )
        if self != wanted:
            raise UserError(
                f"{name} holds images of {_grid(self.grid)} tokens out of {self.codebook_size:,}, but the model's have "
                f"{_grid(wanted.grid)} out of {wanted.codebook_size:,}: {remedy}."
            )


def _grid(grid: tuple[int, int]) -> str:
    return f"{grid[0]} x {grid[1]}"


@dataclass(frozen=True, eq=False)
class TokenRow:
    """The tokens of a few images that belong together.

    Args:
        tokens: [n * T] integers in [0, K), image after image, each row by row.
        task: What the pair is an example of; for sequences any name.
        setting: What pairs of one sentence have to share beside the task, such as the foreground's class.
        source: Which picture it was made of: pairs of one sentence never share it.
        layout: "pair": input, then target; "sequence": n images in order.
        index: Its number in the data that it was made of.
    """

    tokens: np.ndarray
    task: str
    setting: str = ""
    source: str = ""
    layout: str = PAIR
    index: int = 0


@dataclass(frozen=True, eq=False)
class TokenColumns:
    """N rows by columns.

    Args:
        tokens: [sum of n * T] uint16 or uint32, row after row.
        offsets: [N + 1] int64: tokens of row i are `tokens[offsets[i]:offsets[i + 1]]`.
        task, setting, source, layout: [N] objects, str.
        index: [N] int64.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    task: np.ndarray
    setting: np.ndarray
    source: np.ndarray
    layout: np.ndarray
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    def row(self, place: int) -> TokenRow:
        """Row `place` of 0..N-1."""
        start, stop = self.offsets[place], self.offsets[place + 1]
        texts = (getattr(self, column)[place] for column in TEXT_COLUMNS)
        return TokenRow(self.tokens[start:stop], *texts, index=int(self.index[place]))

    @classmethod
    def from_table(cls, table: pa.Table) -> "TokenColumns":
        """Of a shard's table."""
        lists = table.column("tokens")
        values = [chunk.flatten().to_numpy() for chunk in lists.chunks]
        lengths = [np.diff(chunk.offsets.to_numpy()) for chunk in lists.chunks]
        empty = np.array([], lists.type.value_type.to_pandas_dtype())
        return cls(
            tokens=np.concatenate([empty, *values]),
            offsets=np.concatenate([[0], *lengths]).cumsum(dtype=np.int64),
            index=table.column("index").to_numpy(),
            **{column: _texts(table.column(column)) for column in TEXT_COLUMNS},
        )

    @classmethod
    def concatenate(cls, parts: Sequence["TokenColumns"]) -> "TokenColumns":
        """The rows of one or more parts, one after the other."""
        lengths = [np.diff(part.offsets) for part in parts]
        others = ([getattr(part, column) for part in parts] for column in (*TEXT_COLUMNS, "index"))
        return cls(
            np.concatenate([part.tokens for part in parts]),
            np.concatenate([[0], *lengths]).cumsum(dtype=np.int64),
            *(np.concatenate(columns) for columns in others),
        )


def _texts(column: pa.ChunkedArray) -> np.ndarray:
    """[N] objects; equal texts are one object, as a million rows name a handful of tasks."""
    encoded = column.dictionary_encode().unify_dictionaries()
    if not encoded.num_chunks:
        return np.array([], object)
    words = encoded.chunk(0).dictionary.to_numpy(zero_copy_only=False)
    return words[np.concatenate([chunk.indices.to_numpy() for chunk in encoded.chunks])]


__all__ = ["LAYOUTS", "PAIR", "SEQUENCE", "TokenColumns", "TokenHeader", "TokenRow"]
