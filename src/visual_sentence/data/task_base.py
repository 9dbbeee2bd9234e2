"""What a task is: from an example, a picture and its answer. And how its options are read.

A task's options are the fields of its dataclass, each annotated with what reads it out of text: (name, text) to value.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from ..errors import UserError
from .examples import FIELDS, Example

Colour = tuple[int, int, int]
# Lowest and highest of a number that is drawn uniformly; equal where it is fixed.
Range = tuple[float, float]
# How a target is read: a mask by a threshold, a label map by the nearest colour of the palette, or as it is.
READINGS = ("mask", "labels", "image")
NUMBER = r"-?\d+(?:\.\d+)?"


@dataclass(frozen=True)
class Pair:
    """A question and its answer, both as pictures.

    Args:
        input: H x W pixels, 8-bit RGB.
        target: The same size, 8-bit RGB.
        source: Which source picture both are of.
        setting: What all pairs of one sentence must share beside the task, as "name=value,name=value".
    """

    input: Image.Image
    target: Image.Image
    source: str
    setting: str = ""


class Task(ABC):
    """Makes pairs out of examples.

    Subclasses are frozen dataclasses whose fields are the options.

    Attributes:
        name: What it is called.
        reads_back: How its target is read, one of `READINGS`.
        needs: Fields of `Example` that it cannot do without.
        label_columns: Columns of a table in which it looks for the label map first.
        selective: Whether some examples may not fit a setting (`fits`), so that they have to be looked at.
        data_decides: Whether the answer depends on what the data's annotation means, not on the picture and the
            options alone; pairs of different data then never stand in one sentence.
    """

    name: ClassVar[str]
    reads_back: ClassVar[str] = "image"
    label_columns: ClassVar[tuple[str, ...]] = ()
    selective: ClassVar[bool] = False
    data_decides: ClassVar[bool] = False

    @property
    def needs(self) -> tuple[str, ...]:
        """Fields of `Example` that the task cannot do without."""
        return ()

    def setting(self, rng: np.random.Generator, example: Example | None = None) -> str:
        """Draws what the pairs of one sentence share.

        Args:
            rng: Where chance comes from.
            example: The example that the sentence asks about, for tasks that choose among what is in it.

        Returns:
            "name=value,name=value", or "" where there is nothing to share.

        Raises:
            UserError: If the task needs an example and has none.
        """
        return ""

    def fits(self, example: Example, setting: str) -> bool:
        """Whether an example shows what the setting asks for."""
        return True

    def check(self, example: Example) -> None:
        """Looks whether an example has all that the task needs.

        Raises:
            UserError: If it has not.
        """
        for needed in self.needs:
            if getattr(example, needed) is None:
                raise UserError(
                    f"{example.source} has no {needed.replace('_', ' ')}, but {self.name} needs {FIELDS[needed]}: give "
                    "data that has one, or take another task."
                )

    def pair(self, example: Example, rng: np.random.Generator, setting: str = "") -> Pair:
        """Makes a picture and its answer.

        Args:
            example: With the fields that the task `needs`.
            rng: Where the damage of this one input comes from.
            setting: What `setting` gave; drawn here where it is "".

        Raises:
            UserError: If the example lacks a field, or cannot be solved.
        """
        self.check(example)
        setting = setting or self.setting(rng, example)
        question, answer = self.solve(example, rng, setting)
        return Pair(question, answer, example.source, setting)

    @abstractmethod
    def solve(self, example: Example, rng: np.random.Generator, setting: str) -> tuple[Image.Image, Image.Image]:
        """Input and target of an example that has all that is needed."""

    def palette(self, setting: str = "") -> list[Colour] | None:
        """The colours of class 0, 1, ... where the target is a coloured label map; None elsewhere."""
        return None


def setting_values(setting: str) -> dict[str, str]:
    """A setting as a dictionary."""
    return dict(part.split("=", 1) for part in setting.split(",") if "=" in part)


def make_from_options(kind: type[Task], options: dict[str, Any]) -> Task:
    """Builds a task from options, as texts or as values.

    Raises:
        UserError: If there is no such option, or a value cannot be.
    """
    of_kind: Any = kind  # a dataclass, as all tasks that are made of options
    known = {}
    for entry in fields(of_kind):
        annotated: Any = entry.type
        known[entry.name] = annotated.__metadata__[0]
    for name in options:
        if name not in known:
            takes = f"its options: {', '.join(known)}" if known else "it has none"
            raise UserError(f"The task {kind.name} has no option {name!r} ({takes}): leave it out or mend the name.")
    given = {name: value for name, value in options.items() if value is not None}
    return kind(**{name: known[name](name, _text(value)) for name, value in given.items()})


def number_range(low: float, high: float) -> Callable[[str, str], Range]:
    """A reader of "a" or "a-b" (or "a,b") with all numbers in [low, high]."""

    def read(name: str, text: str) -> Range:
        match = re.fullmatch(rf"({NUMBER})(?:[-,]({NUMBER}))?", text)
        if match:
            first = float(match[1])
            last = first if match[2] is None else float(match[2])
            if low <= first <= last <= high:
                return first, last
        raise UserError(
            f"{name}={text} is not possible: give a number or a range such as {_plain(low)}-{_plain(high)}, all within "
            "these two."
        )

    return read


def whole(low: int, high: int) -> Callable[[str, str], int]:
    """A reader of a whole number in [low, high]."""

    def read(name: str, text: str) -> int:
        if re.fullmatch(r"-?\d+", text) and low <= int(text) <= high:
            return int(text)
        raise UserError(f"{name}={text} is not possible: give a whole number from {low} to {high}.")

    return read


def one_of(*choices: str) -> Callable[[str, str], str]:
    """A reader of one word out of several."""

    def read(name: str, text: str) -> str:
        if text in choices:
            return text
        raise UserError(f"{name}={text} is not known: choose one of {', '.join(choices)}.")

    return read


def draw(rng: np.random.Generator, interval: Range) -> float:
    """A number of an interval, uniformly."""
    low, high = interval
    return float(rng.uniform(low, high))


def to_picture(values: np.ndarray) -> Image.Image:
    """[H, W, 3] numbers in about [0, 255], rounded and cut off there, as 8-bit RGB."""
    return Image.fromarray(np.rint(values).clip(0, 255).astype(np.uint8))


def to_values(picture: Image.Image) -> np.ndarray:
    """8-bit RGB as [H, W, 3] float64 in [0, 255]."""
    return np.asarray(picture, np.float64)


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _plain(number: float) -> str:
    return f"{number:g}"


__all__ = [
    *("Colour", "Pair", "READINGS", "Range", "Task", "draw", "make_from_options", "number_range"),
    *("one_of", "setting_values", "to_picture", "to_values", "whole"),
]
