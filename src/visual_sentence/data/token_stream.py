"""Visual sentences of shards that do not fit in memory: block after block, each node its own, resumable anywhere.

Runs of rows, of all shards in random order, are dealt out to the nodes; some dozens of them make a block, and
sentences are composed within it. Where a stream stands is three numbers.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import UserError
from .shards import ROW_GROUP, TokenShards
from .token_rows import TokenColumns
from .token_sentences import ComposedSentences, TokenSentence, check_num_pairs, compose, group_rows

BLOCK_ROWS = 8192
DEALING, COMPOSING = range(2)  # what is drawn, so that no two draws share their chance


class SentenceStream:
    """Iterates over one epoch's sentences of this node; iterated again, over the next epoch's.

    Every row is dealt to exactly one node in an epoch; nodes may differ by some rows. Rows that find no company within
    their block are left out and counted.

    Args:
        shards: Of which only the metadata are read at once.
        num_pairs: Fewest and most pairs before the query's; each number is equally likely.
        seed: Of all that is drawn; the same on all nodes.
        block_rows: Rows in memory, of which sentences are composed. More of them mix better.
        rank: This node's number.
        world_size: How many nodes there are.

    Attributes:
        unplaced: How many rows this object has left out so far.

    Raises:
        UserError: If the range is none, or there are too few rows for so many nodes.
    """

    def __init__(
        self,
        shards: TokenShards,
        num_pairs: tuple[int, int] = (1, 4),
        seed: int = 0,
        block_rows: int = BLOCK_ROWS,
        rank: int = 0,
        world_size: int = 1,
    ):
        if not 0 <= rank < world_size:
            raise UserError(f"Node {rank} is none of {world_size}: count from 0 to {world_size - 1}.")
        self.shards, self.num_pairs, self.seed = shards, check_num_pairs(num_pairs), seed
        self.block_rows, self.rank, self.world_size = block_rows, rank, world_size
        self.unplaced = 0
        self._runs = [
            (number, start, min(start + ROW_GROUP, file.num_rows))
            for number, file in enumerate(shards.files)
            for start in range(0, file.num_rows, ROW_GROUP)
        ]
        if len(self._runs) < world_size:
            raise UserError(
                f"{shards.name} has {len(self._runs)} runs of up to {ROW_GROUP} rows, too few for {world_size} nodes: "
                "read them as a table, which every node holds as a whole, or tokenize more pictures."
            )
        self._epoch = self._block = self._emitted = 0

    def __iter__(self) -> Iterator[TokenSentence]:
        blocks = self._blocks()
        while self._block < len(blocks):
            sentences = self._compose(blocks[self._block])
            while self._emitted < len(sentences):
                self._emitted += 1
                yield sentences[self._emitted - 1]
            self._block, self._emitted = self._block + 1, 0
        self._epoch, self._block = self._epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        """Where the stream stands; the sentences that were handed out are behind it."""
        return {"epoch": self._epoch, "block": self._block, "emitted": self._emitted, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes to where another stream stood: the next sentence is the one that would have come there.

        Args:
            state: Of `state_dict`, of the same node.

        Raises:
            UserError: If it is of other rows, seed, blocks, pairs or nodes.
        """
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise UserError(
                    f"The stream was left with {name.replace('_', ' ')} {state.get(name)}, now it is {value}, so its "
                    "position means nothing: give the same data and options to go on."
                )
        self._epoch, self._block, self._emitted = state["epoch"], state["block"], state["emitted"]

    def _identity(self) -> dict[str, int]:
        low, high = self.num_pairs
        return {
            "rows": len(self.shards),
            "seed": self.seed,
            "block_rows": self.block_rows,
            "fewest_pairs": low,
            "most_pairs": high,
            "rank": self.rank,
            "world_size": self.world_size,
        }

    def _blocks(self) -> list[np.ndarray]:
        """Numbers of the runs of each of this node's blocks in this epoch."""
        order = np.random.default_rng((self.seed, DEALING, self._epoch)).permutation(len(self._runs))
        own = order[self.rank :: self.world_size]
        count = -(-len(own) // max(1, self.block_rows // ROW_GROUP))
        return np.array_split(own, count)

    def _compose(self, block: np.ndarray) -> ComposedSentences:
        parts = []
        for run in block.tolist():
            number, start, stop = self._runs[run]
            parts.append(self.shards.files[number].read(start, stop))
        columns = TokenColumns.concatenate(parts)
        rng = np.random.default_rng((self.seed, COMPOSING, self._epoch, self.rank, self._block))
        composition = compose(*group_rows(columns), self.num_pairs, rng)
        if self._emitted == 0:
            self.unplaced += len(composition.unplaced)
        return ComposedSentences(columns, composition, self.shards.header)


__all__ = ["BLOCK_ROWS", "SentenceStream"]
