"""Pictures from files, folders and data sets; every unreadable one is named in one line."""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from itertools import count as counting
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Features, IterableDataset, load_dataset, load_from_disk
from datasets import Image as ImageFeature
from PIL import Image, UnidentifiedImageError

from .errors import UserError
from .modeling.image_processing_v2l import to_rgb

# What `Dataset.save_to_disk` and `DatasetDict.save_to_disk` leave in their folders.
SAVED_DATASET_FILES = ("dataset_info.json", "dataset_dict.json")
# What PIL raises for files that are damaged, cut off or too large.
PICTURE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def open_image(path: str | Path) -> Image.Image:
    """Reads a picture of any format that PIL knows and any mode.

    Args:
        path: The file.

    Returns:
        8-bit RGB: first frame, EXIF rotation applied, transparency on white, 16 bits scaled to 8.

    Raises:
        UserError: If there is no such file, it is no picture, it is cut off, or it is too large to decode.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder where a picture was expected: name the pictures in it.")
    if not path.exists():
        raise UserError(f"{path}: there is no such file: check the path.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large, but still decoded
            with Image.open(path) as image:
                return to_rgb(image)
    except UnidentifiedImageError as error:
        raise UserError(
            f"{path} is not a picture that can be read (its {path.stat().st_size} bytes {_looks_like(path)}): "
            "give a JPEG, PNG, WebP, TIFF, GIF or BMP."
        ) from error
    except Image.DecompressionBombError as error:
        raise UserError(
            f"{path} claims a size beyond {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, which may be an attack and "
            "would fill the memory: scale it down first."
        ) from error
    except PICTURE_ERRORS as error:
        raise UserError(f"{path} is damaged or cut off ({error}): fetch or export it again.") from error


def _looks_like(path: Path) -> str:
    """What the first bytes of a file that is no picture look like."""
    head = path.read_bytes()[:256]
    if not head:
        return "are none: the file is empty"
    return (
        "look like text" if all(byte in b"\t\n\r" or byte >= 32 for byte in head) else "are of no known picture format"
    )


@dataclass(frozen=True)
class CheckedImages:
    """The outcome of a look at every file before any work is done.

    Args:
        paths: Those that can be read, in the order given.
        problems: One line for each that cannot.
    """

    paths: list[Path]
    problems: list[str]


def check_images(paths: Sequence[str | Path], skip_bad: bool | None = False) -> CheckedImages:
    """Decodes every picture once, so that a bad one is found before any work is done.

    Args:
        paths: Picture files.
        skip_bad: Whether bad files are left out, with a line each, instead of stopping everything; None where none can
            be left out, so that the message does not offer it.

    Raises:
        UserError: If a file is bad and `skip_bad` is not true, or if no good one is left.
    """
    good, problems = [], []
    for path in paths:
        try:
            open_image(path)
            good.append(Path(path))
        except UserError as error:
            if not skip_bad:
                others = f"; --skip-bad leaves such files out of {len(paths)}" if skip_bad is not None else ""
                raise UserError(f"{error} (nothing was done{others})" if len(paths) > 1 else str(error)) from error
            problems.append(str(error))
    if not good:
        raise UserError(f"None of the {len(paths)} files is a picture that can be read; the first: {problems[0]}")
    return CheckedImages(good, problems)


def list_pictures(folder: str | Path) -> list[Path]:
    """The files of a folder whose name says that they are pictures, in order of name.

    Raises:
        UserError: If the folder does not exist or holds no picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder: check the path.")
    known = Image.registered_extensions()
    pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in known and path.is_file())
    if not pictures:
        raise UserError(f"{folder} holds no pictures (no file with a suffix such as .jpg or .png): put some in.")
    return pictures


