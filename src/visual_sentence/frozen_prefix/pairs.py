"""Pictures with sentences: a table's captions or classes, or a folder of class folders. Knows no model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, IterableDataset
from PIL import Image

from ..errors import UserError
from ..image_io import (
    PICTURE_ERRORS,
    SAVED_DATASET_FILES,
    image_column,
    list_class_folders,
    load_table,
    open_image,
    split_slice,
    take_rows,
)
from ..modeling.image_processing_v2l import to_rgb

CLASS_SENTENCE = "A picture of a {}."
PLACE = "{}"


@dataclass(frozen=True)
class Pairs:
    """N pictures with what is said of them.

    Args:
        name: What the data is called, for the record.
        sentences: One or several sentences of each picture.
        open_pictures: Starts the stream of the N pictures anew.
        open_picture: Opens one by its place; None for a stream.
    """

    name: str
    sentences: list[list[str]]
    open_pictures: Callable[[], Iterator[Image.Image]]
    open_picture: Callable[[int], Image.Image] | None

    def __len__(self) -> int:
        return len(self.sentences)

    def sentence(self, index: int, epoch: int) -> str:
        """What is said of a picture in an epoch; of several sentences each in its turn."""
        told = self.sentences[index]
        return told[(epoch + index) % len(told)]


def load_pairs(
    reference: str,
    split: str = "train",
    column: str | None = None,
    label_column: str | None = None,
    caption_column: str | None = None,
    sentences: str = CLASS_SENTENCE,
) -> Pairs:
    """Reads pictures and what is said of them.

    Args:
        reference: A folder with one folder per class; or Parquet files, a saved data set or a Hub id, perhaps with
            [start:stop:step].
        split: Split of a Hub data set or a saved one.
        column: Column that holds the pictures; the first that does by default.
        label_column: Column of class names, which become `sentences`.
        caption_column: Column of captions, a text or a list of texts each.
        sentences: What is said of a picture of a class; `{}` stands for the class's name.

    Raises:
        UserError: If data or a column is missing, not one of the two text columns is named, a row has no sentence, or
            `sentences` has no place for the name.
    """
    if sentences.count(PLACE) != 1:
        raise UserError(
            f"--sentences {sentences!r} must have one {PLACE} where the class's name goes, e.g. {CLASS_SENTENCE!r}."
        )
    plain, places = split_slice(reference)
    folder = Path(plain).expanduser()
    if folder.is_dir() and not any((folder / name).exists() for name in SAVED_DATASET_FILES):
        if label_column or caption_column or places != slice(None):
            raise UserError(
                f"{reference} is a folder of class folders, which has neither columns nor rows: leave --label-column, "
                "--caption-column and [start:stop] out."
            )
        return _class_folder_pairs(folder, sentences)
    text_column = label_column or caption_column
    if text_column is None or (label_column is None) == (caption_column is None):
        found = "neither was" if label_column is None else "both were"
        raise UserError(f"Sentences come from --label-column or from --caption-column, and {found} given: give one.")
    data = take_rows(load_table(plain, split), places, plain)
    column = image_column(data, plain, column)
    if data.features is not None and text_column not in data.features:
        raise UserError(f"{plain} has no column {text_column!r}: choose one of {', '.join(data.features)}.")
    name = (folder.name if folder.exists() else plain) + reference.removeprefix(plain)
    told = _sentences_of(data, text_column, None if caption_column else sentences, name)
    rows: Any = data.select_columns([column])
    at: Any = (
        None if isinstance(rows, IterableDataset) else lambda place: _picture(lambda: rows[place], column, name, place)
    )
    return Pairs(name, told, lambda: _pictures(rows, column, name), at)


def _class_folder_pairs(folder: Path, sentences: str) -> Pairs:
    files = [(path, name) for name, paths in list_class_folders(folder).items() for path in paths]
    told = [[sentences.replace(PLACE, name)] for _, name in files]
    return Pairs(
        folder.name, told, lambda: (open_image(path) for path, _ in files), lambda place: open_image(files[place][0])
    )


def _sentences_of(data: Dataset | IterableDataset, column: str, template: str | None, name: str) -> list[list[str]]:
    """What is said of each row's picture; class names where there is a template for them."""
    feature = (data.features or {}).get(column)
    told = []
    rows: Any = data.select_columns([column])
    for place, row in enumerate(rows):
        value = row[column]
        if template is not None and isinstance(feature, ClassLabel):
            value = feature.int2str(value)
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise UserError(
                f"{name}, row {place}: column {column!r} holds {value!r}, which is no text: name a column of texts."
            )
        texts = [text.strip() for text in texts if text.strip()]
        if not texts:
            raise UserError(f"{name}, row {place}: column {column!r} holds no text: leave the row out.")
        if template is not None:
            texts = [template.replace(PLACE, text.replace("_", " ")) for text in texts]
        told.append(texts)
    if not told:
        raise UserError(f"{name} holds no row: choose other rows.")
    return told


def _pictures(data: Dataset | IterableDataset, column: str, name: str) -> Iterator[Image.Image]:
    rows: Iterator[Any] = iter(data)
    place = 0
    while (picture := _picture(lambda: next(rows, None), column, name, place)) is not None:
        yield picture
        place += 1


def _picture(row_of: Callable[[], dict[str, Any] | None], column: str, name: str, place: int) -> Image.Image | None:
    """The picture of a row, which is decoded when it is asked for; None behind the last."""
    try:
        row = row_of()
        return None if row is None else to_rgb(row[column])
    except PICTURE_ERRORS as error:
        raise UserError(
            f"{name}, row {place}: the picture is damaged ({error}): leave the row out or fetch the data again."
        ) from error
