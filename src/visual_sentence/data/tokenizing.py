"""Pairs of tasks, drawn and written as tokens: in several processes, and resumable after any of them was killed.

The work is cut into units before it begins: a unit is a range of pairs of one set of data, and becomes one shard. The
plan is written first; a shard is there as a whole or not at all. So whoever comes next knows what is missing, and a
pair depends on seed, set and number only, not on who makes it.
"""

import os
import pickle
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_all_start_methods, get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from ..modeling import VQGANImageProcessor, VQGANModel
from ..progress import progress_bar
from ..reconstruction.codec import ImageCodec
from .augmentation import Augmentation
from .sentences import SentenceMaker
from .shards import SHARD_ROWS, write_shard
from .specs import TaskData
from .token_rows import PAIR, TokenHeader, TokenRow
from .tokenizing_plan import Plan, Unit

IMAGES_OF_A_PAIR = 2


def token_header(vqgan: VQGANModel) -> TokenHeader:
    """What shards of a VQGAN's tokens say of it; what `TokenShards.open` compares.

    Args:
        vqgan: By itself or a SimLVM's.
    """
    config = vqgan.config
    codec = ImageCodec(vqgan, VQGANImageProcessor(local_size=config.image_size), "the VQGAN")
    return TokenHeader(codec.fingerprint, config.codebook_size, tuple(config.grid_size))


@dataclass(frozen=True)
class TokenizingReport:
    """What was done.

    Args:
        folder: Where the shards are.
        shards: Of the whole plan.
        pairs: The same.
        written_shards: By this call.
        written_pairs: The same.
        missing_shards: Not there yet, as other processes are at them.
        seconds: Taken.
    """

    folder: Path
    shards: int
    pairs: int
    written_shards: int
    written_pairs: int
    missing_shards: int
    seconds: float

    @property
    def summary(self) -> str:
        """In a line."""
        rate = self.written_pairs / max(self.seconds, 1e-9)
        missing = f", {self.missing_shards} still to come" if self.missing_shards else ""
        return (
            f"{self.folder}: {self.pairs:,} pairs in {self.shards:,} shards{missing}; written now "
            f"{self.written_pairs:,} pairs in {self.seconds:.1f} s ({rate:.1f} a second)"
        )


class PairTokenizer:
    """Makes units of a plan; can be pickled, for worker processes.

    Args:
        model: The VQGAN.
        image_processor: Makes the model's view of a picture.
        data: The sets of data.
        header: Of the model's tokens.
        batch_size: Pairs a forward pass.
        seed: Of all that is drawn.
        augment: Changes examples before the task; None for nothing.
    """

    def __init__(
        self,
        model: VQGANModel,
        image_processor: VQGANImageProcessor,
        data: Sequence[TaskData],
        header: TokenHeader,
        batch_size: int = 16,
        seed: int = 0,
        augment: Augmentation | None = None,
    ):
        self.model, self.image_processor, self.header = model.eval(), image_processor, header
        self.data, self.batch_size = list(data), batch_size
        # damage such as noise belongs to the resolution that the model sees
        size = image_processor.local_size if image_processor.local_fit == "stretch" else None
        self.makers = [SentenceMaker(one, augment, seed, size) for one in data]

    def rows(self, unit: Unit) -> Iterator[TokenRow]:
        """The rows of a unit, a batch at a time."""
        maker, task = self.makers[unit.data], self.data[unit.data].task.name
        for start in range(unit.start, unit.stop, self.batch_size):
            numbers = range(start, min(start + self.batch_size, unit.stop))
            pairs = [maker.pair(number) for number in numbers]
            pictures = [picture for pair in pairs for picture in (pair.input, pair.target)]
            pixels = self.image_processor(pictures, return_tensors="pt")["pixel_values"]
            tokens = self.model.encode(pixels.to(self.model.device)).image_tokens
            tokens = tokens.reshape(len(pairs), IMAGES_OF_A_PAIR * self.header.tokens_per_image).cpu().numpy()
            for number, pair, row in zip(numbers, pairs, tokens, strict=True):
                yield TokenRow(row, task, pair.setting, pair.source, PAIR, number)

    def write(self, unit: Unit, folder: Path) -> int:
        """Writes the shard of a unit and says how many rows it has."""
        return write_shard(folder / unit.file, self.header, self.rows(unit))


