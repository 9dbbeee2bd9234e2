"""How much of a codebook is in use."""

import numpy as np
import torch

from ..errors import UserError


class CodebookCounts:
    """How often each code was chosen: streaming, mergeable.

    Args:
        codebook_size: K.
    """

    def __init__(self, codebook_size: int):
        self.codebook_size = codebook_size
        self.counts = torch.zeros(codebook_size, dtype=torch.int64)

    def update(self, tokens: torch.Tensor | np.ndarray) -> None:
        """Adds tokens.

        Args:
            tokens: Codebook indices of any shape, any integer dtype, in [0, K).

        Raises:
            UserError: If they are no integers, or lie outside of the codebook.
        """
        self.add_counts(*code_counts(tokens))

    def add_counts(self, codes: torch.Tensor, counts: torch.Tensor) -> None:
        """Adds tokens that were counted already.

        Args:
            codes: [N] int64, in [0, K).
            counts: [N] int64, how often each was chosen.

        Raises:
            UserError: If a code lies outside of the codebook.
        """
        if not len(codes):
            return
        low, high = int(codes.min()), int(codes.max())
        if low < 0 or high >= self.codebook_size:
            raise UserError(
                f"Tokens must lie in [0, {self.codebook_size}), found {low} to {high}: give codebook indices, not ids "
                "of a language model, and the size of their own codebook."
            )
        self.counts.index_add_(0, codes, counts)

    def merge(self, other: "CodebookCounts") -> None:
        """Adds what `other` has counted, for example in another process.

        Raises:
            UserError: If its codebook has another size.
        """
        if other.codebook_size != self.codebook_size:
            raise UserError(
                f"Counts of codebooks of {self.codebook_size} and {other.codebook_size} codes cannot be merged: they "
                "are not of one model."
            )
        self.counts += other.counts

    @property
    def usage(self) -> float:
        """Share of the codes that were chosen at least once, in [0, 1]."""
        return int((self.counts > 0).sum()) / self.codebook_size

    @property
    def perplexity(self) -> float:
        """exp of the entropy of the codes' frequencies, in [1, K]: as many equally frequent codes have that entropy.

        Raises:
            UserError: If no tokens were added.
        """
        total = int(self.counts.sum())
        if not total:
            raise UserError("No tokens were added, so there is no perplexity: add some first.")
        shares = self.counts[self.counts > 0].double() / total
        return float(torch.exp(-(shares * shares.log()).sum()))

    def compute(self) -> dict[str, float | int]:
        """`codebook_usage`, `codebook_perplexity`, `codebook_size` and `tokens`, how many were counted."""
        return {
            "codebook_usage": self.usage,
            "codebook_perplexity": self.perplexity,
            "codebook_size": self.codebook_size,
            "tokens": int(self.counts.sum()),
        }


def code_counts(tokens: torch.Tensor | np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """The distinct tokens and how often each occurs.

    Args:
        tokens: Of any shape, any integer dtype.

    Returns:
        Codes [N] and counts [N], int64 on the CPU.

    Raises:
        UserError: If they are no integers.
    """
    tokens = torch.as_tensor(tokens).detach().cpu()
    if tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        raise UserError(f"Tokens must be integers, found {tokens.dtype}: give codebook indices, not latents.")
    codes, counts = torch.unique(tokens.long(), return_counts=True)
    return codes, counts
