"""Examples out of tables: Parquet files and saved data sets, decoded row by row."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from datasets import Dataset, IterableDataset
from datasets import Image as ImageFeature
from PIL import Image

from ..errors import UserError
from ..image_io import PICTURE_ERRORS, image_column, load_table, take_rows
from ..modeling.image_processing_v2l import to_rgb
from .annotations import IGNORE, check_sizes, read_label_map, read_mask
from .examples import Example, ExampleSource

IMAGE_COLUMNS = ("image", "input")
LABEL_COLUMNS = ("label_map", "semantic", "instances", "segments")
SOURCE_COLUMNS = ("source_group", "source_image", "image_id", "frame_id", "source")
# Region numbers of "segments" run on through 255; elsewhere 255 marks what nobody labelled.
IGNORING = ("label_map", "semantic", "instances")


class ExampleTable(ExampleSource):
    """Rows of a table.

    Args:
        reference: Parquet files, a folder written by `save_to_disk`, as `load_table` takes it.
        places: Which rows.
        label_columns: Where the label map is looked for before the usual columns.
        image_column: Column of pictures; "image" or "input" by default, else the first that holds pictures.
        mask_column: Column of masks, 0 and 255; "mask" by default, if there is one.
        label_column: Column of label maps; by default the first there is of `label_columns`, "label_map", "semantic",
            "instances", "segments".
        target_column: Column of answers; "target" by default, if there is one.
        source_column: Column that names each row's source picture; by default the first there is of "source_group",
            "source_image", "image_id", "frame_id", "source"; without one, each row is a source.
        ignore: Index of the label map that becomes 0; by default 255, except in "segments"; "none" for none.

    Raises:
        UserError: If the table cannot be read, or a column named is not there.
    """

    def __init__(
        self,
        reference: str,
        places: slice = slice(None),
        label_columns: Sequence[str] = (),
        image_column: str | None = None,
        mask_column: str | None = None,
        label_column: str | None = None,
        target_column: str | None = None,
        source_column: str | None = None,
        ignore: str | int | None = None,
    ) -> None:
        data = load_table(reference)
        if isinstance(data, IterableDataset):
            raise UserError(f"{reference} is read as a stream, but sentences pick rows: download it as Parquet first.")
        self.name = table_name(reference)
        names = data.column_names
        self._columns = {
            "image": _image_column(data, reference, image_column),
            "mask": _column(names, ("mask",), mask_column, reference),
            "label_map": _column(names, (*label_columns, *LABEL_COLUMNS), label_column, reference),
            "target": _column(names, ("target",), target_column, reference),
        }
        self._ignore = _ignored(ignore, self._columns["label_map"])
        wanted = _column(names, SOURCE_COLUMNS, source_column, reference)
        pictures = list(dict.fromkeys(column for column in self._columns.values() if column is not None))
        for column in pictures:
            try:
                data = data.cast_column(column, ImageFeature(decode=False))
            except Exception as error:  # arrow and datasets raise several of their own
                raise UserError(
                    f"{reference}: the column {column!r} holds no pictures ({data.features[column]}): name one that "
                    "does, or leave it out."
                ) from error
        self._first, self._step = places.start or 0, places.step or 1
        rows: Any = take_rows(data, places, reference)
        self._sources = None if wanted is None else [str(value) for value in rows[wanted]]
        self._rows: Any = rows.select_columns(pictures)  # a `datasets.Dataset`

    def __len__(self) -> int:
        return len(self._rows)

    def source_of(self, index: int) -> str:
        """The row's source picture, or the row itself."""
        return f"{self.name}, row {self._row(index)}" if self._sources is None else self._sources[index]

    def example(self, index: int) -> Example:
        """Decodes one row."""
        cells = self._rows[index]
        at = f"{self.name}, row {self._row(index)}"
        found = {
            field: _read(cells[column], f"{at}, column {column!r}", field, self._ignore)
            for field, column in self._columns.items()
            if column is not None
        }
        image = found.pop("image")
        check_sizes(image, at, **found)
        return Example(image, self.source_of(index), **found)

    def _row(self, index: int) -> int:
        return self._first + index * self._step


def table_name(reference: str | Path) -> str:
    """A short name of a table or folder: the last two parts of its path, without the file's suffix."""
    parts = [part for part in Path(reference).with_suffix("").parts if part not in ("*", "..", "/")]
    return "/".join(parts[-2:])


def _image_column(data: Dataset, reference: str, wanted: str | None) -> str:
    for column in (wanted,) if wanted is not None else IMAGE_COLUMNS:
        if column in data.column_names:
            return column
    return image_column(data, reference, wanted)


def _column(names: Sequence[str], usual: Sequence[str], wanted: str | None, reference: str) -> str | None:
    if wanted is not None and wanted not in names:
        raise UserError(f"{reference} has no column {wanted!r} (its columns: {', '.join(names)}): name one of these.")
    return wanted or next((column for column in usual if column in names), None)


def _ignored(ignore: str | int | None, column: str | None) -> int | None:
    if ignore is None:
        return IGNORE if column in IGNORING else None
    if str(ignore) == "none":
        return None
    if not str(ignore).isdigit():
        raise UserError(f"ignore={ignore} is no class index: give a whole number, or none.")
    return int(ignore)


def _read(cell: dict[str, Any] | None, name: str, field: str, ignore: int | None) -> Any:
    """One cell as what its field holds."""
    if not cell or not (cell["bytes"] or cell["path"]):
        raise UserError(f"{name}: there is no picture: leave the row out.")
    try:
        with Image.open(BytesIO(cell["bytes"]) if cell["bytes"] else cell["path"]) as picture:
            if field == "mask":
                return read_mask(picture, name)
            return read_label_map(picture, name, ignore) if field == "label_map" else to_rgb(picture)
    except UserError:
        raise
    except PICTURE_ERRORS as error:
        said = "it is not a picture" if isinstance(error, Image.UnidentifiedImageError) else error
        raise UserError(
            f"{name}: the picture is damaged ({said}): leave the row out or fetch the data again."
        ) from error


__all__ = ["ExampleTable", "table_name"]
