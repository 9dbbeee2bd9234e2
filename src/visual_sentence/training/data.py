"""Batches: which pictures stand in which batch of which process, read so that a resumed run goes on exactly there.

P processes with batches of b see together what one process with batches of P * b sees: batch number m of an epoch
holds the pictures m * P * b to (m + 1) * P * b of the epoch's order, of which process r takes b in a row.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count as counting
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from ..errors import UserError
from ..progress import progress_bar
from .cropping import Cropping, random_order
from .pictures import PictureSource

CACHE_LIMIT = 2**30
# Rows read from a table at once when all of them are decoded.
ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class Share:
    """How batches are cut and dealt.

    Args:
        batch_size: b, pictures per process and forward pass.
        accumulation: A, forward passes per step.
        processes: P.
        rank: r, this process.
        seed: Of the order.
    """

    batch_size: int
    accumulation: int = 1
    processes: int = 1
    rank: int = 0
    seed: int = 0

    @property
    def together(self) -> int:
        """P * b, pictures of a forward pass in all processes."""
        return self.batch_size * self.processes

    def steps_per_epoch(self, count: int) -> int:
        """Steps of an epoch over `count` pictures; what does not fill a step is left out, other pictures each time.

        Raises:
            UserError: If there is not one.
        """
        needed = self.together * self.accumulation
        if needed > count:
            raise UserError(
                f"A step takes {needed} pictures (--batch-size {self.batch_size} x {self.processes} processes x "
                f"--gradient-accumulation {self.accumulation}), but the data has {count}: make it smaller."
            )
        return count // needed

    def batches(self, usable: np.ndarray, step: int) -> Iterator[list[tuple[int, int]]]:
        """This process's batches as (epoch, index) of pictures, from a step on and without end.

        Args:
            usable: [N] int64, indices of the pictures.
            step: The first step.
        """
        per_epoch = self.steps_per_epoch(len(usable)) * self.accumulation
        for epoch in counting(step * self.accumulation // per_epoch):
            order = usable[random_order(len(usable), self.seed, epoch)]
            skipped = max(0, step * self.accumulation - epoch * per_epoch)
            for batch in range(skipped, per_epoch):
                first = batch * self.together + self.rank * self.batch_size
                yield [(epoch, int(index)) for index in order[first : first + self.batch_size]]


class StepSampler(Sampler[list[tuple[int, int]]]):
    """`Share.batches` as a batch sampler."""

    def __init__(self, share: Share, usable: np.ndarray, step: int):
        self.share, self.usable, self.step = share, usable, step

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return self.share.batches(self.usable, self.step)


class PictureTable(Dataset):
    """Pictures by index, decoded when asked for or kept decoded.

    Args:
        source: A source that is no stream.
        cropping: How squares are cut.
        cache: "always", "never", or "auto" for yes if all together stay below 1 GB.
        skip_bad: Whether unreadable pictures are left out; all are decoded once to find them.
    """

    def __init__(self, source: PictureSource, cropping: Cropping, cache: str = "auto", skip_bad: bool = False):
        self.source, self.cropping = source, cropping
        self.usable = np.arange(len(source.table))
        self.problems: list[str] = []
        self.is_cached = cache == "always" or (cache == "auto" and self._fits_memory())
        self._cache: list[np.ndarray | None] = [None] * len(source.table) if self.is_cached else []
        if self.is_cached or skip_bad:
            self._decode_all(skip_bad)

    def __len__(self) -> int:
        return len(self.usable)

    def __getitems__(self, places: list[tuple[int, int]]) -> dict[str, Any]:
        """A batch: `pixels` [b, S, S, 3] uint8 and `indices` [b]; or the `problem` of a damaged picture, as a line."""
        indices = [index for _, index in places]
        try:
            squares = [
                self.cropping.view(pixels, epoch, index)
                for (epoch, index), pixels in zip(places, self._prepared(indices), strict=True)
            ]
        except UserError as error:  # an error from a worker would arrive with its traceback in the message
            return {"problem": str(error)}
        return {"pixels": torch.from_numpy(np.stack(squares)), "indices": torch.tensor(indices)}

    def _prepared(self, indices: list[int]) -> list[np.ndarray]:
        if self.is_cached:
            return [cast(np.ndarray, self._cache[index]) for index in indices]  # those that can be used are all there
        rows = self.source.encoded(indices)
        return [self._prepare(row, index) for row, index in zip(rows, indices, strict=True)]

    def _prepare(self, row: dict, index: int) -> np.ndarray:
        return self.cropping.prepare(self.source.decode(row, index))

    def _fits_memory(self) -> bool:
        """Whether all decoded pictures would stay below the limit; the aspect is guessed from a few."""
        count = len(self.source.table)
        if count * self.cropping.working_size**2 * 3 > CACHE_LIMIT:
            return False
        sizes = []
        for index, row in self.source.first(16):
            try:
                sizes.append(self._prepare(row, index).nbytes)
            except UserError:  # told when its turn comes
                continue
        return not sizes or count * sum(sizes) / len(sizes) < CACHE_LIMIT

    def _decode_all(self, skip_bad: bool) -> None:
        def attempt(row: dict, index: int) -> np.ndarray | UserError:
            try:
                return self._prepare(row, index)
            except UserError as error:
                return error

        bad, count = [], len(self.source.table)
        with (
            ThreadPoolExecutor(os.cpu_count()) as pool,
            progress_bar("reading pictures", count) as progress,
        ):
            for first in range(0, count, ROWS_AT_ONCE):
                indices = range(first, min(first + ROWS_AT_ONCE, count))
                rows = self.source.encoded(indices)
                for index, result in zip(indices, pool.map(attempt, rows, indices), strict=True):
                    if isinstance(result, UserError):
                        if not skip_bad:
                            raise result
                        bad.append(index)
                        self.problems.append(str(result))
                    elif self.is_cached:
                        self._cache[index] = result
                progress.advance(len(rows))
        self.usable = np.setdiff1d(self.usable, bad)


__all__ = ["PictureTable", "Share", "StepSampler"]
