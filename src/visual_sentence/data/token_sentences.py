"""Visual sentences composed of token rows: pairs of one task and setting, of different sources, then the query's pair.

Random numbers of pairs as in LVM's and DeLVM's prompts; "no two pairs of one source" keeps a query's own picture out
of its examples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..errors import UserError
from .shards import TokenShards
from .token_rows import PAIR, TokenColumns, TokenHeader

SMALLEST = 2  # pairs of a sentence with an example


@dataclass(frozen=True, eq=False)
class TokenSentence:
    """n images in a row, as tokens.

    Args:
        tokens: [n * T] int64 in [0, K), image after image, each row by row.
        num_images: n.
        is_target: [n] bool: images that are answers; of pairs every second one, of sequences all but the first.
        task: What the pairs are examples of.
    """

    tokens: np.ndarray
    num_images: int
    is_target: np.ndarray
    task: str


@dataclass(frozen=True, eq=False)
class Composition:
    """Which rows form which sentence.

    Args:
        rows: [M] int64, row numbers, sentence after sentence.
        offsets: [S + 1] int64: sentence i is `rows[offsets[i]:offsets[i + 1]]`.
        unplaced: [U] int64, row numbers that no sentence could take, ascending.
    """

    rows: np.ndarray
    offsets: np.ndarray
    unplaced: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def members(self, sentence: int) -> np.ndarray:
        """Row numbers of a sentence, in order."""
        return self.rows[self.offsets[sentence] : self.offsets[sentence + 1]]


def check_num_pairs(num_pairs: tuple[int, int]) -> tuple[int, int]:
    """The range, if it is one.

    Raises:
        UserError: If it is empty or begins below 0.
    """
    low, high = num_pairs
    if not 0 <= low <= high:
        raise UserError(f"{low} to {high} pairs before the query is no range: give two numbers, 0 <= fewest <= most.")
    return low, high


def group_rows(columns: TokenColumns) -> tuple[np.ndarray, np.ndarray]:
    """Numbers for what may, and what must not, be in one sentence.

    Args:
        columns: N rows.

    Returns:
        group: [N] int64; pairs of one task and setting have the same number, sequences have -1.
        source: [N] int64; rows of one source picture have the same number.
    """
    source, task, setting = (
        np.unique(texts.astype(str), return_inverse=True)[1].astype(np.int64)
        for texts in (columns.source, columns.task, columns.setting)
    )
    group = task * (int(setting.max(initial=0)) + 1) + setting
    return np.where(columns.layout == PAIR, group, -1), source


def compose(group: np.ndarray, source: np.ndarray, num_pairs: tuple[int, int], rng: np.random.Generator) -> Composition:
    """Deals rows out to sentences, each row to one.

    A sentence has k + 1 pairs, k drawn uniformly; the last of a group may have fewer, rather than losing its rows.

    Args:
        group: [N] int64; only rows of one number share a sentence; rows of -1 are sentences by themselves.
        source: [N] int64; rows of one number never share a sentence.
        num_pairs: Fewest and most pairs before the query's.
        rng: Draws order and numbers.

    Returns:
        All sentences, in random order.
    """
    low, high = check_num_pairs(num_pairs)
    single = np.flatnonzero(group < 0)
    sentences: list[list[int]] = [[row] for row in single.tolist()]
    unplaced: list[int] = []
    pairs = np.flatnonzero(group >= 0)
    if len(pairs):
        order = pairs[_spread(group[pairs], source[pairs], rng)]
        borders = np.flatnonzero(np.diff(group[order])) + 1
        sources = source.tolist()
        for part in np.split(order, borders):
            sizes = rng.integers(low + 1, high + 2, size=len(part)).tolist()
            found, left = _deal(part.tolist(), sources, sizes)
            left = _squeeze_in(found, left, sources, low + 1, high + 1)
            sentences += found
            unplaced += left
    return _shuffled(sentences, unplaced, rng)


def _spread(group: np.ndarray, source: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[N] an order by groups in which the rows of each source are spread evenly over their group."""
    shuffled = rng.permutation(len(group))
    both = group * (int(source.max()) + 1) + source
    _, kind, counts = np.unique(both[shuffled], return_inverse=True, return_counts=True)
    by_kind = np.argsort(kind, kind="stable")
    place = np.empty(len(group), np.int64)  # how many rows of its source come before it
    place[by_kind] = np.arange(len(group)) - np.repeat(np.cumsum(counts) - counts, counts)
    position = (place + rng.random(len(counts))[kind]) / counts[kind]
    return shuffled[np.lexsort((position, group[shuffled]))]


def _deal(rows: list[int], sources: list[int], sizes: list[int]) -> tuple[list[list[int]], list[int]]:
    """Fills sentences of the sizes wanted, one after the other; a row whose source is there already waits.

    Args:
        rows: Of one group, in the order in which they are dealt.
        sources: Of all rows.
        sizes: Wanted sizes of the sentences.

    Returns:
        The sentences, of 2 rows or more where their size is not 1; and the rows that are left, all of one source.
    """
    waiting: dict[int, list[int]] = {}
    found, coming, size = [], iter(rows), iter(sizes)
    row = next(coming, None)
    while row is not None or waiting:
        wanted = next(size)
        # those of whom most are waiting go first, or they would be left alone at the end
        first = sorted(waiting, key=lambda one: -len(waiting[one]))[:wanted]
        members = {one: waiting[one].pop() for one in first}
        for one in first:
            if not waiting[one]:
                del waiting[one]
        while row is not None and len(members) < wanted:
            if sources[row] in members:
                waiting.setdefault(sources[row], []).append(row)
            else:
                members[sources[row]] = row
            row = next(coming, None)
        if len(members) == 1 and wanted > 1:  # nothing else is coming, and all that waits is of the same source
            ((one, last),) = members.items()
            return found, [*waiting.get(one, []), last]
        found.append(list(members.values()))
    return found, []


