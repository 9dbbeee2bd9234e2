"""Pictures to train on: any source as one table of encoded pictures, decoded one at a time.

Knows no batches and no model.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from io import BytesIO
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, IterableDataset, concatenate_datasets, load_dataset
from datasets import Image as ImageFeature
from PIL import Image

from ..errors import UserError
from ..image_io import (
    PICTURE_ERRORS,
    SAVED_DATASET_FILES,
    image_column,
    load_table,
    one_table,
    open_image,
    split_slice,
    take_rows,
)
from ..modeling.image_processing_v2l import to_rgb

COLUMN = "image"
# A row as `datasets` gives it undecoded: {"bytes": ..., "path": ...}.
EncodedPicture = dict[str, Any]


@dataclass(frozen=True)
class PictureSource:
    """Pictures of one or several places, in a fixed order.

    Args:
        names: What the places are called, for the record.
        counts: How many pictures each has; None for a stream.
        rows: A table with the one column `image` of encoded pictures, or a stream of its rows.
    """

    names: list[str]
    counts: list[int | None]
    rows: Dataset | IterableDataset

    @property
    def is_stream(self) -> bool:
        """Whether pictures can be read in their order only."""
        return isinstance(self.rows, IterableDataset)

    @property
    def count(self) -> int | None:
        """Pictures altogether; None for a stream."""
        return None if self.is_stream else len(self.table)

    @property
    def table(self) -> Dataset:
        """The rows of what is no stream."""
        assert not isinstance(self.rows, IterableDataset)  # who has a stream does not ask
        return self.rows

    @property
    def record(self) -> list[dict[str, Any]]:
        """Name and count of each place, as JSON values."""
        return [{"name": name, "count": count} for name, count in zip(self.names, self.counts, strict=True)]

    def encoded(self, indices: Sequence[int]) -> list[EncodedPicture]:
        """Undecoded pictures of a table."""
        return self.table[list(indices)][COLUMN]

    def picture(self, index: int) -> Image.Image:
        """One picture of a table, 8-bit RGB.

        Raises:
            UserError: If it cannot be read.
        """
        (row,) = self.encoded([index])
        return self.decode(row, index)

    def decode(self, row: EncodedPicture, index: int) -> Image.Image:
        """Decodes a picture.

        Args:
            row: The encoded picture.
            index: Its place in the table or the stream, to name it if it is damaged.

        Returns:
            8-bit RGB.

        Raises:
            UserError: If it cannot be read.
        """
        if row["bytes"] is None:
            return open_image(row["path"])
        try:
            with Image.open(BytesIO(row["bytes"])) as picture:
                return to_rgb(picture)
        except PICTURE_ERRORS as error:
            said = "it is not a picture" if isinstance(error, Image.UnidentifiedImageError) else error
            raise UserError(
                f"{self._place(row, index)}: the picture is damaged ({said}): leave such pictures out with --skip-bad "
                "or fetch the data again."
            ) from error

    def first(self, count: int) -> list[tuple[int, EncodedPicture]]:
        """A few pictures to show: spread evenly over a table, or the first of a stream."""
        if self.is_stream:
            rows: Iterator[Any] = iter(deepcopy(self.rows))
            return [(index, row[COLUMN]) for index, row in enumerate(islice(rows, count))]
        size = len(self.table)
        indices = [place * size // count for place in range(min(count, size))]
        return list(zip(indices, self.encoded(indices), strict=True))

    def _place(self, row: EncodedPicture, index: int) -> str:
        """How a picture is named to the user."""
        if self.is_stream:
            name, at = " + ".join(self.names), index
        else:
            ends = list(accumulate(count or 0 for count in self.counts))
            place = bisect_right(ends, index)
            name, at = self.names[place], index - ([0, *ends][place])
        return f"{name}, row {at}" + (f" ({row['path']})" if row["path"] else "")


def open_pictures(
    references: Sequence[str], split: str = "train", column: str | None = None, streaming: bool = False
) -> PictureSource:
    """Opens pictures of one or several places.

    Args:
        references: Folders of pictures (searched recursively), Parquet files (a path, or a pattern with `*`), folders
            written by `save_to_disk`, WebDataset archives (`pattern*.tar`), or Hub ids of `datasets`; with
            `[start:stop]` or `[start:stop:step]` behind one, only those rows.
        split: Which split of a Hub data set or a saved one.
        column: The column that holds the pictures; the first image column by default.
        streaming: Whether to read in order instead of by row; nothing is stored on disk then.

    Raises:
        UserError: If nothing is found, or no column holds pictures.
    """
    tables = [_open(reference, split, column, streaming) for reference in references]
    parts: list[Any] = [table.rows for table in tables]  # all tables, or all streams
    rows = concatenate_datasets(parts) if len(tables) > 1 else tables[0].rows
    return PictureSource(
        [name for table in tables for name in table.names], [count for table in tables for count in table.counts], rows
    )


def _open(given: str, split: str, column: str | None, streaming: bool) -> PictureSource:
    reference, places = split_slice(given)
    path = Path(reference).expanduser()
    if path.is_dir() and not any((path / name).exists() for name in SAVED_DATASET_FILES):
        rows = _folder(path)
    else:
        rows = _load(reference, split, streaming)
        chosen = image_column(rows, reference, column)
        rows = one_table(rows.select_columns([chosen]))
        (found,) = rows.column_names or [chosen]
        rows = rows if found == COLUMN else one_table(rows.rename_column(found, COLUMN))
        rows = one_table(rows.cast_column(COLUMN, ImageFeature(decode=False)))
    if streaming and isinstance(rows, Dataset):
        rows = rows.to_iterable_dataset()
    rows = take_rows(rows, places, given)
    count = None if isinstance(rows, IterableDataset) else len(rows)
    if count == 0:
        raise UserError(f"{given} holds no picture: choose other rows.")
    name = (path.name if path.exists() else reference) + given.removeprefix(reference)
    return PictureSource([name], [count], rows)


def _folder(path: Path) -> Dataset:
    """The pictures of a folder and the folders in it, in order of their paths."""
    known = Image.registered_extensions()
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in known)
    if not files:
        raise UserError(f"{path} holds no pictures, nor is it a saved data set: check the path.")
    features = Features({COLUMN: ImageFeature(decode=False)})
    return Dataset.from_dict({COLUMN: [str(file) for file in files]}, features=features)


def _load(reference: str, split: str, streaming: bool) -> Dataset | IterableDataset:
    """A table of `datasets`, as a stream where that is asked for."""
    path = Path(reference).expanduser()
    kinds = {".parquet": "parquet", ".tar": "webdataset"}
    kind = kinds.get(path.suffix)
    if path.is_dir() or (kind == "parquet" and not streaming) or (path.is_file() and kind is None):
        return load_table(reference, split)
    if kind and "*" not in reference and "://" not in reference and not path.is_file():
        raise UserError(f"{reference}: there is no such file: check the path.")
    try:
        if kind:
            files = reference if "://" in reference else str(path)
            return load_dataset(kind, data_files={"train": files}, split="train", streaming=streaming)
        return load_dataset(reference, split=split, streaming=streaming)
    except Exception as error:  # datasets raises anything from ValueError to its own errors here
        said = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{reference} cannot be loaded as a data set ({said}): give a folder of pictures, .parquet or .tar files, "
            "or a Hub id."
        ) from error


__all__ = ["PictureSource", "open_pictures"]
