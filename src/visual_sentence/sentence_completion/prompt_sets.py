"""Which pairs stand before which query when a model is measured.

A prompt set is one row of pairs for all queries, so that what a model makes of it is worked out once. The set of k
pairs is the first k of that of more: numbers of pairs are compared on the same ground.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from ..data.specs import TaskData
from ..data.task_base import Pair
from ..errors import UserError

# One stream of random numbers for each purpose: what is drawn for one does not move with the number of others.
CHOOSE_QUERIES, QUERY, SETTING, CHOOSE_PAIRS, PAIR = range(5)


@dataclass(frozen=True)
class Draws:
    """What all that is random depends on.

    Args:
        seed: Seed.
        size: Side in pixels that examples are stretched to before the task; their own by default.
    """

    seed: int
    size: int | None = None

    def generator(self, *purpose: int) -> np.random.Generator:
        """The random numbers of one purpose."""
        return np.random.default_rng([self.seed, *purpose])

    def pair(self, data: TaskData, index: int, setting: str, *purpose: int) -> Pair:
        """One example as a pair of the task."""
        example = data.source[index]
        if self.size is not None:
            example = example.stretched((self.size, self.size))
        return data.task.pair(example, self.generator(*purpose, index), setting)

    def query(self, data: TaskData, index: int, setting: str) -> Pair:
        """A query and its true answer; the same whichever pairs stand before it, if the setting is the same."""
        return self.pair(data, index, setting, QUERY)

    def setting(self, data: TaskData, number: int, index: int) -> str:
        """What a query and the pairs of prompt set `number` share beside the task."""
        example = data.source[index] if data.task.selective else None
        return data.task.setting(self.generator(SETTING, number), example)

    def choose_queries(self, data: TaskData, count: int) -> list[int]:
        """Places of examples that are asked about, in random order; all where there are no more than `count`.

        Examples that do not show what the task asks for are left out.

        Raises:
            UserError: If none is left.
        """
        order = self.generator(CHOOSE_QUERIES).permutation(len(data.source)).tolist()
        if not data.task.selective:
            return order[:count]
        found: list[int] = []
        for index in order:
            if len(found) == count:
                break
            if data.task.fits(data.source[index], ""):
                found.append(index)
        if not found:
            raise UserError(
                f"None of the {len(order)} examples of {data.source.name} shows what {data.text} asks for: choose "
                "another class, or other data."
            )
        return found


@dataclass(frozen=True)
class PromptSet:
    """Pairs for all queries of one setting.

    Args:
        pairs: The most pairs that are asked for, of as many sources.
        reserve: A pair of yet another source, if there is one.
    """

    pairs: tuple[Pair, ...]
    reserve: Pair | None

    def replaced(self, source: str) -> int | None:
        """The place of the pair that a query of this source must not see; None where it may see all."""
        return next((place for place, pair in enumerate(self.pairs) if pair.source == source), None)

    def before(self, count: int, replaced: int | None) -> tuple[Pair, ...]:
        """The first pairs, with the reserve in the place of one.

        Args:
            count: How many.
            replaced: What `replaced` gave for the query.
        """
        if replaced is None or replaced >= count or self.reserve is None:
            return self.pairs[:count]
        return (*self.pairs[:replaced], self.reserve, *self.pairs[replaced + 1 : count])


def compose(data: TaskData, number: int, count: int, setting: str, asked: Collection[str], draws: Draws) -> PromptSet:
    """Draws the pairs of one prompt set; no two of one source.

    Args:
        data: Task, and the examples that pairs are made of.
        number: The set's number.
        count: The most pairs that are asked for.
        setting: What they share with the queries.
        asked: Sources of the queries.
        draws: Seed and size.

    Raises:
        UserError: If there are too few sources.
    """
    source, task = data.source, data.task
    found: dict[str, int] = {}
    for index in draws.generator(CHOOSE_PAIRS, number).permutation(len(source)).tolist():
        name = source.source_of(index)
        if name in found or (task.selective and not task.fits(source[index], setting)):
            continue
        found[name] = index
        if len(found) > count:
            break
    shown = set(list(found)[:count])
    if len(found) < count or (len(found) == count and not shown.isdisjoint(asked)):
        most = len(found) - (not shown.isdisjoint(asked))
        wanted = f" with {setting}" if setting else ""
        raise UserError(
            f"{source.name} has {len(found)} different source pictures{wanted}, so {most} pairs fit before a query of "
            f"another one, not {count}: ask for fewer pairs, or draw them from elsewhere with --pairs-from."
        )
    pairs = [draws.pair(data, index, setting, PAIR, number) for index in found.values()]
    return PromptSet(tuple(pairs[:count]), pairs[count] if len(pairs) > count else None)
