"""Pictures with captions, or with questions and answers: from a folder, Parquet, a saved data set, the Hub or pairs.

Knows tables and their columns; every row that cannot be used is named.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, IterableDataset, load_dataset
from datasets import Image as ImageFeature
from PIL import Image

from ..errors import UserError
from ..image_io import PICTURE_ERRORS, image_column, load_table, open_image, split_slice, take_rows
from ..modeling.image_processing_v2l import to_rgb

CAPTION_COLUMNS = ("caption", "captions", "text")
QUESTION_COLUMNS = ("question",)
ANSWER_COLUMNS = ("answer", "answers")
# What makes a folder one that `datasets` reads as pictures with texts.
METADATA_FILES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
# A data set of the Hub is streamed; without `[start:stop]` this many of its rows are read.
MOST_STREAMED_ROWS = 1000

Picture = Image.Image | str | Path
Table = str | Path | Dataset | IterableDataset
# Rows one by one, or columns of equal length.
Given = Iterable[tuple] | Mapping[str, Sequence]


@dataclass(frozen=True)
class PictureRow:
    """A picture with what is known of it.

    Args:
        name: Where it comes from, for messages.
        load: Reads the picture.
        texts: Its captions, or the answers to its question; the first is what an example shows.
        question: What is asked about it; None for captions.
    """

    name: str
    load: Callable[[], Image.Image]
    texts: tuple[str, ...]
    question: str | None = None

    def open(self) -> Image.Image:
        """The picture, 8-bit RGB.

        Raises:
            UserError: If it cannot be read; the row is named.
        """
        try:
            return to_rgb(self.load())
        except UserError as error:
            raise UserError(f"{self.name}: {error}") from error
        except PICTURE_ERRORS as error:
            raise UserError(
                f"{self.name}: the picture is missing or damaged ({error}): leave the row out or fetch it again."
            ) from error


@dataclass(frozen=True)
class PictureRows:
    """The rows of a table that can be used.

    Args:
        name: What the table is called, for messages.
        rows: The rows, in the table's order.
        problems: One line for each row that was left out; grows where pictures are left out later on.
    """

    name: str
    rows: list[PictureRow]
    problems: list[str]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Columns:
    """Which columns hold what; None stands for the first of the usual names that is there.

    Args:
        image: The pictures; else the first image column.
        caption: The captions, a text or a list of texts; else `CAPTION_COLUMNS`.
        question: The questions; else `QUESTION_COLUMNS`.
        answer: The answers, a text, a list of texts, or a list of records with an `answer`; else `ANSWER_COLUMNS`.
    """

    image: str | None = None
    caption: str | None = None
    question: str | None = None
    answer: str | None = None


USUAL_COLUMNS = Columns()


def read_captions(
    reference: Table, split: str = "train", columns: Columns = USUAL_COLUMNS, skip_bad: bool = False
) -> PictureRows:
    """Reads pictures with captions.

    Args:
        reference: A folder with pictures and a `metadata.jsonl` (or `.csv`, `.parquet`), Parquet files, a folder
            written by `save_to_disk`, or a Hub id of `datasets`; with `[start:stop:step]` behind it, only those rows.
            Or a data set that is loaded already.
        split: Which split, where there are several.
        columns: Where pictures and captions are.
        skip_bad: Whether rows without a caption are left out, with a line each.

    Raises:
        UserError: If it cannot be read, a column is missing, a row has no caption, or no row is left.
    """
    data, name = _open(reference, split)
    names = _column_names(data)
    caption = _column(columns.caption, CAPTION_COLUMNS, names, name, "captions", "--caption-column")
    return _rows(data, name, _image_column(data, name, columns.image), caption, None, skip_bad)


def read_answers(
    reference: Table, split: str = "train", columns: Columns = USUAL_COLUMNS, skip_bad: bool = False
) -> PictureRows:
    """Reads pictures with questions and answers; as `read_captions`.

    Where a question has several answers, the most frequent one is put first (the first of several as frequent).
    """
    data, name = _open(reference, split)
    names = _column_names(data)
    question = _column(columns.question, QUESTION_COLUMNS, names, name, "questions", "--question-column")
    answer = _column(columns.answer, ANSWER_COLUMNS, names, name, "answers", "--answer-column")
    return _rows(data, name, _image_column(data, name, columns.image), answer, question, skip_bad)


def captions_of(pairs: Given) -> PictureRows:
    """Rows of pictures with captions that are at hand.

    Args:
        pairs: (picture, caption or captions) each, or `{"image": [...], "caption": [...]}`; a picture is a PIL image or
            a path.

    Raises:
        UserError: If there are none, one is no such pair, or there are more pictures than captions or fewer.
    """
    return _given(pairs, ("image", "caption"))


def answers_of(triples: Given) -> PictureRows:
    """Rows of pictures with questions and answers that are at hand.

    Args:
        triples: (picture, question, answer or answers) each, or `{"image": [...], "question": [...], "answer": [...]}`.

    Raises:
        UserError: As `captions_of`.
    """
    return _given(triples, ("image", "question", "answer"))


def _given(items: Given, names: tuple[str, ...]) -> PictureRows:
    form = f"({', '.join(names)})"
    if not isinstance(items, Iterable):
        raise UserError(f"examples must be a table or a list of {form}, got {type(items).__name__}.")
    rows = []
    given: Any = items  # whatever the user gave
    for place, item in enumerate(_from_columns(given, names) if isinstance(items, Mapping) else given, start=1):
        name = f"Example {place}"
        if not isinstance(item, list | tuple) or len(item) != len(names) or not isinstance(item[0], Picture):
            raise UserError(f"{name} is not of the form {form}: give a picture and its text in each.")
        picture, *questions, found = item
        rows.append(_checked(name, partial(_open_picture, picture), found, *questions))
    if not rows:
        raise UserError(f"There are no examples, and without them there is no task: give some as {form}.")
    return PictureRows("the examples", rows, [])


def _from_columns(columns: Mapping[str, Sequence], names: tuple[str, ...]) -> list[tuple]:
    """Columns of equal length as rows."""
    if set(columns) != set(names):
        raise UserError(f"Examples by columns are {', '.join(names)}; found {', '.join(map(str, columns)) or 'none'}.")
    lengths = {name: len(columns[name]) for name in names}
    if len(set(lengths.values())) > 1:
        counts = " and ".join(f"{length} {name}s" for name, length in lengths.items())
        raise UserError(f"The examples do not pair up: found {counts}; give as many of each.")
    return list(zip(*(columns[name] for name in names), strict=True))


def _open_picture(picture: Picture) -> Image.Image:
    return picture if isinstance(picture, Image.Image) else open_image(picture)


def _open(reference: Table, split: str) -> tuple[Dataset | list[dict], str]:
    """The table, with its pictures still encoded, and its name; what is streamed is read into a list."""
    if isinstance(reference, Dataset | IterableDataset):
        data, name, all_of_stream = reference, "the data set", False
    else:
        table, places = split_slice(str(reference))
        path = Path(table).expanduser()
        has_metadata = any((folder / name).exists() for folder in (path, path / split) for name in METADATA_FILES)
        data = take_rows(_metadata_folder(path, split) if has_metadata else load_table(table, split), places, table)
        name = (path.name if path.exists() else table) + str(reference).removeprefix(table)
        all_of_stream = places != slice(None)
    if isinstance(data, IterableDataset):
        for column, feature in (data.features or {}).items():
            if isinstance(feature, ImageFeature):
                data = data.cast_column(column, ImageFeature(decode=False))
        data = list(data if all_of_stream else data.take(MOST_STREAMED_ROWS))
    if len(data) == 0:
        raise UserError(f"{name} holds no row: choose other ones.")
    return data, name


def _metadata_folder(path: Path, split: str) -> Dataset:
    """A folder of pictures whose texts stand in a file of metadata beside them."""
    try:
        data = load_dataset("imagefolder", data_dir=str(path))
    except Exception as error:  # datasets raises anything from ValueError to Arrow's own errors here
        said = str(error.__cause__ or error).strip().splitlines()[0][:200]
        raise UserError(
            f"{path}: its metadata file cannot be read ({said}): one record a line, with `file_name`."
        ) from error
    assert isinstance(data, DatasetDict)
    if split in data:
        return data[split]
    raise UserError(f"{path} has no split {split!r}: choose one of {', '.join(map(str, data))}.")


def _column_names(data: Dataset | list[dict]) -> list[str]:
    return list(data.column_names if isinstance(data, Dataset) else data[0])


def _image_column(data: Dataset | list[dict], reference: str, wanted: str | None) -> str:
    if isinstance(data, Dataset):
        return image_column(data, reference, wanted)
    found = [name for name, value in data[0].items() if isinstance(value, Image.Image) or _is_encoded(value)]
    if wanted in found or (wanted is None and found):
        return wanted or found[0]
    raise UserError(f"{reference} has no column of pictures (its columns: {', '.join(data[0])}): name one that has.")


def _is_encoded(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"bytes", "path"}


def _column(
    wanted: str | None, usual: Sequence[str], names: Sequence[str], reference: str, what: str, option: str
) -> str:
    for name in usual if wanted is None else (wanted,):
        if name in names:
            return name
    looked_for = wanted or ", ".join(usual)
    raise UserError(
        f"{reference} has no column of {what} (looked for {looked_for}; its columns: {', '.join(names)}): name it by "
        f"{option}."
    )


def _rows(
    data: Dataset | list[dict], name: str, image: str, text: str, question: str | None, skip_bad: bool
) -> PictureRows:
    """The rows of a table, each checked for its texts; pictures stay encoded until a row is opened."""
    if isinstance(data, Dataset):
        data = data.cast_column(image, ImageFeature(decode=False))
        columns = data.select_columns([column for column in (text, question) if column is not None])
    else:
        columns = data
    rows, problems = [], []
    for place, row in enumerate(columns):
        load = partial(_read_cell, data, place, image)
        try:
            rows.append(_checked(f"{name}, row {place}", load, row[text], *([row[question]] if question else [])))
        except UserError as error:
            if not skip_bad:
                raise
            problems.append(str(error))
    if not rows:
        raise UserError(f"None of the {len(problems)} rows of {name} can be used; the first: {problems[0]}")
    return PictureRows(name, rows, problems)


def _read_cell(data: Dataset | list[dict], place: int, column: str) -> Image.Image:
    cell = data[place][column]
    if isinstance(cell, Image.Image):
        return cell
    if not cell or not (cell["bytes"] or cell["path"]):
        raise UserError("there is no picture: leave the row out.")
    return Image.open(BytesIO(cell["bytes"])) if cell["bytes"] else open_image(cell["path"])


def _checked(name: str, load: Callable[[], Image.Image], found: Any, *asked: Any) -> PictureRow:
    """A row whose texts are there; of several answers the most frequent in front."""
    texts = _texts(found)
    if not texts:
        what = "answer" if asked else "caption"
        raise UserError(f"{name} has no {what} ({found!r:.60}): leave the row out or write one.")
    if not asked:
        return PictureRow(name, load, tuple(texts))
    (question,) = asked
    if not isinstance(question, str) or not question.strip():
        raise UserError(f"{name} has no question ({question!r:.60}): leave the row out or write one.")
    ((frequent, _),) = Counter(texts).most_common(1)
    texts.remove(frequent)  # the others keep their order and their number, which VQA accuracy counts
    return PictureRow(name, load, (frequent, *texts), " ".join(question.split()))


def _texts(found: Any) -> list[str]:
    """The non-empty texts in a cell: a text, a list of texts, or a list of records with an `answer`."""
    if isinstance(found, dict):  # how some tables give a list of records
        found = found.get("answer")
    found = found if isinstance(found, list | tuple) else [found]
    found = [item.get("answer") if isinstance(item, dict) else item for item in found]
    return [" ".join(item.split()) for item in found if isinstance(item, str) and item.strip()]
