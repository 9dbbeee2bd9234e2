"""What the demo shows, and what it found."""

from dataclasses import dataclass, field
from typing import Any

# scikit-image's photographs; the two motorcycles are two pictures of one scene, taken from different places.
SHOWN = ("chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "astronaut.png", "coins.png")
EXAMPLES = {"cat": "chelsea.png", "coffee": "coffee.png", "rocket": "rocket.jpg", "motorcycle": "motorcycle_left.png"}
QUESTION = "motorcycle_right.png"
# And a stained section of tissue.
TISSUE = "ihc.png"


@dataclass(frozen=True)
class WordsResult:
    """Words of photographs and the answer to one question.

    Args:
        words: Photograph's file name -> its words, nearest first.
        probabilities: Class -> probability that the language model gives it for the question.
        prompt: The text that the language model read.
    """

    words: dict[str, list[str]]
    probabilities: dict[str, float]
    prompt: str

    @property
    def answer(self) -> str:
        """The most probable class."""
        return max(self.probabilities, key=self.probabilities.__getitem__)


@dataclass(frozen=True)
class SheetResult:
    """One task: a sheet of pictures, and how near they come to the truth.

    Args:
        title: What is asked, for people.
        picture: File name of the sheet.
        measure: "dice" or "psnr".
        value: Mean over the queries.
        references: Name of an answer that asks no model -> the same measure of it.
        queries: How many queries.
        note: What a reader has to know about it.
    """

    title: str
    picture: str
    measure: str
    value: float
    references: dict[str, float]
    queries: int
    note: str = ""

    @property
    def best_reference(self) -> str:
        """The name of the best reference."""
        return max(self.references, key=self.references.__getitem__)

    @property
    def is_failure(self) -> bool:
        """Whether an answer that asks no model is as good."""
        return self.value <= self.references[self.best_reference]

    def shown(self, value: float) -> str:
        """A value with its unit."""
        return f"Dice {value:.2f}" if self.measure == "dice" else f"{value:.1f} dB"

    def summary(self) -> str:
        """The value and the best reference in a line."""
        name = self.best_reference
        reference = f"{self.shown(self.references[name])} by the best answer that asks no model ({name})"
        return f"{self.shown(self.value)}, against {reference}"


@dataclass(frozen=True)
class DemoResult:
    """What the demo found.

    Args:
        photographs: Of words and question.
        reconstruction: Of pictures drawn from their words alone.
        restorations: Of damaged pictures, a task each.
        sentences: Of visual sentences, a task each.
    """

    photographs: WordsResult
    reconstruction: SheetResult | None = None
    restorations: tuple[SheetResult, ...] = field(default_factory=tuple)
    sentences: tuple[SheetResult, ...] = field(default_factory=tuple)


def sentence_result(title: str, picture: str, measured: dict[str, Any], without: str, note: str = "") -> SheetResult:
    """A task's numbers out of what `evaluate_completion` gave for one number of pairs.

    Args:
        title: As in `SheetResult`.
        picture: As in `SheetResult`.
        measured: What it gave.
        without: The one among its references that is no answer but a bound.
        note: As in `SheetResult`.
    """
    (row,) = measured["results"]
    measure = "psnr" if row["dice"] is None else "dice"
    references = {
        name.replace("_", " "): found[measure] for name, found in row["references"].items() if name != without
    }
    return SheetResult(title, picture, measure, row[measure], references, row["n"], note)
