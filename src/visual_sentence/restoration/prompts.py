"""Restoration prompts in token ids: fixed pieces are tokenized once, image tokens stand between them as they are.

Knows a tokenizer and positions in a map, no model and no image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from ..errors import UserError
from .tasks import HOLE_TASKS, Step


@dataclass(frozen=True)
class Wording:
    """How a prompt is written: instruction, then opening, input, middle, output, closing for every example.

    Args:
        instruction: With `{m}` for the number of tokens of a step.
        opening: Before an input.
        middle: Between input and output, and at the prompt's end.
        closing: Behind an example's output.
        reads_before: Whether the input of deblurring, rotation and shift has the n tokens before the step too.
        counts_global_tokens: Whether the share of replaced tokens of a noisy copy is taken of the global tokens too.
    """

    instruction: str
    opening: str
    middle: str
    closing: str
    reads_before: bool
    counts_global_tokens: bool


# The paper's figure 4; the published code, eval_denoising_generation.py.
VARIANTS = {
    "paper": Wording(
        instruction="Learn a new language and predict {m} tokens following the examples.",
        opening=" Input:",
        middle=", output:",
        closing=".",
        reads_before=True,
        counts_global_tokens=False,
    ),
    "published-code": Wording(
        instruction="Learning a new language and predict the {m} tokens following the examples.\n",
        opening="###\nInput: < ",
        middle=" >\nOutput: ",
        closing="",
        reads_before=False,
        counts_global_tokens=True,
    ),
}
BEST_VARIANT = "published-code"
CONDITION, STEP = 16, 2


@dataclass(frozen=True)
class Pair:
    """One example.

    Args:
        source: Ids of what is read.
        target: Ids of what is written.
    """

    source: tuple[int, ...]
    target: tuple[int, ...]


class PromptWriter:
    """Writes prompts in the ids of one tokenizer.

    Args:
        tokenizer: The language model's; it begins a text as it always does.
        variant: One of `VARIANTS`.
        condition: n, tokens before the step that are read.
        step: m, tokens of a step.

    Raises:
        UserError: If there is no such variant, or n or m is below 1.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        variant: str = BEST_VARIANT,
        condition: int = CONDITION,
        step: int = STEP,
    ):
        if variant not in VARIANTS:
            raise UserError(f"There is no prompt variant {variant!r}: choose one of {', '.join(VARIANTS)}.")
        for name, value in (("n", condition), ("m", step)):
            if value < 1:
                raise UserError(f"{name} is a number of tokens, found {value}: give 1 or more.")
        self.variant, self.condition, self.step = variant, condition, step
        self.wording = VARIANTS[variant]
        self.instruction = _without_end(tokenizer, tokenizer(self.wording.instruction.format(m=step))["input_ids"])
        pieces = (self.wording.opening, self.wording.middle, self.wording.closing)
        ids = [tokenizer(piece, add_special_tokens=False)["input_ids"] if piece else [] for piece in pieces]
        self.opening, self.middle, self.closing = map(tuple, ids)

    def example(self, pair: Pair) -> tuple[int, ...]:
        """An example's ids."""
        return (*self.opening, *pair.source, *self.middle, *pair.target, *self.closing)

    def shared(self, examples: Sequence[Pair]) -> tuple[int, ...]:
        """The beginning of all prompts with the same examples: instruction, examples, and the query's opening."""
        return (*self.instruction, *(id_ for pair in examples for id_ in self.example(pair)), *self.opening)

    def rest(self, examples: Sequence[Pair], source: Sequence[int]) -> tuple[int, ...]:
        """What stands behind `shared(())` in a prompt of these examples and this query."""
        whole = (*(id_ for pair in examples for id_ in self.example(pair)), *self.opening, *source, *self.middle)
        return whole[len(self.opening) :]

    def read_positions(self, task: str, step: Step) -> range:
        """The raster positions that are read for a step.

        Inpainting and outpainting: the n before it. The others: those of the step itself, with the n before them where
        the variant says so. At the map's beginning there are fewer than n.
        """
        before = range(max(0, step[0] - self.condition), step[0])
        if task in HOLE_TASKS:
            return before
        return range(before.start if self.wording.reads_before else step[0], step[-1] + 1)


def _without_end(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> tuple[int, ...]:
    # Tokenizers that close a text with an end token would end the prompt before it begins.
    return tuple(ids[:-1] if ids and tokenizer.eos_token_id is not None and ids[-1] == tokenizer.eos_token_id else ids)
