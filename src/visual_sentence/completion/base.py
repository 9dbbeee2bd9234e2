"""What every task asks of a frozen language model, wherever it runs.

Texts go in, texts and log-likelihoods come out; token ids stay behind this interface.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch

from ..errors import UserError


class PromptTooLongError(UserError):
    """A prompt that leaves the model no room for its answer.

    Args:
        needed: Positions that the longest prompt takes together with its answer.
        limit: Positions that the model has.
        advice: What to do about it.
    """

    def __init__(self, needed: int, limit: int, advice: str = "show fewer examples, or use a model with a longer one"):
        super().__init__(f"The prompt needs {needed} positions, the model has {limit}: {advice}.")
        self.needed, self.limit = needed, limit


class NoLogLikelihoodsError(UserError):
    """A served model that does not say how likely a given text is."""


class CompletionModel(ABC):
    """A frozen language model that is asked in text.

    Args:
        name: What messages and records call it.
        context_length: Tokens that fit into one prompt with its answer; None where that is unknown.
        dtype: What it computes in, as "float32"; None where that is unknown.
    """

    def __init__(self, name: str, context_length: int | None, dtype: str | None = None):
        self.name, self.context_length, self.dtype = name, context_length, dtype

    @abstractmethod
    def complete(self, prompts: Sequence[str], max_new_tokens: int, stop: str | None = None) -> list[str]:
        """Writes the most likely continuation of each prompt, token by token.

        Args:
            prompts: The texts to go on with.
            max_new_tokens: The most tokens of a continuation, at least 1.
            stop: The text that ends a continuation; it may begin or end inside a token. None where only the
                model's end token does.

        Returns:
            One text per prompt, in their order: cut before `stop`, without special tokens, blanks kept.

        Raises:
            UserError: If `max_new_tokens` or `stop` is not as described.
            PromptTooLongError: If a prompt and its answer are longer than the model's context.
        """

    @abstractmethod
    def log_likelihoods(self, prompts: Sequence[str], answers: Sequence[str]) -> torch.Tensor:
        """Measures how likely each answer is behind each prompt.

        Args:
            prompts: Q texts up to where the answer begins.
            answers: L texts that may follow, leading space included.

        Returns:
            [Q, L] float32 on the CPU: natural log-likelihood of each answer, summed over its tokens.

        Raises:
            PromptTooLongError: If a prompt and an answer are longer than the model's context.
            NoLogLikelihoodsError: If the model is served by an endpoint that gives none.
        """

    def require_log_likelihoods(self) -> None:
        """Refuses early where `log_likelihoods` cannot be had, by asking for one.

        Raises:
            NoLogLikelihoodsError: If the model is served by an endpoint that gives none.
        """
        self.log_likelihoods(["The photo shows:"], [" a dog"])

    @abstractmethod
    def count_tokens(self, text: str) -> int | None:
        """How many positions a text takes as a prompt, special tokens included; None where that is unknown."""

    @abstractmethod
    def another(self) -> "CompletionModel":
        """The same model with a prefix cache of its own, for prompts that begin otherwise."""


def check_request(max_new_tokens: int, stop: str | None) -> None:
    """Refuses what no continuation can be.

    Raises:
        UserError: If `max_new_tokens` is below 1 or `stop` is empty.
    """
    if max_new_tokens < 1:
        raise UserError(f"max_new_tokens must be at least 1, got {max_new_tokens}.")
    if stop == "":
        raise UserError("An empty stop would end every continuation at once: give a text, or None for no stop.")


def up_to(text: str, stop: str | None) -> str:
    """The text before the first `stop`; all of it where there is none."""
    return text if stop is None else text.split(stop)[0]
