"""Which ids a language model may write where local tokens are asked for: local token i is its token id i."""

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from ..errors import UserError


class LocalTokensOnly(LogitsProcessor):
    """Leaves a language model nothing but local tokens to write.

    Args:
        codebook_size: K; the ids from 0 to K - 1 are local tokens.
        excluded_ids: Those among them that must not be written.

    Raises:
        UserError: If none is left.
    """

    def __init__(self, codebook_size: int, excluded_ids: Sequence[int] = ()):
        excluded = set(excluded_ids)
        self.allowed_ids = torch.tensor([index for index in range(codebook_size) if index not in excluded])
        if not len(self.allowed_ids):
            raise UserError(
                f"None of the {codebook_size} entries of the codebook may be written: give the language model that the "
                "codebook was made of."
            )
        self._bias: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Sets the scores (B, V) of all other ids to minus infinity."""
        if self._bias is None or self._bias.shape[-1] != scores.shape[-1] or self._bias.device != scores.device:
            bias = torch.full((scores.shape[-1],), -torch.inf, device=scores.device)
            bias[self.allowed_ids[self.allowed_ids < len(bias)].to(bias.device)] = 0.0
            self._bias = bias
        return scores + self._bias.to(scores.dtype)


def ids_without_meaning(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Special tokens, and ids between others that the tokenizer does not use: nothing that a picture is written with.

    Args:
        tokenizer: The language model's.
    """
    used = set(tokenizer.get_vocab().values())
    added = {token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special}
    unused = set(range(max(used) + 1)) - used
    return sorted(added | set(tokenizer.all_special_ids) | unused)
