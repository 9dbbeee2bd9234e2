"""Batches of a stream, resumable at any of them.

A stream is shuffled in blocks, each of which is a function of seed, epoch and place in the stream. A buffer from which
pictures are drawn would shuffle further, but what it held is lost when a stream of `datasets` is resumed.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from itertools import count as counting
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import IterableDataset

from ..errors import UserError
from .cropping import Cropping, random_order
from .data import Share
from .pictures import COLUMN, EncodedPicture, PictureSource

BEGINNING = {"stream": None, "index": 0, "place": 0}


class PictureStream(IterableDataset):
    """Batches of a stream, of which every process reads all and decodes its own.

    A batch says where the next one starts: the state of the stream at the beginning of a block, the index of the
    block's first picture and the place in the block. A resumed run reads that block again.

    Args:
        source: A source that is a stream.
        cropping: How squares are cut.
        share: How batches are dealt.
        block: Pictures of a block.
        skip_bad: Whether unreadable pictures are left out; every process has to decode all of them then.
        global_view: Makes the joint encoder's view [3, G, G] of a picture; None where it is not needed.
        position: Where to start, from an earlier batch; None for the beginning.
        threads: That decode.
    """

    def __init__(
        self,
        source: PictureSource,
        cropping: Cropping,
        share: Share,
        block: int,
        skip_bad: bool = False,
        global_view: Callable[[Image.Image], torch.Tensor] | None = None,
        position: dict[str, Any] | None = None,
        threads: int = 1,
    ):
        self.source, self.cropping, self.share, self.block = source, cropping, share, block
        self.skip_bad, self.global_view, self.threads = skip_bad, global_view, threads
        self.position = position or {"epoch": 0, **BEGINNING}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Batches without end.

        Yields:
            `pixels` [b, S, S, 3] uint8, `indices` [b], perhaps `global_pixel_values` [b, 3, G, G], `position`, and
            `skipped`, a line for each picture left out; or `problem`, the line with which the run has to end.
        """
        with ThreadPoolExecutor(self.threads) as pool:
            for epoch in counting(self.position["epoch"]):
                start = self.position if epoch == self.position["epoch"] else BEGINNING
                found = 0
                for batch in self._epoch(epoch, start, pool):
                    found += 1
                    yield batch
                if not found and start["stream"] is None and start["place"] == 0:
                    yield {
                        "problem": f"{' + '.join(self.source.names)} has fewer than {self.share.together} readable "
                        "pictures, which is not one batch: make the batch smaller."
                    }
                    return

    def _epoch(self, epoch: int, start: dict, pool: ThreadPoolExecutor) -> Iterator[dict[str, Any]]:
        waiting, skipped = [], []
        for index, row, position in self._rows(epoch, start):
            if self.skip_bad:
                try:
                    self.source.decode(row, index)
                except UserError as error:
                    skipped.append(str(error))
                    continue
            waiting.append((index, row))
            if len(waiting) == self.share.together:
                yield {**self._batch(waiting, epoch, pool), "position": position, "skipped": skipped}
                waiting, skipped = [], []

    def _rows(self, epoch: int, start: dict) -> Iterator[tuple[int, EncodedPicture, dict]]:
        """(index in the stream, encoded picture, position behind it) in the epoch's order."""
        stream: Any = deepcopy(self.source.rows)  # two passes over one stream would share their places in its files
        stream.set_epoch(epoch)  # by which `datasets` knows whether a state is of this pass
        if start["stream"] is not None:
            stream.load_state_dict(start["stream"])
        rows, state, first, passed = iter(stream), start["stream"], start["index"], start["place"]
        while block := [row[COLUMN] for row in islice(rows, self.block)]:
            order = random_order(len(block), self.share.seed, epoch, first)
            for place in range(passed, len(block)):
                position = {"epoch": epoch, "stream": state, "index": first, "place": place + 1}
                yield first + int(order[place]), block[order[place]], position
            state, first, passed = stream.state_dict(), first + len(block), 0

    def _batch(self, together: list[tuple[int, EncodedPicture]], epoch: int, pool: ThreadPoolExecutor) -> dict:
        first = self.share.rank * self.share.batch_size
        own = together[first : first + self.share.batch_size]
        try:
            pictures = list(pool.map(lambda item: self.source.decode(item[1], item[0]), own))
        except UserError as error:  # an error from a worker would arrive with its traceback in the message
            return {"problem": str(error)}
        squares = [
            self.cropping.view(self.cropping.prepare(picture), epoch, index)
            for (index, _), picture in zip(own, pictures, strict=True)
        ]
        batch = {"pixels": torch.from_numpy(np.stack(squares)), "indices": torch.tensor([index for index, _ in own])}
        if self.global_view is not None:
            batch["global_pixel_values"] = torch.stack([self.global_view(picture) for picture in pictures])
        return batch


__all__ = ["PictureStream"]
