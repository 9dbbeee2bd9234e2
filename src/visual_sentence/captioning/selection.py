"""Which solved pictures stand in a prompt: drawn once by a seed, or the nearest to each picture in question.

A picture is never its own example, whichever file or table it comes from: pictures are told apart by their pixels.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from random import Random

import torch
from PIL import Image

from ..errors import UserError
from ..modeling.image_processing_v2l import to_rgb
from ..words import WordFinder
from .tables import PictureRow, PictureRows

CHOICES = ("random", "nearest")
PAPER_EXAMPLES = 10
PAPER_WORDS = 21


@dataclass(frozen=True)
class SeenPicture:
    """What is known of a picture once it has been looked at.

    Args:
        words: Its k words, nearest first.
        image_embeds: [D] float32, its place in the joint space.
        digest: Names its pixels.
    """

    words: tuple[str, ...]
    image_embeds: torch.Tensor
    digest: str


def picture_digest(picture: Image.Image) -> str:
    """A name for a picture's pixels: equal for equal pictures, whatever file or format they come in."""
    picture = to_rgb(picture)
    return sha256(repr(picture.size).encode() + picture.tobytes()).hexdigest()


def see(
    finder: WordFinder, pictures: Iterable[Image.Image], num_words: int | None = PAPER_WORDS, total: int | None = None
) -> Iterator[SeenPicture]:
    """Finds the words of pictures, a batch at a time.

    Args:
        finder: The V2L model.
        pictures: Pictures; taken as they are needed.
        num_words: k; None for the model's own number.
        total: How many pictures there are, for the progress bar.

    Raises:
        UserError: If more words are asked for than the codebook has distinct ones.
    """
    digests: deque[str] = deque()

    def noted() -> Iterator[Image.Image]:
        for picture in pictures:
            digests.append(picture_digest(picture))
            yield picture

    for found in finder.find(noted(), num_words, total=total):
        yield SeenPicture(tuple(found.words), found.image_embeds, digests.popleft())


@dataclass(frozen=True)
class ChosenExample:
    """A row of the pool with its picture's words."""

    row: PictureRow
    seen: SeenPicture


class ExamplePool:
    """Solved pictures from which the examples of every prompt are chosen.

    Choices:

    - "random": one draw for all pictures in question, so that their prompts share a beginning, which is computed once.
      Where one of them is itself among the drawn, it is left out and the next drawn one is put behind the others.
    - "nearest": for each picture in question those with the highest cosine to it in the joint space, the nearest last,
      where language models heed it most. Looks at every picture of the pool once.

    Words are found when they are first needed and kept. At most one row of each picture is chosen.

    Args:
        rows: The pool.
        finder: The V2L model.
        num_words: k, words a picture; None for the model's own number.
        num_examples: How many are chosen; None for all of them, in the order given ("random") or by nearness.
        choose: One of `CHOICES`.
        seed: Of the draw.
        skip_bad: Whether pictures that cannot be read are left out, with a line each in `rows.problems`.

    Raises:
        UserError: If a value is not allowed.
    """

    def __init__(
        self,
        rows: PictureRows,
        finder: WordFinder,
        num_words: int | None = PAPER_WORDS,
        num_examples: int | None = PAPER_EXAMPLES,
        choose: str = "random",
        seed: int = 0,
        skip_bad: bool = False,
    ):
        if choose not in CHOICES:
            raise UserError(f"There is no way {choose!r} to choose examples: use {' or '.join(CHOICES)}.")
        if num_examples is not None and num_examples < 1:
            raise UserError(f"num_examples must be at least 1, got {num_examples}: a task needs an example.")
        self.name, self.finder, self.num_words = rows.name, finder, num_words
        self.num_examples, self.choose, self.skip_bad = num_examples, choose, skip_bad
        self.problems = rows.problems
        self._waiting = list(rows.rows)
        if num_examples is not None and choose == "random":
            Random(seed).shuffle(self._waiting)
        self._known: list[ChosenExample] = []
        self._digests: set[str] = set()
        self._embeds: torch.Tensor | None = None

    def examples_for(self, query: SeenPicture, exclude: Iterable[str] = ()) -> list[ChosenExample]:
        """Chooses the examples of one picture in question.

        Args:
            query: The picture; never among its own examples.
            exclude: Digests of further pictures that must not be shown.

        Returns:
            The examples, in the order in which they are shown.

        Raises:
            UserError: If the pool has too few other pictures, or one of them cannot be read.
        """
        excluded = {query.digest, *exclude}
        if self.choose == "nearest":
            return self._nearest(query, excluded)
        wanted = len(self._known) + len(self._waiting) if self.num_examples is None else self.num_examples
        self._look_at(wanted)
        while True:
            usable = [example for example in self._known if example.seen.digest not in excluded]
            if len(usable) >= wanted or not self._waiting:
                return self._enough(usable[:wanted])
            self._look_at(len(self._known) + wanted - len(usable))

    def nearest(self, query: SeenPicture) -> ChosenExample:
        """The other picture of the pool with the highest cosine; looks at every picture of the pool once.

        Raises:
            UserError: As `examples_for`.
        """
        return self._ranked(query, {query.digest})[0]

    def _nearest(self, query: SeenPicture, excluded: set[str]) -> list[ChosenExample]:
        return self._enough(self._ranked(query, excluded)[: self.num_examples])[::-1]

    def _ranked(self, query: SeenPicture, excluded: set[str]) -> list[ChosenExample]:
        """All other pictures, the highest cosine first; the first in the pool of several as high."""
        self._look_at(len(self._known) + len(self._waiting))
        if self._embeds is None or len(self._embeds) != len(self._known):
            self._embeds = torch.nn.functional.normalize(
                torch.stack([example.seen.image_embeds.float() for example in self._known]), dim=-1
            )
        cosines = self._embeds @ torch.nn.functional.normalize(query.image_embeds.float(), dim=-1)
        order = cosines.argsort(descending=True, stable=True).tolist()
        ranked = [self._known[index] for index in order if self._known[index].seen.digest not in excluded]
        if not ranked:
            self._enough([])
        return ranked

    def _enough(self, chosen: list[ChosenExample]) -> list[ChosenExample]:
        if len(chosen) < (self.num_examples or 1):
            raise UserError(
                f"Only {len(chosen)} pictures of {self.name} can be examples here, {self.num_examples or 1} are asked "
                "for (a picture is not its own example, nor shown twice): give more, or ask for fewer."
            )
        return chosen

    def _look_at(self, count: int) -> None:
        """Finds the words of waiting rows until so many rows are known or none waits."""
        while len(self._known) < count and self._waiting:
            rows = self._waiting[: count - len(self._known)]
            readable: list[PictureRow] = []

            def pictures(rows=rows, readable=readable) -> Iterator[Image.Image]:
                for row, picture in self._opened(rows):
                    readable.append(row)
                    yield picture

            found = list(see(self.finder, pictures(), self.num_words, len(rows)))
            # All at once and last: an interrupted search leaves the pool as it was.
            for example in map(ChosenExample, readable, found):
                if example.seen.digest not in self._digests or self.num_examples is None:
                    self._known.append(example)
                    self._digests.add(example.seen.digest)
            del self._waiting[: len(rows)]

    def _opened(self, rows: Iterable[PictureRow]) -> Iterator[tuple[PictureRow, Image.Image]]:
        """The rows with their pictures; those that cannot be read are named, or end it."""
        for row in rows:
            try:
                yield row, row.open()
            except UserError as error:
                if not self.skip_bad:
                    raise
                self.problems.append(str(error))