def tokenize_pairs(
    model: VQGANModel,
    data: Sequence[TaskData],
    output: str | Path,
    image_processor: VQGANImageProcessor | None = None,
    batch_size: int = 16,
    shard_rows: int = SHARD_ROWS,
    workers: int = 1,
    seed: int = 0,
    augment: Augmentation | None = None,
) -> TokenizingReport:
    """Writes every pair of the data as tokens, each example as often as its `draws` say.

    Called again after an interruption, with the same arguments, it writes what is missing. In processes that were
    launched together (`RANK` and `WORLD_SIZE`, as torchrun and accelerate set them) each takes its share of the shards.

    Args:
        model: The VQGAN.
        data: Tasks with their pictures.
        output: Folder for the shards; is made.
        image_processor: Makes the model's view; by default the whole picture stretched to a square, as LVM does.
        batch_size: Pairs a forward pass.
        shard_rows: Pairs of a shard, at most.
        workers: Processes; each has its own copy of the model.
        seed: Of tasks' and augmentation's chance.
        augment: Changes examples before the task; None for nothing.

    Raises:
        UserError: If the folder holds something else, a picture cannot be read, or a worker dies.
    """
    begin, folder, config = time.monotonic(), Path(output).expanduser(), model.config
    if batch_size < 1 or workers < 1:
        raise UserError(f"{batch_size} pairs a batch in {workers} processes do nothing: give 1 or more of both.")
    if image_processor is None:
        image_processor = VQGANImageProcessor(local_size=config.image_size, local_fit="stretch")
    if image_processor.local_size != config.image_size:
        raise UserError(
            f"The image processor makes views of {image_processor.local_size} pixels, but the VQGAN is for "
            f"{config.image_size}: give the model's own image processor."
        )
    header = token_header(model)
    plan = Plan.make(header, data, shard_rows, seed, augment)
    plan.settle(folder)
    rank, world_size = launched_as()
    share = plan.units[rank::world_size]
    todo = [unit for unit in share if not unit.is_written(folder, header)]
    tokenizer = PairTokenizer(model, image_processor, data, header, batch_size, seed, augment)
    total, waiting = sum(map(len, share)), sum(map(len, todo))
    with progress_bar("tokenizing pairs", total, total - waiting) as bar:
        for count in _write_units(tokenizer, todo, folder, min(workers, len(todo))):
            bar.advance(count)
    missing = sum(not (folder / unit.file).exists() for unit in plan.units)
    pairs = sum(map(len, plan.units))
    return TokenizingReport(folder, len(plan.units), pairs, len(todo), waiting, missing, time.monotonic() - begin)


def launched_as() -> tuple[int, int]:
    """This process's number and how many were launched with it: (0, 1) where it is alone."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def _write_units(tokenizer: PairTokenizer, units: Sequence[Unit], folder: Path, workers: int) -> Iterator[int]:
    """Writes shards, here or in workers; yields the rows of each."""
    if workers > 1:
        yield from _write_in_workers(tokenizer, units, folder, workers)
        return
    for unit in units:
        yield tokenizer.write(unit, folder)


def _write_in_workers(tokenizer: PairTokenizer, units: Sequence[Unit], folder: Path, workers: int) -> Iterator[int]:
    """Hands units to processes, each on a line of its own: there is no lock that a killed one could keep."""
    # as plain bytes: torch would pass tensors through shared memory, of which containers have little
    packed, waiting = pickle.dumps(tokenizer), iter(units)
    context, threads = _context(), max(1, (os.cpu_count() or 1) // workers)
    lines: dict[connection.Connection, BaseProcess] = {}
    try:
        for _ in range(workers):
            line, theirs = context.Pipe()
            lines[line] = context.Process(target=_work, args=(theirs, packed, folder, threads), daemon=True)
            lines[line].start()
            theirs.close()
            line.send(next(waiting))
        while lines:
            ready: list[Any] = connection.wait(list(lines))
            for line in ready:
                found = _received(line, lines[line])
                if isinstance(found, UserError):
                    raise found
                yield found
                unit = next(waiting, None)
                line.send(unit)
                if unit is None:
                    lines.pop(line).join()
    finally:
        for process in lines.values():
            process.terminate()
        for process in lines.values():
            process.join()


def _context() -> Any:
    """How workers begin: as copies of a process that has imported all of this once, where the system has such."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _received(line: connection.Connection, process: BaseProcess) -> int | UserError:
    try:
        return line.recv()
    except (EOFError, OSError) as error:
        process.join()
        raise UserError(
            f"A worker process ended early (status {process.exitcode}; -9 is most often want of memory): run again, "
            "with fewer --workers or a smaller --batch-size; shards that are written stay."
        ) from error


def _work(line: connection.Connection, packed: bytes, folder: Path, threads: int) -> None:
    """A worker's life: writes the units that it is given until it is given None."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        tokenizer = pickle.loads(packed)
        while (unit := line.recv()) is not None:
            line.send(tokenizer.write(unit, folder))
    except UserError as error:
        line.send(error)


def _end_with_parent() -> None:
    """Ends this process when the one that started it is killed, also in the middle of a shard."""
    parent = parent_process()
    assert parent is not None  # this process is a worker
    connection.wait([parent.sentinel])
    os._exit(1)


__all__ = ["PairTokenizer", "Plan", "TokenizingReport", "Unit", "launched_as", "token_header", "tokenize_pairs"]
