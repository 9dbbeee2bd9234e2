"""Pascal-5i: queries and solved pictures of one class each, out of Pascal VOC 2012, in four folds of five classes.

The folds are those of Shaban et al. 2017 (https://arxiv.org/abs/1709.03410). Who is asked after what is as in
amirbar/visual_prompting, evaluate/pascal_dataloader.py: the lines of the fold's list one after the other, and again
when they are through, each behind pictures of the same class drawn from the same list.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import UserError
from ..image_io import PICTURE_ERRORS, open_image
from .annotations import check_sizes, read_label_map
from .examples import Example

FOLDS, CLASSES_PER_FOLD = 4, 5
# Class 1, 2, ... of the masks.
CLASS_NAMES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle"),
    *("bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person"),
    *("pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
# Pixels at borders and of things that are hard to tell.
VOID = 255
# Queries of a fold in visual_prompting.
QUERIES = 1000
# The masks that visual_prompting reads (VOC's and those of SBD), and VOC's own.
ANNOTATIONS = ("SegmentationClassAug", "SegmentationClass")
OWN_LIST = "ImageSets/Segmentation/val.txt"
HIGHEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Entry:
    """One line of a list: a picture, and the class that is asked for.

    Args:
        name: The files' stem.
        class_index: In [1, 20].
    """

    name: str
    class_index: int


@dataclass(frozen=True)
class Episode:
    """A query and the pictures that stand solved before it.

    Args:
        query: What is asked.
        supports: Stems of pictures of the same class, none twice and none the query's.
    """

    query: Entry
    supports: tuple[str, ...]


class PascalFold:
    """The pictures of one fold.

    Args:
        root: The folder with VOCdevkit/VOC2012, or that folder itself.
        fold: f in [0, 4): classes 5 f + 1 to 5 f + 5.
        splits: A folder with val/fold0.txt to val/fold3.txt (or pascal/val/...), lines such as "2007_000033__01"; None
            for all pictures of VOC's own val list with each of the fold's classes that is in their masks.

    Attributes:
        entries: The lines of the list.
        list_name: The list's file.
        annotations: The sub-folder of the masks: SegmentationClassAug where it is there, else SegmentationClass.

    Raises:
        UserError: If there is no such fold, or folders or the list are missing or not as described.
    """

    def __init__(self, root: str | Path, fold: int, splits: str | Path | None = None) -> None:
        if fold not in range(FOLDS):
            raise UserError(f"Pascal-5i has no fold {fold}: choose 0, 1, 2 or 3.")
        self.fold = fold
        self.class_indices = range(CLASSES_PER_FOLD * fold + 1, CLASSES_PER_FOLD * (fold + 1) + 1)
        self._voc = _voc_folder(Path(root).expanduser())
        found = [name for name in ANNOTATIONS if (self._voc / name).is_dir()]
        if not found:
            raise UserError(f"{self._voc} has no {' or '.join(ANNOTATIONS)}, so there are no masks: unpack them there.")
        self.annotations = found[0]
        if splits is None:
            file = self._voc / OWN_LIST
            self.list_name, self.entries = str(file), self._of_own_list(file)
        else:
            file = _list_file(Path(splits).expanduser(), fold)
            self.list_name, self.entries = str(file), self._of_list(file)
        if not self.entries:
            raise UserError(
                f"{file} names no picture of classes {self._range()}, those of fold {fold}: check the list."
            )
        self._names: dict[int, list[str]] = defaultdict(list)
        for entry in self.entries:
            self._names[entry.class_index].append(entry.name)

    @property
    def class_names(self) -> list[str]:
        """The names of the fold's classes."""
        return [CLASS_NAMES[index - 1] for index in self.class_indices]

    def episodes(self, queries: int = QUERIES, pairs: int = 1, seed: int = 0) -> list[Episode]:
        """Who is asked after what.

        The first picture before each query is the one that visual_prompting draws with this seed. Further ones come of
        random numbers of their own: with one seed the sentences of more pairs begin like those of fewer, and fewer
        queries than 1000 are a random part of the 1000.

        Args:
            queries: How many.
            pairs: How many pictures stand before each.
            seed: In [0, 2**32).

        Raises:
            UserError: If a number is too small, or a class has too few pictures.
        """
        for name, number in (("queries", queries), ("pairs", pairs)):
            if number < 1:
                raise UserError(f"{name} is a number of at least 1, found {number}.")
        if not 0 <= seed <= HIGHEST_SEED:
            raise UserError(f"The seed is {seed}, but random numbers begin at one of 0 to {HIGHEST_SEED}: choose that.")
        for index, names in self._names.items():
            count = len(set(names))
            if count <= pairs:
                raise UserError(
                    f"{self.list_name} has {count} different pictures of class {index} ({CLASS_NAMES[index - 1]}), so "
                    f"{count - 1} pairs fit before a query of another one, not {pairs}: ask for fewer, or take all of "
                    "the data."
                )
        # the legacy generator, one stream through all episodes, permuting all names for each draw: as published
        stream = np.random.RandomState(seed)
        found = []
        for number in range(max(queries, QUERIES)):
            entry = self.entries[number % len(self.entries)]
            names = self._names[entry.class_index]
            first = entry.name
            while first == entry.name:
                first = names[stream.permutation(len(names))[0]]
            others = [name for name in dict.fromkeys(names) if name not in (entry.name, first)]
            more = np.random.default_rng([seed, 0, number]).permutation(len(others))[: pairs - 1]
            found.append(Episode(entry, (first, *(others[place] for place in more))))
        if queries >= QUERIES:
            return found
        chosen = np.random.default_rng([seed, 1]).permutation(QUERIES)[:queries]
        return [found[number] for number in sorted(chosen.tolist())]

    def example(self, name: str, class_index: int) -> Example:
        """Reads a picture and its mask, whose void pixels stay 255.

        Args:
            name: The files' stem.
            class_index: The class that must be in the mask.

        Raises:
            UserError: If a file is missing or damaged, the two differ in size, or the class is not there.
        """
        image = open_image(self._voc / "JPEGImages" / f"{name}.jpg")
        label_map = self._label_map(name)
        check_sizes(image, str(self._mask_file(name)), label_map=label_map)
        if not (label_map == class_index).any():
            raise UserError(
                f"{self._mask_file(name)} has no pixel of class {class_index} ({CLASS_NAMES[class_index - 1]}), but "
                f"{self.list_name} says so: take lists and masks of the same data."
            )
        return Example(image, name, label_map=label_map)

    def _mask_file(self, name: str) -> Path:
        return self._voc / self.annotations / f"{name}.png"

    def _label_map(self, name: str) -> np.ndarray:
        """[H, W] int64."""
        path = self._mask_file(name)
        if not path.is_file():
            raise UserError(f"{path}: there is no such file, the mask of a picture that is listed: check the data.")
        try:
            with Image.open(path) as picture:
                return read_label_map(picture, str(path))
        except UserError:
            raise
        except PICTURE_ERRORS as error:
            raise UserError(f"{path} is damaged or cut off ({error}): fetch or export it again.") from error

    def _range(self) -> str:
        return f"{self.class_indices[0]} to {self.class_indices[-1]}"

    def _of_list(self, file: Path) -> tuple[Entry, ...]:
        found = []
        for line in filter(None, map(str.strip, _lines(file))):
            match = re.fullmatch(r"(.+)__(\d{1,2})", line)
            if match is None:
                raise UserError(f"{file}: {line!r} is no line such as 2007_000033__01: give lists of Pascal-5i.")
            entry = Entry(match[1], int(match[2]))
            if entry.class_index not in self.class_indices:
                raise UserError(
                    f"{file}: {line!r} is of class {entry.class_index}, but fold {self.fold} asks for {self._range()}: "
                    "give the val list of this fold."
                )
            found.append(entry)
        return tuple(found)

    def _of_own_list(self, file: Path) -> tuple[Entry, ...]:
        found = []
        for name in filter(None, map(str.strip, _lines(file))):
            present = np.unique(self._label_map(name)).tolist()
            found += [Entry(name, index) for index in self.class_indices if index in present]
        return tuple(found)


def _voc_folder(root: Path) -> Path:
    for folder in (root / "VOCdevkit" / "VOC2012", root / "VOC2012", root):
        if (folder / "JPEGImages").is_dir():
            return folder
    raise UserError(
        f"{root} has no VOCdevkit/VOC2012/JPEGImages, so there are no pictures: give the folder that Pascal VOC 2012 "
        "was unpacked in."
    )


def _list_file(splits: Path, fold: int) -> Path:
    name = f"val/fold{fold}.txt"
    for folder in (splits, splits / "pascal"):
        if (folder / name).is_file():
            return folder / name
    raise UserError(
        f"{splits} has no {name}, so it is open which pictures are asked about: give the folder of the lists, or none "
        "for VOC's own."
    )


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as a list of pictures ({error}): check the path.") from error


__all__ = ["CLASS_NAMES", "FOLDS", "QUERIES", "VOID", "Entry", "Episode", "PascalFold"]