def _squeeze_in(sentences: list[list[int]], left: list[int], sources: list[int], fewest: int, most: int) -> list[int]:
    """Finds places for rows of one source: alone, in sentences that have room, then beside rows that others lend.

    Args:
        sentences: Changed in place.
        left: Rows of one source.
        sources: Of all rows.
        fewest: Rows of a sentence as it was asked for.
        most: The same.

    Returns:
        Rows that have no place even so.
    """
    if not left:
        return left
    if fewest == 1:
        sentences += [[row] for row in left]
        return []
    lone = sources[left[0]]
    free = [members for members in sentences if len(members) < most and all(sources[row] != lone for row in members)]
    for members in free[: len(left)]:
        members.append(left.pop())
    for members in list(sentences):
        if not left:
            break
        while left and len(members) > SMALLEST:
            lent = next(place for place, row in enumerate(members) if sources[row] != lone)
            sentences.append([left.pop(), members.pop(lent)])
        if len(left) >= SMALLEST and all(sources[row] != lone for row in members):
            sentences.append([left.pop(), members.pop()])
            members.append(left.pop())
    return left


def _shuffled(sentences: list[list[int]], unplaced: list[int], rng: np.random.Generator) -> Composition:
    """Sentences in random order, each sentence's rows in random order too."""
    order = rng.permutation(len(sentences)).tolist()
    lengths = np.array([len(sentences[place]) for place in order], np.int64)
    rows = np.array([row for place in order for row in sentences[place]], np.int64)
    number = np.repeat(np.arange(len(order)), lengths)
    rows = rows[np.lexsort((rng.random(len(rows)), number))]
    return Composition(
        rows, np.concatenate([[0], lengths]).cumsum(dtype=np.int64), np.array(sorted(unplaced), np.int64)
    )


class ComposedSentences(Sequence):
    """Sentences of rows that are in memory, put together when they are asked for.

    Args:
        columns: The rows.
        composition: Which of them form which sentence.
        header: Whose tokens they are.
    """

    def __init__(self, columns: TokenColumns, composition: Composition, header: TokenHeader):
        self.columns, self.composition, self.header = columns, composition, header

    @property
    def unplaced(self) -> np.ndarray:
        """[U] int64, numbers of the rows that are in no sentence: no row of another source was left for them."""
        return self.composition.unplaced

    def __len__(self) -> int:
        return len(self.composition)

    def __getitem__(self, place: int) -> TokenSentence:
        if not -len(self) <= place < len(self):
            raise IndexError(f"sentence {place} of {len(self)}")
        rows = self.composition.members(place % len(self)).tolist()
        columns = self.columns
        parts = [columns.tokens[columns.offsets[row] : columns.offsets[row + 1]] for row in rows]
        tokens = np.concatenate(parts).astype(np.int64)
        num_images = len(tokens) // self.header.tokens_per_image
        is_target = np.ones(num_images, bool)
        if columns.layout[rows[0]] == PAIR:
            is_target[0::2] = False
        else:
            is_target[0] = False
        return TokenSentence(tokens, num_images, is_target, columns.task[rows[0]])


class SentenceTable:
    """All sentences of shards that fit in memory, composed anew for every epoch.

    Args:
        shards: The rows.
        num_pairs: Fewest and most pairs before the query's; each number is equally likely.
        seed: Of all that is drawn.

    Raises:
        UserError: If the range is none, or no sentence can be composed of the rows.
    """

    def __init__(self, shards: TokenShards, num_pairs: tuple[int, int] = (1, 4), seed: int = 0):
        self.shards, self.num_pairs, self.seed = shards, check_num_pairs(num_pairs), seed
        self._group, self._source = group_rows(shards.rows)
        if not len(self.epoch(0)):
            raise UserError(
                f"{shards.name}: no sentence can be composed of its {len(shards):,} rows, as no two of one task and "
                "setting are of different pictures: tokenize more pictures, or take 0 pairs."
            )

    @cached_property
    def unplaced(self) -> np.ndarray:
        """[U] int64, numbers of the rows that no epoch can place: all of their task and setting are of one source."""
        if self.num_pairs[0] == 0:
            return np.array([], np.int64)
        pairs = np.flatnonzero(self._group >= 0)
        kinds = np.unique(np.stack([self._group[pairs], self._source[pairs]]), axis=1)
        groups, sources = np.unique(kinds[0], return_counts=True)
        return pairs[np.isin(self._group[pairs], groups[sources == 1])]

    def epoch(self, number: int) -> ComposedSentences:
        """The sentences of an epoch; the same for the same seed and number.

        Args:
            number: From 0 on.
        """
        rng = np.random.default_rng((self.seed, number))
        composition = compose(self._group, self._source, self.num_pairs, rng)
        return ComposedSentences(self.shards.rows, composition, self.shards.header)


__all__ = [
    "ComposedSentences",
    "Composition",
    "SentenceTable",
    "TokenSentence",
    "check_num_pairs",
    "compose",
    "group_rows",
]
