"""What stands in the image before at the place that comes next, seen with its surroundings. Level 1.

The answer's token at a place mostly depends on what the query shows there and around it. A language model of thousands
of millions of parameters finds that by attention; a small one is given it: when a place of an image is to be predicted,
the image before is known as a whole, so nothing of the future is seen. The same holds for what the pairs say: where an
earlier image looked like the one before, the answer likely looks like what followed it there. Beyond the papers.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

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


class Followers(nn.Module):
    """x + what followed earlier images of the sentence, where these looked like x: attention over images at one place.

    A place may also attend to nothing, which is all that it can do in a sentence's first image.

    Args:
        width: C, channels of the maps.
        heads: Attention heads.
    """

    def __init__(self, width: int, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(1, width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.projection = nn.Linear(width, width)
        self.nothing = nn.Parameter(torch.zeros(heads))

    def forward(self, maps: torch.Tensor, wanted: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        """Maps of the images that are wanted.

        Args:
            maps: [E, C, h, w] of all images.
            wanted: [N], numbers of images.
            before: [N, M], numbers of the images before each in its sentence, the nearest first; -1 for none.

        Returns:
            [N, C, h, w].
        """
        states = self.norm(maps).flatten(2).transpose(1, 2)  # [E, T, C]
        queries, keys, values = (
            layer(states).unflatten(2, (self.heads, -1)) for layer in (self.query, self.key, self.value)
        )
        followers = torch.cat([wanted[:, None], before], dim=1)[:, :-1]
        missing = before < 0
        scores = torch.einsum(
            "nthd,nmthd->nthm", queries[wanted] * queries.shape[-1] ** -0.5, keys[before.clamp(min=0)]
        )
        scores = scores.masked_fill(missing[:, None, None], -torch.inf)
        nothing = self.nothing.to(scores.dtype).expand(*scores.shape[:2], -1)[..., None]
        weights = torch.cat([nothing, scores], dim=-1).float().softmax(-1)[..., 1:].to(values.dtype)
        found = torch.einsum("nthm,nmthd->nthd", weights, values[followers.clamp(min=0)])
        found = self.projection(found.flatten(2)).transpose(1, 2).unflatten(2, maps.shape[2:])
        return maps[wanted] + found


class NeighbourhoodReader(nn.Module):
    """Embeddings of an image's tokens, each with what lies around it and, if wanted, what followed such places earlier.

    Args:
        hidden_size: H.
        grid_size: (h, w) of an image's tokens.
        codebook_size: K.
        codebook_dim: D, width of the image tokenizer's codes, which tell near tokens from far ones.
        width: C of the maps.
        layers: Residual convolutions; n of them see n places in all directions.
        followers: Whether `Followers` stands between two halves of them.
    """

    def __init__(
        self,
        hidden_size: int,
        grid_size: Sequence[int],
        codebook_size: int,
        codebook_dim: int,
        width: int,
        layers: int,
        followers: bool = False,
    ):
        super().__init__()
        self.grid_size = tuple(grid_size)
        self.register_buffer("codes", torch.zeros(codebook_size, codebook_dim))
        self.code_projection = nn.Linear(codebook_dim, width)
        self.embedding = nn.Embedding(codebook_size, width)
        self.blocks = nn.ModuleList(ResidualConvolution(width) for _ in range(layers))
        self.followers = Followers(width) if followers else None
        self.norm = nn.GroupNorm(1, width)
        self.projection = nn.Conv2d(width, hidden_size, 1)

    def forward(
        self,
        image_tokens: torch.Tensor,
        wanted: torch.Tensor | None = None,
        before: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Embeddings [N, T, H] of whole images' tokens.

        Args:
            image_tokens: [E, T] in [0, K).
            wanted: [N], numbers of the images whose embeddings are wanted; all by default.
            before: [N, M], as for `Followers`; read with `followers` only.
        """
        if wanted is None:
            wanted = torch.arange(len(image_tokens), device=image_tokens.device)
        # rows that go on with one beginning, or with draws behind one query, show the same images
        different, number = image_tokens.unique(dim=0, return_inverse=True)
        found = self.embedding(different)
        found = found + self.code_projection(self.codes[different].to(self.code_projection.weight.dtype))
        maps = found.transpose(1, 2).unflatten(2, self.grid_size).contiguous(memory_format=torch.channels_last)
        if self.followers is None:
            return self._finish(maps, self.blocks)[number[wanted]]
        half = len(self.blocks) // 2
        for block in self.blocks[:half]:
            maps = block(maps)
        if before is None:
            before = wanted.new_zeros(len(wanted), 0)
        before = torch.where(before < 0, before, number[before.clamp(min=0)])
        return self._finish(self.followers(maps, number[wanted], before), self.blocks[half:])

    def _finish(self, maps: torch.Tensor, blocks: Iterable[nn.Module]) -> torch.Tensor:
        """[N, T, H] of maps [N, C, h, w]."""
        for block in blocks:
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
        ids: torch.Tensor,
        mask: torch.Tensor | None,
        position_ids: torch.Tensor,
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

    def windows(self, earlier: bool = False) -> "Windows":
        """The images that are wanted, each once.

        Args:
            earlier: Whether the images before them in their sentences are wanted, too.
        """
        rows, whole = self.ids.shape
        keys = torch.arange(rows, device=self.ids.device)[:, None] * whole + self.first.clamp(min=0)
        wanted, numbers = keys.unique(return_inverse=True)
        every, before = wanted, wanted.new_zeros(len(wanted), 0)
        if earlier:
            counts = (self.next // self.size - 1) * self.there
            counts = torch.zeros_like(wanted).scatter_reduce_(0, numbers.flatten(), counts.flatten(), "amax")
            steps = torch.arange(1, int(counts.max()) + 1, device=wanted.device)
            before = (wanted[:, None] - self.size * steps).masked_fill(steps > counts[:, None], -1)
            every = torch.cat([wanted, before[before >= 0]]).unique()
            before = torch.where(before < 0, before, torch.searchsorted(every, before.clamp(min=0)))
        row, first = every // whole, every % whole
        columns = (first[:, None] + torch.arange(self.size, device=self.ids.device)).clamp(max=whole - 1)
        if self.columns_by_place is not None:
            columns = self.columns_by_place[row[:, None], columns]
        ids = self.ids[row[:, None], columns]
        tokens = (ids - self.converter.offset).clamp(0, self.converter.codebook_size - 1)
        return Windows(tokens, torch.searchsorted(every, wanted), before, numbers)


class Windows(NamedTuple):
    """Images of a batch of sentences.

    Args:
        tokens: [E, T] in [0, K), each image once.
        wanted: [N], the numbers of those that stand before a token to come.
        before: [N, M], the numbers of those before them in their sentences, the nearest first; -1 where there is none.
        numbers: [B, L], for each of the last L columns which of the N stands before it.
    """

    tokens: torch.Tensor
    wanted: torch.Tensor
    before: torch.Tensor
    numbers: torch.Tensor

    def show_the_same(self, other: "Windows | None") -> bool:
        """Whether two are made of the same images."""
        return other is not None and all(torch.equal(one, two) for one, two in zip(self[:3], other[:3], strict=True))


__all__ = ["AlignedImages", "NeighbourhoodReader"]
