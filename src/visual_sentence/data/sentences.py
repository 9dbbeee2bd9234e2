"""Sentences of pictures: pairs of one task, then a query. All chance comes from a seed and a number."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from PIL import Image

from ..errors import UserError
from .augmentation import Augmentation
from .examples import Example
from .specs import TaskData
from .task_base import Pair

# What a generator is seeded with beside seed and number, so that no two draws share their chance.
ORDER, SETTING, QUERY, CANDIDATES, PAIR = range(5)
QUICK_DRAWS = 64
CROPS_TRIED = 4
CLASSES_TRIED = 20


@dataclass(frozen=True)
class VisualSentence:
    """Solved pairs and a question.

    Args:
        pairs: k of them, of different source pictures.
        query: H x W pixels, 8-bit RGB, of yet another source.
        target: The answer, the same size; None where nobody knows it.
        task: The task's name.
        setting: What the pairs and the answer share.
        sources: The source pictures of the pairs, then of the query.
    """

    pairs: tuple[Pair, ...]
    query: Image.Image
    target: Image.Image | None
    task: str
    setting: str
    sources: tuple[str, ...]

    def images(self, with_target: bool = True) -> list[Image.Image]:
        """The pictures in order: question, answer, ..., query, and the answer to it where it is known and asked for."""
        found = [picture for pair in self.pairs for picture in (pair.input, pair.target)]
        return [*found, self.query, *([self.target] if with_target and self.target is not None else [])]


class SentenceMaker:
    """Makes sentences and pairs of a task's data.

    Args:
        data: Task and examples.
        augment: What is done to each example first; None for nothing.
        seed: Seed.
        size: Side S of the squares that examples are stretched to before the task, so that damage such as noise is of
            the resolution that a model sees; None to keep their sizes.
    """

    def __init__(
        self, data: TaskData, augment: Augmentation | None = None, seed: int = 0, size: int | None = None
    ) -> None:
        self.data, self.augment, self.seed, self.size = data, augment, seed, size
        self._fitting: dict[tuple[int, str], bool] = {}
        self._latest: tuple[int, Example] | None = None  # asked for several times in a row

    def __len__(self) -> int:
        """Pairs in one pass: examples times draws."""
        return len(self.data.source) * self.data.draws

    def sentence(self, index: int, num_pairs: int, query: int | None = None) -> VisualSentence:
        """A sentence of k pairs and a query, all of different sources.

        With more pairs the first ones, the query and its answer stay the same. Queries are drawn without repetition
        until all examples had their turn; one that has nothing to answer (no class of the task in it) is passed over.

        Args:
            index: Its number; the same number with the same seed is the same sentence.
            num_pairs: k, 0 or more.
            query: Place of the example to ask about; drawn by default.

        Raises:
            UserError: If there are too few sources, or the query's place is beyond the examples.
        """
        if num_pairs < 0:
            raise UserError(f"{num_pairs} pairs are not possible: give 0 or more.")
        chosen, setting, places = self._composed(index, num_pairs, query)
        pairs = tuple(
            self._pair(place, setting, (index, PAIR, number), must_fit=True) for number, place in enumerate(places)
        )
        asked = self._pair(chosen, setting, (index, QUERY), must_fit=query is None)
        return VisualSentence(
            *(pairs, asked.input, asked.target, self.data.task.name, asked.setting),
            (*(pair.source for pair in pairs), asked.source),
        )

    def pair(self, index: int) -> Pair:
        """A pair by number: example `index` modulo their number, for the `index` // number-th time.

        Where the example has nothing to show (no class of the task in it), the next one that has is taken.

        Args:
            index: In [0, length) for one pass, and beyond for more.

        Raises:
            UserError: If no example has anything to show.
        """
        place = self._next_fitting(index % len(self.data.source))
        return self._pair(place, self._drawn_setting(index, place), (index, PAIR), must_fit=True)

    def _composed(self, index: int, num_pairs: int, query: int | None) -> tuple[int, str, list[int]]:
        """Places of the query and the pairs, and what they share.

        A class that too few examples have is given up for another one, and the query with it if it was drawn.
        """
        best: tuple[int, str] = (-1, "")
        for attempt in range(CLASSES_TRIED if self.data.task.selective else 1):
            chosen = self._query(index, attempt) if query is None else self._checked(query)
            setting = self._drawn_setting(index, chosen, attempt)
            places = list(islice(self._others(index, chosen, setting), num_pairs))
            if len(places) == num_pairs:
                return chosen, setting, places
            best = max(best, (len(places), setting))
        found, setting = best
        what = f" with {setting}" if self.data.task.selective else ""
        raise UserError(
            f"{self.data.source.name} has examples of {found + 1} different sources{what}, so {found} "
            f"{'pair fits' if found == 1 else 'pairs fit'} beside the query, you asked for {num_pairs}: ask for fewer "
            "or give more data."
        )

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *key])

    def _checked(self, place: int) -> int:
        count = len(self.data.source)
        if not 0 <= place < count:
            raise UserError(f"{self.data.source.name} has {count} examples, no number {place}: ask about one of these.")
        return place

    def _query(self, index: int, attempt: int) -> int:
        count = len(self.data.source)
        turn, at = divmod(index, count)
        return self._next_fitting(int(self._rng(turn, ORDER).permutation(count)[(at + attempt) % count]))

    def _next_fitting(self, place: int) -> int:
        count = len(self.data.source)
        for step in range(count):
            if self._fits((place + step) % count, ""):
                return (place + step) % count
        raise UserError(
            f"None of the {count} examples of {self.data.source.name} has what {self.data.task.name} asks for "
            f"({self.data.text or self.data.task}): choose another class or other data."
        )

    def _drawn_setting(self, index: int, place: int, attempt: int = 0) -> str:
        """The setting of a sentence or pair, with the data's name where the answer depends on the data."""
        task = self.data.task
        setting = task.setting(self._rng(index, SETTING, attempt), self._example(place) if task.selective else None)
        if not task.data_decides:
            return setting
        name = self.data.source.name.replace(",", "_").replace("=", "_")
        return f"data={name},{setting}" if setting else f"data={name}"

    def _others(self, index: int, query: int, setting: str) -> Iterator[int]:
        """Places of examples that fit, in random order, no source twice and never the query's."""
        source, rng = self.data.source, self._rng(index, CANDIDATES)
        used = {source.source_of(query)}
        for place in self._random_places(rng):
            if source.source_of(place) not in used and self._fits(place, setting):
                used.add(source.source_of(place))
                yield place

    def _random_places(self, rng: np.random.Generator) -> Iterator[int]:
        """Some places at random, then all: a long source need not be shuffled for a few."""
        count = len(self.data.source)
        yield from rng.integers(count, size=QUICK_DRAWS).tolist()
        yield from rng.permutation(count).tolist()

    def _fits(self, place: int, setting: str) -> bool:
        if not self.data.task.selective:
            return True
        key = (place, setting)
        if key not in self._fitting:
            self._fitting[key] = self.data.task.fits(self._example(place), setting)
        return self._fitting[key]

    def _example(self, place: int) -> Example:
        """An example as it is, of the size that is wanted."""
        if self._latest is None or self._latest[0] != place:
            example = self.data.source[place]
            self._latest = place, example if self.size is None else example.stretched((self.size, self.size))
        return self._latest[1]

    def _pair(self, place: int, setting: str, key: tuple[int, ...], must_fit: bool) -> Pair:
        rng = self._rng(*key)
        example = self._augmented(self.data.source[place], rng, setting, must_fit)
        if self.data.light is not None:
            example = self.data.light.apply(example, rng)
        return self.data.task.pair(example, rng, setting)

    def _augmented(self, example: Example, rng: np.random.Generator, setting: str, must_fit: bool) -> Example:
        """Augmented and stretched; a crop that loses the class is drawn again, and given up after some."""
        size = example.image.size if self.size is None else (self.size, self.size)
        if self.augment is None:
            return example.stretched(size)
        selective = must_fit and self.data.task.selective
        for _ in range(CROPS_TRIED):
            changed = self.augment.apply(example, rng)
            changed = changed if self.size is None else changed.stretched(size)
            if not selective or self.data.task.fits(changed, setting):
                return changed
        return example.stretched(size)


__all__ = ["SentenceMaker", "VisualSentence"]
