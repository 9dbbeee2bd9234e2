"""What stands in the image before at the place that comes next, seen with its surroundings. Level 1.

The answer's token at a place mostly depends on what the query shows there and around it. A language model of thousands
of millions of parameters finds that by attention; a small one is given it: when a place of an image is to be predicted,
the image before is known as a whole, so nothing of the future is seen. Beyond the papers.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from .image_token_converter import ImageTokenConverter


class ResidualConvolution(nn.Module):
    """x + conv(gelu(norm(x))) on maps, kernel 3.

    Args:
        width: Channels.
    """

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """[N, C, h, w] -> the same."""
        return maps + self.conv(F.gelu(self.norm(maps)))


class NeighbourhoodReader(nn.Module):
    """Embeddings of an image's tokens, each with what lies around it.

    Args:
        hidden_size: H.
        grid_size: (h, w) of an image's tokens.
        codebook_size: K.
        codebook_dim: D, width of the image tokenizer's codes, which tell near tokens from far ones.
        width: C of the maps.
        layers: Residual convolutions; n of them see n places in all directions.
    """

    def __init__(
        self,
        hidden_size: int,
        grid_size: Sequence[int],
        codebook_size: int,
        codebook_dim: int,
        width: int,
        layers: int,
    ):
        super().__init__()
        self.grid_size = tuple(grid_size)
        self.register_buffer("codes", torch.zeros(codebook_size, codebook_dim))
        self.code_projection = nn.Linear(codebook_dim, width)
        self.embedding = nn.Embedding(codebook_size, width)
        self.blocks = nn.ModuleList(ResidualConvolution(width) for _ in range(layers))
        self.norm = nn.GroupNorm(1, width)
        self.projection = nn.Conv2d(width, hidden_size, 1)

    def forward(self, image_tokens: torch.LongTensor) -> torch.Tensor:
        """[N, T, H] of whole images' tokens [N, T] in [0, K)."""
        found = self.embedding(image_tokens)
        found = found + self.code_projection(self.codes[image_tokens].to(self.code_projection.weight.dtype))
        maps = found.transpose(1, 2).unflatten(2, self.grid_size).contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            maps = block(maps)
        return self.projection(F.gelu(self.norm(maps))).flatten(2).transpose(1, 2)


class AlignedImages:
    """Where in a batch of sentences the image lies that stands before the token to come, and which place is next.

    Args:
        ids: [B, P + L] int64, all ids so far.
        mask: [B, P + L], 0 for padding, or None; a mask of packed rows says nothing here.
        position_ids: [B or 1, L], places of the last L ids in their sentences.
        converter: Knows which ids are image tokens.
        tokens_per_image: T.
    """

    def __init__(
        self,
        ids: torch.LongTensor,
        mask: torch.Tensor | None,
        position_ids: torch.LongTensor,
        converter: ImageTokenConverter,
        tokens_per_image: int,
    ):
        self.ids, self.converter, self.size = ids, converter, tokens_per_image
        rows, whole = ids.shape
        self.next = position_ids.expand(rows, -1) + 1 - int(converter.begin_id is not None)
        columns = torch.arange(whole - position_ids.shape[1], whole, device=ids.device).expand(rows, -1)
        self.columns_by_place = None
        if mask is not None and mask.ndim == 2 and not bool(mask.all()):
            # a row's own tokens without its padding: by their places, not by their columns
            places = (mask.long().cumsum(1) - 1).masked_fill(mask == 0, whole)
            self.columns_by_place = torch.zeros(rows, whole + 1, dtype=torch.long, device=ids.device)
            every = torch.arange(whole, device=ids.device).expand(rows, -1)
            self.columns_by_place.scatter_(1, places, every)
            columns = position_ids.expand(rows, -1)
        self.place = self.next % tokens_per_image
        # of the image before: its first column, or its first place where columns are found by places
        self.first = columns + 1 - self.place - tokens_per_image
        self.there = (self.next >= tokens_per_image) & (self.first >= 0)

    def windows(self) -> tuple[torch.LongTensor, torch.LongTensor]:
        """The images that are wanted, each once.

        Returns:
            Their tokens [N, T], and for each of the last L columns the number of its image [B, L].
        """
        rows, whole = self.ids.shape
        keys = torch.arange(rows, device=self.ids.device)[:, None] * whole + self.first.clamp(min=0)
        wanted, numbers = keys.unique(return_inverse=True)
        row, first = wanted // whole, wanted % whole
        columns = (first[:, None] + torch.arange(self.size, device=self.ids.device)).clamp(max=whole - 1)
        if self.columns_by_place is not None:
            columns = self.columns_by_place[row[:, None], columns]
        ids = self.ids[row[:, None], columns]
        return (ids - self.converter.offset).clamp(0, self.converter.codebook_size - 1), numbers


__all__ = ["AlignedImages", "NeighbourhoodReader"]
