"""Tasks whose answer is a region: binary masks, label maps in colours, instances in random colours."""

import re
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from PIL import Image

from ..errors import UserError
from .examples import Example
from .palettes import BLACK, MAX_COLOURS, distinct_colours, shuffled_colours
from .task_base import Colour, Task, one_of, setting_values, whole

ANY = "any"
# A class is in a picture if it covers at least this share: less does not survive a tokenizer.
LEAST_SHARE = 0.002
HIGHEST_CLASS = 65_535


def read_foreground(name: str, text: str) -> str:
    """A class index, or "any"."""
    if text == ANY or re.fullmatch(r"\d+", text):
        return text
    raise UserError(f"{name}={text} is no class: give an index of the label map (0, 1, ...), or any.")


def read_classes(name: str, text: str) -> tuple[int, ...]:
    """Class indices: "1,2,5" or "0-11"."""
    found: list[int] = []
    for part in text.strip("()").replace(" ", "").split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if match is None or int(match[1]) > int(match[2] or match[1]) or int(match[2] or match[1]) > HIGHEST_CLASS:
            raise UserError(f"{name}={text} is no list of classes: give indices such as 1,2,5 or 1-4.")
        found.extend(range(int(match[1]), int(match[2] or match[1]) + 1))
    if len(set(found)) != len(found):
        raise UserError(f"{name}={text} names a class twice: name each once.")
    return tuple(found)


def classes_of(labels: np.ndarray) -> dict[int, float]:
    """The classes of a label map beside 0, each with its share of the pixels."""
    indices, counts = np.unique(labels, return_counts=True)
    return {int(index): count / labels.size for index, count in zip(indices, counts, strict=True) if index != 0}


def black_and_white(mask: np.ndarray) -> Image.Image:
    """A mask [H, W] as a picture: foreground white, the rest black."""
    return Image.fromarray(np.repeat(np.where(mask, 255, 0).astype(np.uint8)[..., None], 3, axis=2))


def label_map_of(example: Example) -> np.ndarray:
    """The label map of an example whose task needs one."""
    assert example.label_map is not None
    return example.label_map


@dataclass(frozen=True)
class Segmentation(Task):
    """Foreground white, everything else black.

    Args:
        foreground: Index of the class that is foreground; "any": one class that is in the query's picture, drawn for
            each sentence; None: the mask is given.
    """

    name: ClassVar[str] = "segmentation"
    reads_back: ClassVar[str] = "mask"
    label_columns: ClassVar[tuple[str, ...]] = ("label_map", "semantic")
    data_decides: ClassVar[bool] = True

    foreground: Annotated[str | None, read_foreground] = None

    @property
    def selective(self) -> bool:
        return self.foreground is not None

    @property
    def needs(self) -> tuple[str, ...]:
        return ("mask",) if self.foreground is None else ("label_map",)

    def check(self, example: Example) -> None:
        if self.foreground is None and example.mask is None and example.label_map is not None:
            raise UserError(
                f"{example.source} has a label map and no mask, so it is open what is foreground: name a class by "
                "foreground=INDEX or foreground=any, or take palette_segmentation."
            )
        super().check(example)

    def setting(self, rng: np.random.Generator, example: Example | None = None) -> str:
        """Gives "foreground=INDEX", or "" where masks are given."""
        if self.foreground is None:
            return ""
        if self.foreground != ANY:
            return f"foreground={self.foreground}"
        if example is None:
            raise UserError("foreground=any draws a class of a picture, and there is none: give one with a label map.")
        self.check(example)
        present = [index for index, share in classes_of(label_map_of(example)).items() if share >= LEAST_SHARE]
        if not present:
            raise UserError(f"{example.source} has no class beside 0 to draw: leave it out, or name a foreground.")
        return f"foreground={rng.choice(present)}"

    def fits(self, example: Example, setting: str) -> bool:
        """Whether the picture has the class, on at least 0.2 % of its pixels; before one is drawn, whether any."""
        if self.foreground is None:
            return True
        self.check(example)
        wanted = setting_values(setting).get("foreground", self.foreground)
        if wanted == ANY:
            return any(share >= LEAST_SHARE for share in classes_of(label_map_of(example)).values())
        return float(np.mean(label_map_of(example) == int(wanted))) >= LEAST_SHARE

    def solve(self, example: Example, rng: np.random.Generator, setting: str) -> tuple[Image.Image, Image.Image]:
        if self.foreground is None:
            assert example.mask is not None  # it is needed
            return example.image, black_and_white(example.mask)
        wanted = setting_values(setting).get("foreground", self.foreground)
        if wanted == ANY:
            raise UserError("Which class is foreground differs from sentence to sentence: give the sentence's setting.")
        return example.image, black_and_white(label_map_of(example) == int(wanted))


