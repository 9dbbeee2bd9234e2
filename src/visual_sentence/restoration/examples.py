"""What a language model is shown before it is asked: pairs from other pictures, or noisy copies of the answer.

Knows maps of token ids.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch

from ..errors import UserError
from .copies import NoisyCopy
from .prompts import Pair, PromptWriter
from .tasks import HOLE_TASKS, Step, hole_of, steps_of


class Examples(ABC):
    """The examples that stand before a query."""

    shared: tuple[Pair, ...] = ()

    @abstractmethod
    def of(self, image: int, read: range, step: Step) -> Sequence[Pair]:
        """Those that only this query of the image at this place of the batch has, behind the shared ones."""


class SharedExamples(Examples):
    """The same examples for every query: mode "leak-free".

    Args:
        pairs: The examples, made of other pictures.
    """

    def __init__(self, pairs: Sequence[Pair]):
        self.shared = tuple(pairs)

    def of(self, image: int, read: range, step: Step) -> Sequence[Pair]:
        return ()


class NoisyCopyExamples(Examples):
    """Each query's own examples, from noisy copies of the ground truth at the query's positions: mode "paper".

    Args:
        copies: For each image of the batch its copies.
        task: For inpainting and outpainting what is read comes from the clean map too.
    """

    def __init__(self, copies: Sequence[Sequence[NoisyCopy]], task: str):
        self.copies, self.reads_clean = copies, task in HOLE_TASKS

    def of(self, image: int, read: range, step: Step) -> Sequence[Pair]:
        return [
            Pair(
                tuple((copy.clean if self.reads_clean else copy.degraded)[place] for place in read),
                tuple(copy.clean[place] for place in step),
            )
            for copy in self.copies[image]
        ]


def draw_examples(
    writer: PromptWriter,
    task: str,
    degraded: torch.Tensor,
    clean: torch.Tensor,
    count: int,
    generator: torch.Generator,
) -> SharedExamples:
    """Draws examples from pairs of degraded and clean maps of other pictures.

    Args:
        writer: Says what is read for a step.
        task: One of `TASKS`.
        degraded: [P, h, w] int64, the degraded pictures' maps.
        clean: [P, h, w] int64, the undamaged pictures'.
        count: How many examples; with fewer pictures each serves more than once, with more only so many are used.
        generator: Draws pictures and steps.

    Returns:
        The examples; in a hole what is read before a step is the clean map's, as it would be if all steps before had
        been right.

    Raises:
        UserError: If there is no picture.
    """
    if not len(clean):
        raise UserError(
            "Mode leak-free shows the language model other pictures, degraded and whole, but there is none: give "
            "examples, or choose mode paper, whose examples are made of the answer itself."
        )
    height, width = clean.shape[1:]
    steps = steps_of(task, height, width, writer.step)
    longest = max(map(len, steps))
    steps = [step for step in steps if len(step) == longest]
    sources = torch.where(hole_of(task, height, width), clean, degraded) if task in HOLE_TASKS else degraded
    order = torch.randperm(len(clean), generator=generator).tolist()
    places = torch.randint(len(steps), (count,), generator=generator).tolist()
    pairs = []
    for index in range(count):
        picture, step = order[index % len(order)], steps[places[index]]
        source, target = sources[picture].flatten().tolist(), clean[picture].flatten().tolist()
        read = writer.read_positions(task, step)
        pairs.append(Pair(tuple(source[place] for place in read), tuple(target[place] for place in step)))
    return SharedExamples(pairs)
