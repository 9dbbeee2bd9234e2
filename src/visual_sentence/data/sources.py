"""Examples from tables, folders and the generator: one function opens them all.

Knows no task. Of every picture it notes the source: where a table names one (`source_group`, `source_image`,
`image_id`, `frame_id`), all its rows are one source, else each row is its own.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..image_io import SAVED_DATASET_FILES, split_slice
from .examples import ExampleSource
from .folders import PictureFolder, open_pair_folders
from .sa1b import SegmentAnythingFolder
from .shapes import DEFAULT_COUNT, Shapes
from .tables import ExampleTable

# What each kind of source can be told; everything else in a specification is meant for the task.
SHAPES_OPTIONS = ("count", "seed", "size")
TABLE_OPTIONS = ("image_column", "mask_column", "label_column", "target_column", "source_column", "ignore")
SOURCE_OPTIONS = (*SHAPES_OPTIONS, *TABLE_OPTIONS)
# Pairs of sub-folders: questions, answers, and which field of an example the answers fill.
PAIRED_FOLDERS = (("images", "labels", "label_map"), ("images", "masks", "mask"), ("inputs", "targets", "target"))


def open_examples(reference: str, label_columns: Sequence[str] = (), **options: str | int) -> ExampleSource:
    """Opens pictures with their annotations.

    Args:
        reference: "shapes"; a Parquet file or a pattern of them; a folder of Parquet files; a folder written by
            `save_to_disk`; a folder with `images` and `labels` (PNG of class indices) or `masks`, or `inputs` and
            `targets`, matched by stem; a folder of SA-1B (JPEG and JSON); or a folder of pictures, searched
            recursively. With `[start:stop:step]` behind it, only those.
        label_columns: Which columns of a table the label map is looked for in, first of all.
        options: Of shapes `count`, `seed`, `size`; of tables `image_column`, `mask_column`, `label_column`,
            `target_column`, `source_column`, and `ignore`: the index that becomes 0 ("none" for none).

    Raises:
        UserError: If nothing is found, it cannot be read by row, or an option is not of this kind of source.
    """
    given = reference
    reference, places = split_slice(given)
    path = Path(reference).expanduser()
    if reference == "shapes":
        _check_options(given, options, SHAPES_OPTIONS)
        numbers = {name: whole_number(name, value) for name, value in options.items()}
        count = max(numbers.pop("count", DEFAULT_COUNT), places.stop or 0)
        return Shapes(places=range(*places.indices(count)), **numbers)
    if path.is_dir() and not any((path / name).exists() for name in SAVED_DATASET_FILES):
        if any(path.glob("*.parquet")):
            reference = str(path / "*.parquet")
        else:
            _check_options(given, options, ())
            return _not_empty(_open_folder(path, places), given)
    _check_options(given, options, TABLE_OPTIONS)
    columns: dict[str, Any] = options
    return _not_empty(ExampleTable(reference, places, label_columns=label_columns, **columns), given)


def _open_folder(path: Path, places: slice) -> ExampleSource:
    for questions, answers, field in PAIRED_FOLDERS:
        if (path / questions).is_dir() and (path / answers).is_dir():
            return open_pair_folders(path, questions, answers, field, places)
    if any(file.with_suffix(".json").is_file() for file in path.glob("*.jpg")):
        return SegmentAnythingFolder(path, places)
    return PictureFolder(path, places)


def _not_empty(source: ExampleSource, given: str) -> ExampleSource:
    if not len(source):
        raise UserError(f"{given} holds no example: choose other rows.")
    return source


def _check_options(given: str, options: dict, known: Sequence[str]) -> None:
    for name in options:
        if name not in known:
            takes = f"it takes {', '.join(known)}" if known else "a folder of pictures takes none"
            raise UserError(f"{given} has no option {name!r}: {takes}.")


def whole_number(name: str, value: str | int) -> int:
    """Reads an option that is a whole number.

    Raises:
        UserError: If it is none, or negative.
    """
    try:
        number = int(value)
    except ValueError:
        number = -1
    if number < 0:
        raise UserError(f"{name}={value} is not possible: give a whole number from 0 on.")
    return number


__all__ = ["SOURCE_OPTIONS", "ExampleSource", "open_examples", "whole_number"]