def list_class_folders(folder: str | Path) -> dict[str, list[Path]]:
    """A folder of one folder per class: class name -> its pictures.

    Underscores in a folder's name are read as spaces.

    Raises:
        UserError: If the folder does not exist, has no class folders, or one of them holds no picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder: --support takes a folder with one folder per class.")
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise UserError(
            f"{folder} has no class folders: put each class's pictures into a folder named after the class."
        )
    return {path.name.replace("_", " "): list_pictures(path) for path in classes}


@dataclass(frozen=True)
class ImageSource:
    """A data set seen as a stream of pictures in a fixed order.

    Args:
        name: What it is called, for the record.
        count: How many pictures there are; None where that is not known.
        open_pictures: Starts the stream anew.
    """

    name: str
    count: int | None
    open_pictures: Callable[[], Iterator[Image.Image]]

    def __iter__(self) -> Iterator[Image.Image]:
        return self.open_pictures()

    def __add__(self, other: "ImageSource") -> "ImageSource":
        """One source after the other."""
        count = None if self.count is None or other.count is None else self.count + other.count
        return ImageSource(f"{self.name} + {other.name}", count, lambda: chain(self, other))


def open_image_source(reference: str, split: str = "train", column: str | None = None) -> ImageSource:
    """Opens any set of pictures.

    Args:
        reference: A folder of pictures (searched recursively), Parquet files (a path, or a pattern with `*`), a
            folder written by `save_to_disk`, or a Hub id of `datasets`; with `[start:stop:step]` behind it, only those.
        split: Which split of a Hub data set.
        column: The column that holds the pictures; the first image column by default.

    Raises:
        UserError: If nothing is found, or no column holds pictures.
    """
    given = reference
    reference, places = split_slice(given)
    path = Path(reference).expanduser()
    if path.is_dir() and not any((path / name).exists() for name in SAVED_DATASET_FILES):
        known = Image.registered_extensions()
        pictures = sorted(file for file in path.rglob("*") if file.suffix.lower() in known)[places]
        if not pictures:
            raise UserError(f"{reference} holds no pictures, nor is it a saved data set: check the path.")
        return ImageSource(path.name, len(pictures), lambda: map(open_image, pictures))
    data = load_table(reference, split)
    column = image_column(data, reference, column)
    data = one_table(data.select_columns([column]))
    name = path.name if path.exists() else reference
    if places != slice(None):
        data = take_rows(data, places, reference)
        name += given.removeprefix(reference)
    count = None if isinstance(data, IterableDataset) else len(data)
    if count == 0:
        raise UserError(f"{reference} holds no picture at {name}: choose other rows.")
    return ImageSource(name, count, lambda: _table_pictures(data, column, name))


def one_table(data: Any) -> Dataset | IterableDataset:
    """One table, as methods of one give it, whatever `datasets` says that they may give."""
    return data


def _table_pictures(data: Dataset | IterableDataset, column: str, name: str) -> Iterator[Image.Image]:
    """The pictures of a table's column, one row at a time."""
    rows: Iterator[Any] = iter(data)
    for place in counting():
        try:
            row = next(rows, None)  # decodes the picture
            if row is None:
                return
            picture = to_rgb(row[column])
        except PICTURE_ERRORS as error:
            raise UserError(
                f"{name}, row {place}: the picture is damaged ({error}): leave the row out or fetch the data again."
            ) from error
        yield picture


def take_rows(data: Dataset | IterableDataset, places: slice, reference: str) -> Dataset | IterableDataset:
    """The rows of a table that a slice names.

    Raises:
        UserError: If a step is asked of a stream.
    """
    if places == slice(None):
        return data
    if isinstance(data, Dataset):
        chosen = range(*places.indices(len(data)))
        return one_table(data.select(chosen if chosen else []))  # an empty range is no selection to datasets
    if places.step is not None:
        raise UserError(f"{reference} is streamed, so single rows cannot be picked by a step: leave the step out.")
    data = data.skip(places.start or 0)
    return data if places.stop is None else data.take(places.stop - (places.start or 0))


def split_slice(reference: str) -> tuple[str, slice]:
    """Cuts `[start:stop]` or `[start:stop:step]` off a reference.

    Raises:
        UserError: If the step is 0.
    """
    match = re.fullmatch(r"(.+)\[(\d*):(\d*)(?::(\d*))?\]", reference)
    if match is None:
        return reference, slice(None)
    places = slice(*(int(number) if number else None for number in match.groups()[1:]))
    if places.step == 0:
        raise UserError(f"{reference}: a step of 0 leads nowhere: give a step of 1 or more, or none.")
    return match[1], places


def load_table(reference: str, split: str = "train") -> Dataset | IterableDataset:
    """Loads a table of `datasets` from Parquet files, a saved folder or the Hub.

    Raises:
        UserError: If it cannot be found or read.
    """
    path = Path(reference).expanduser()
    try:
        if path.is_dir():
            data = load_from_disk(str(path))
            if isinstance(data, DatasetDict) and split not in data:
                raise UserError(f"{reference} has no split {split!r}: choose one of {', '.join(map(str, data))}.")
            return data[split] if isinstance(data, DatasetDict) else data
        if reference.endswith(".parquet"):
            if "*" not in reference and not path.is_file():
                raise UserError(f"{reference}: there is no such file: check the path.")
            return load_dataset("parquet", data_files=str(path), split="train")
        if path.is_file():
            raise UserError(
                f"{reference} is not a Parquet file: give .parquet files, a folder of pictures or a Hub id."
            )
        return load_dataset(reference, split=split, streaming=True)
    except UserError:
        raise
    except Exception as error:  # datasets raises anything from ValueError to its own errors here
        said = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{reference} cannot be loaded as a data set ({said}): give .parquet files, a folder of pictures "
            "or a Hub id."
        ) from error


def image_column(data: Dataset | IterableDataset, reference: str, wanted: str | None = None) -> str:
    """The column that holds pictures.

    Args:
        data: The table.
        reference: What the user wrote, for the message.
        wanted: The column's name; the first one that holds pictures by default.

    Raises:
        UserError: If there is none, or the wanted one holds something else.
    """
    features = data.features or Features()
    found = [name for name, feature in features.items() if isinstance(feature, ImageFeature)]
    if wanted is not None and (wanted in found or not features):  # a stream need not know its columns
        return wanted
    if wanted is None and found:
        return found[0]
    what = "column of pictures" if wanted is None else f"column {wanted!r} of pictures"
    raise UserError(
        f"{reference} has no {what} (its columns: {', '.join(features) or 'unknown'}): name one that holds pictures."
    )
