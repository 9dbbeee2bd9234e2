"""The data as the loop sees it: a list of batches for each step, from any step on."""

import os
import signal
from collections.abc import Callable, Generator
from itertools import islice
from typing import Any

import torch
from PIL import Image
from torch.utils.data import DataLoader

from ..errors import UserError
from .config import TrainingConfig
from .cropping import Cropping
from .data import PictureTable, Share, StepSampler
from .pictures import PictureSource
from .streaming import PictureStream

Batch = dict[str, Any]


class Feeder:
    """Reads batches of a source for one process.

    Args:
        config: The run's settings.
        source: The pictures.
        image_size: S, side of the squares.
        processes: How many train together.
        rank: Which of them this is.
        global_view: Makes the joint encoder's view [3, G, G] of a picture; streams bring it along. None where it is
            not needed.
        pin_memory: Whether batches are put where a GPU can fetch them.

    Raises:
        UserError: If a step takes more pictures than there are, or a picture that is looked at here is damaged.
    """

    def __init__(
        self,
        config: TrainingConfig,
        source: PictureSource,
        image_size: int,
        processes: int = 1,
        rank: int = 0,
        global_view: Callable[[Image.Image], torch.Tensor] | None = None,
        pin_memory: bool = False,
    ):
        self.config, self.source = config, source
        self.cropping = Cropping(
            image_size, config.random_crop, config.crop_scale, config.random_flip, seed=config.seed
        )
        self.share = Share(config.batch_size, config.gradient_accumulation, processes, rank, config.seed)
        self.global_view, self.pin_memory = global_view, pin_memory
        self.table: PictureTable | None = None
        self.problems: list[str] = []
        self.position: dict[str, Any] | None = None
        if not source.is_stream:
            self.share.steps_per_epoch(len(source.table))  # refuses before anything is read
            self.table = PictureTable(source, self.cropping, config.cache_in_memory, config.skip_bad)
            self.problems = self.table.problems
        elif config.cache_in_memory == "always":
            raise UserError("A stream is not kept in memory: leave out --streaming or --cache-in-memory always.")

    @property
    def steps_per_epoch(self) -> int | None:
        """Steps of one pass through the data; None for a stream.

        Raises:
            UserError: If there is not one.
        """
        return None if self.table is None else self.share.steps_per_epoch(len(self.table))

    def steps(self, first: int = 0, position: dict[str, Any] | None = None) -> Generator[list[Batch], None, None]:
        """The batches of each step, without end.

        Args:
            first: The first step.
            position: `self.position` as it was before that step, for a stream.

        Raises:
            UserError: If a picture is damaged.
        """
        self.position = position
        batches = iter(self._loader(first, position))
        while step := list(islice(batches, self.config.gradient_accumulation)):
            for batch in step:
                if "problem" in batch:
                    raise UserError(batch["problem"])
                self.problems += batch.pop("skipped", [])
                self.position = batch.pop("position", None)
            yield step

    def take_problems(self) -> list[str]:
        """A line for each picture that was left out since the last call."""
        problems, self.problems = self.problems, []
        return problems

    def preview(self, count: int) -> tuple[torch.Tensor, list[Image.Image]]:
        """A few pictures to show, the same at any time.

        Returns:
            [n, S, S, 3] uint8, their centre squares, and the whole pictures.

        Raises:
            UserError: If one is damaged.
        """
        plain, pictures = self.cropping.plain(), []
        for index, row in self.source.first(count):
            try:
                pictures.append(self.source.decode(row, index))
            except UserError:
                if not self.config.skip_bad:
                    raise
        squares = [torch.from_numpy(plain.view(plain.prepare(picture), 0, 0).copy()) for picture in pictures]
        return torch.stack(squares), pictures

    def spread(self, count: int) -> torch.Tensor:
        """Centre squares [n, S, S, 3] uint8 of pictures from all over the data, or of a stream's first ones."""
        if self.source.is_stream:
            return self.preview(count)[0]
        plain, squares, size = self.cropping.plain(), [], len(self.source.table)
        for index in torch.linspace(0, size - 1, min(count, size)).long().tolist():
            try:
                squares.append(plain.view(plain.prepare(self.source.picture(index)), 0, 0).copy())
            except UserError:
                if not self.config.skip_bad:
                    raise
        return torch.stack([torch.from_numpy(square) for square in squares])

    def _loader(self, first: int, position: dict[str, Any] | None) -> DataLoader:
        workers = self.config.num_workers
        common: dict[str, Any] = {
            "collate_fn": _as_it_is,
            "pin_memory": self.pin_memory,
            "worker_init_fn": _leave_signals_to_parent,
            # its own, because a loader that starts draws a number, and a resumed run starts one more
            "generator": torch.Generator(),
        }
        if self.table is not None:
            sampler = StepSampler(self.share, self.table.usable, first)
            return DataLoader(self.table, batch_sampler=sampler, num_workers=workers, **common)
        stream = PictureStream(
            self.source,
            self.cropping,
            self.share,
            self.config.shuffle_block,
            self.config.skip_bad,
            self.global_view,
            position,
            threads=max(1, workers),
        )
        # one process reads the stream, else each picture would come once per process
        return DataLoader(stream, batch_size=None, num_workers=min(1, workers), **common)


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _leave_signals_to_parent(worker: int) -> None:
    """A signal to all processes of a group must not look like a failure of the data: the run ends after its step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # not ignored, since it is also how an interpreter that ends rids itself of its workers
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


__all__ = ["Batch", "Feeder"]
