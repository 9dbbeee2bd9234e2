"""Examples out of folders: pictures alone, or two folders of pictures matched by the files' stems."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import UserError
from ..image_io import PICTURE_ERRORS, list_pictures, open_image
from .annotations import IGNORE, check_sizes, read_label_map, read_mask
from .examples import Example, ExampleSource


class PictureFolder(ExampleSource):
    """The pictures of a folder and the folders in it, in order of their paths, each a source of its own.

    Args:
        folder: The folder.
        places: Which of them.

    Raises:
        UserError: If it holds none.
    """

    def __init__(self, folder: Path, places: slice = slice(None)) -> None:
        known = Image.registered_extensions()
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in known)
        if not files:
            raise UserError(f"{folder} holds no pictures, nor is it a saved data set: check the path.")
        self.name, self._folder, self._files = folder.name, folder, files[places]

    def __len__(self) -> int:
        return len(self._files)

    def source_of(self, index: int) -> str:
        """The file's path in the folder."""
        return f"{self.name}/{self._files[index].relative_to(self._folder).as_posix()}"

    def example(self, index: int) -> Example:
        """Reads one file."""
        return Example(open_image(self._files[index]), self.source_of(index))


class PairedFolders(ExampleSource):
    """Pictures of one folder with the annotations of another.

    Args:
        name: What it is called.
        files: (picture, annotation), in order.
        field: What the annotations are: "mask", "label_map" (255 becomes 0) or "target".
    """

    def __init__(self, name: str, files: Sequence[tuple[Path, Path]], field: str) -> None:
        self.name, self._files, self._field = name, files, field

    def __len__(self) -> int:
        return len(self._files)

    def source_of(self, index: int) -> str:
        """The stem that both files share."""
        return f"{self.name}/{self._files[index][0].stem}"

    def example(self, index: int) -> Example:
        """Reads two files."""
        question, answer = self._files[index]
        image = open_image(question)
        annotation = open_image(answer) if self._field == "target" else _annotation(answer, self._field)
        fields: dict[str, Any] = {self._field: annotation}
        check_sizes(image, str(question), **fields)
        return Example(image, self.source_of(index), **fields)


def open_pair_folders(
    folder: Path, questions: str, answers: str, field: str, places: slice = slice(None)
) -> PairedFolders:
    """Matches the files of two sub-folders by their stems.

    Args:
        folder: The folder with both.
        questions: Name of the sub-folder of pictures.
        answers: Name of the sub-folder of annotations.
        field: What the annotations are, a field of `Example`.
        places: Which of the pairs, in order of the stems.

    Raises:
        UserError: If a file of one folder is without its partner in the other.
    """
    first, second = _by_stem(folder / questions), _by_stem(folder / answers)
    alone = sorted(first.keys() ^ second.keys())
    if alone:
        has, lacks = (questions, answers) if alone[0] in first else (answers, questions)
        raise UserError(
            f"{folder}: {alone[0]!r} is in {has} but not in {lacks}, and {len(alone) - 1} more are without a partner: "
            "give both files of a pair the same name."
        )
    return PairedFolders(folder.name, [(first[stem], second[stem]) for stem in sorted(first)][places], field)


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in list_pictures(folder):
        if file.stem in found:
            raise UserError(f"{folder} has {found[file.stem].name} and {file.name}: keep one file of each name.")
        found[file.stem] = file
    return found


def _annotation(path: Path, field: str):
    try:
        with Image.open(path) as picture:
            return read_mask(picture, str(path)) if field == "mask" else read_label_map(picture, str(path), IGNORE)
    except UserError:
        raise
    except PICTURE_ERRORS as error:
        raise UserError(f"{path} is damaged or cut off ({error}): fetch or export it again.") from error


__all__ = ["PairedFolders", "PictureFolder", "open_pair_folders"]
