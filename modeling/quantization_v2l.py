"""The global quantizer of the V2L model: an embedding becomes its k nearest words.

Source: V2L Tokenizer, section 3.2 "Quantizers" (https://arxiv.org/abs/2403.07874). Distances are Euclidean and
computed in float32 whatever the model's dtype, since half precision would reorder near neighbours. Level 1.
"""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init


class GlobalQuantizer(nn.Module):
    """A frozen codebook in the joint image-text space.

    Args:
        num_words: N, entries of the codebook.
        embedding_dim: D, width of the joint space.

    Buffers:
        codebook: [N, D] float32, the entries' text embeddings (centred already where `image_center` is not zero).
        image_center: [D] float32, subtracted from an image's embedding before the look-up; zero for no centring.
        groups: [N] int64, entries of one group are copies of each other, of which an image gets at most one.
    """

    def __init__(self, num_words: int, embedding_dim: int):
        super().__init__()
        self.register_buffer("codebook", torch.zeros(num_words, embedding_dim))
        self.register_buffer("image_center", torch.zeros(embedding_dim))
        self.register_buffer("groups", torch.arange(num_words))

    def reset_parameters(self) -> None:
        """Fills the buffers of a model that no codebook was loaded into, through transformers' guarded setters."""
        init.normal_(self.codebook)
        init.zeros_(self.image_center)
        init.copy_(self.groups, torch.arange(self.groups.numel()))

    def center(self, image_embeds: torch.Tensor) -> torch.Tensor:
        """Brings image embeddings [B, D] into the codebook's frame: centred, float32, L2-normalised."""
        return F.normalize(image_embeds.float() - self.image_center.float(), dim=-1)

    def distances(self, image_embeds: torch.Tensor) -> torch.Tensor:
        """Euclidean distances [B, N] float32 of image embeddings [B, D] to all entries."""
        query, codebook = self.center(image_embeds), self.codebook.float()
        squared = query.square().sum(1, keepdim=True) + codebook.square().sum(1) - 2 * query @ codebook.T
        return squared.clamp_min(0).sqrt()

    def forward(self, image_embeds: torch.Tensor, num_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Finds the nearest entries, at most one of each group, nearest first.

        Args:
            image_embeds: [B, D] L2-normalised embeddings, any float dtype.
            num_tokens: k.

        Returns:
            Tokens [B, k] int64 in [0, N) and their distances [B, k] float32.

        Raises:
            ValueError: If the codebook has fewer than k groups.
        """
        sizes = torch.bincount(self.groups)
        available = int((sizes > 0).sum())
        if not 1 <= num_tokens <= available:
            raise ValueError(
                f"{num_tokens} global tokens were asked for, but the codebook offers 1 to {available} distinct words."
            )
        # enough candidates that k groups are among them even if every group stands there with all its members
        candidates = min(num_tokens * int(sizes.max()), self.groups.numel())
        values, indices = self.distances(image_embeds).topk(candidates, dim=-1, largest=False)
        if candidates > num_tokens:
            keep = self._first_of_group(indices, num_tokens)
            values, indices = values.gather(1, keep), indices.gather(1, keep)
        return indices, values

    def _first_of_group(self, indices: torch.Tensor, num_tokens: int) -> torch.Tensor:
        """Positions [B, k] of the first k candidates [B, C] that no earlier candidate shares a group with."""
        groups = self.groups[indices]
        same = groups.unsqueeze(2) == groups.unsqueeze(1)
        repeated = same.tril(diagonal=-1).any(dim=2)
        return repeated.int().argsort(dim=1, stable=True)[:, :num_tokens]


__all__ = ["GlobalQuantizer"]
