"""Pairs of tasks as one Parquet file: as they are, or all their different pictures."""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from ..errors import UserError
from ..progress import progress_bar
from .augmentation import Augmentation
from .sentences import SentenceMaker
from .specs import parse_task_data

PAIRS = Features(
    {
        **{name: ImageFeature() for name in ("input", "target")},
        **{name: Value("string") for name in ("task", "setting", "source")},
    }
)
PICTURES = Features({"image": ImageFeature()})
ROWS_AT_ONCE = 256


def write_pair_file(
    data: Sequence[str],
    output: Path,
    columns: str = "pairs",
    size: int = 64,
    limit: int | None = None,
    seed: int = 0,
    augment: bool = False,
) -> str:
    """Writes a file, whole or not at all.

    Args:
        data: Tasks and their data, as `parse_task_data` takes them.
        output: The Parquet file.
        columns: "pairs": `input`, `target`, `task`, `setting`, `source`; "pictures": `image`, a row for each different
            picture, questions and answers alike.
        size: Side S in pixels; pictures are stretched to S x S, before a task damages them.
        limit: Pairs of each task at most.
        seed: Seed.
        augment: Whether examples are mirrored and cropped first.

    Returns:
        What was written, in one line.

    Raises:
        UserError: If the data cannot be read or the file not be written.
    """
    if size < 8 or (limit is not None and limit < 1):
        raise UserError(f"A size of {size} and a limit of {limit} leave nothing to see: take 8 and 1 or more.")
    if output.suffix != ".parquet" or not output.parent.is_dir():
        raise UserError(f"{output} cannot be written: name a .parquet file in a folder that exists.")
    augmentation = Augmentation() if augment else None
    makers = [SentenceMaker(parse_task_data(text), augmentation, seed, size) for text in data]
    rows = _pair_rows(makers, limit)
    features = PAIRS if columns == "pairs" else PICTURES
    partial = output.with_name(f".{output.name}.partial")
    count = 0
    try:
        # the schema carries the features, so that whoever opens the file gets pictures
        with pq.ParquetWriter(partial, features.arrow_schema) as writer:
            for batch in _batches(rows if columns == "pairs" else _different_pictures(rows)):
                writer.write_table(pa.Table.from_pylist(batch, features.arrow_schema))
                count += len(batch)
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    return f"{output}: {count} {columns} of {size} x {size} pixels"


def _pair_rows(makers: Sequence[SentenceMaker], limit: int | None) -> Iterator[dict[str, Any]]:
    for maker in makers:
        count = len(maker) if limit is None else min(limit, len(maker))
        with progress_bar(maker.data.text, count) as bar:
            for index in range(count):
                pair = maker.pair(index)
                yield {
                    "input": _encoded(pair.input),
                    "target": _encoded(pair.target),
                    "task": maker.data.task.name,
                    "setting": pair.setting,
                    "source": pair.source,
                }
                bar.advance()


def _different_pictures(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each picture once: the sharp side of ten tasks on one photograph is one picture."""
    seen: set[bytes] = set()
    for row in rows:
        for picture in (row["input"], row["target"]):
            digest = sha256(picture["bytes"]).digest()
            if digest not in seen:
                seen.add(digest)
                yield {"image": picture}


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == ROWS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _encoded(picture: Image.Image) -> dict[str, Any]:
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


__all__ = ["write_pair_file"]