@dataclass(frozen=True)
class PaletteSegmentation(Task):
    """Each class in a colour of its own; class 0, if not named by `classes`, and all others black.

    Args:
        classes: Which classes have a colour, in the order of the colours; None: 1 to 24.
        colours: "fixed": always the same colours; "random": in another order for each sentence, so that only its
            pairs tell which colour means what.
        palettes: How many orders there are to draw from.
    """

    name: ClassVar[str] = "palette_segmentation"
    reads_back: ClassVar[str] = "labels"
    label_columns: ClassVar[tuple[str, ...]] = ("label_map", "semantic")
    data_decides: ClassVar[bool] = True

    classes: Annotated[tuple[int, ...] | None, read_classes] = None
    colours: Annotated[str, one_of("fixed", "random")] = "fixed"
    palettes: Annotated[int, whole(1, 10_000)] = 16

    def __post_init__(self) -> None:
        if self.classes is not None and len(self.classes) > MAX_COLOURS:
            raise UserError(
                f"{len(self.classes)} classes are more than the {MAX_COLOURS} colours that can be told apart: name "
                "fewer."
            )

    @property
    def needs(self) -> tuple[str, ...]:
        return ("label_map",)

    def setting(self, rng: np.random.Generator, example: Example | None = None) -> str:
        """Gives "palette=NUMBER" for random colours."""
        return f"palette={rng.integers(self.palettes)}" if self.colours == "random" else ""

    def palette(self, setting: str = "") -> list[Colour]:
        """The colours of class 0, 1, ...; black for those without one.

        Raises:
            UserError: If the colours are random and the setting does not say which.
        """
        colours = distinct_colours()
        if self.colours == "random":
            number = setting_values(setting).get("palette")
            if number is None:
                raise UserError("The colours differ from sentence to sentence: give the sentence's setting.")
            colours = shuffled_colours(int(number))
        classes = range(1, MAX_COLOURS + 1) if self.classes is None else self.classes
        found = [BLACK] * (max(classes) + 1)
        for index, colour in zip(classes, colours, strict=False):
            found[index] = colour
        return found

    def solve(self, example: Example, rng: np.random.Generator, setting: str) -> tuple[Image.Image, Image.Image]:
        colours = np.array(self.palette(setting), np.uint8)
        labels = label_map_of(example)
        highest = int(labels.max(initial=0))
        if self.classes is None and highest >= len(colours):
            raise UserError(
                f"{example.source} has class {highest}, beyond the {MAX_COLOURS} that have colours: name those that "
                "matter, such as classes=1,3,17."
            )
        colours = np.concatenate([colours, np.zeros((max(0, highest + 1 - len(colours)), 3), np.uint8)])
        return example.image, Image.fromarray(colours[labels])


@dataclass(frozen=True)
class InstanceSegmentation(Task):
    """Each instance in a random colour on black, as DeLVM's sentences of SA-1B.

    Smaller instances lie on top. DeLVM adds the colours of overlapping masks instead, with values above 255 starting
    again from 0.
    """

    name: ClassVar[str] = "instance_segmentation"
    label_columns: ClassVar[tuple[str, ...]] = ("instances", "segments")
    data_decides: ClassVar[bool] = True

    @property
    def needs(self) -> tuple[str, ...]:
        return ("label_map",)

    def solve(self, example: Example, rng: np.random.Generator, setting: str) -> tuple[Image.Image, Image.Image]:
        labels = label_map_of(example)
        numbers, places = np.unique(labels, return_inverse=True)
        colours = rng.integers(32, 256, (len(numbers), 3), dtype=np.uint8)  # none so dark that it looks like background
        colours[numbers == 0] = 0
        return example.image, Image.fromarray(colours[places.reshape(labels.shape)])


__all__ = ["InstanceSegmentation", "PaletteSegmentation", "Segmentation", "black_and_white", "classes_of"]
