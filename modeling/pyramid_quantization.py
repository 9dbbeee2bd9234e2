"""SPAE's quantizer: latents become layers of entries of a frozen codebook, coarse to fine, whose mean they are.

Source: Yu et al. 2023 (https://arxiv.org/abs/2306.17842), section 3, "streaming average quantization"; no code was
published. The positions of a layer and the remainder that it quantizes are the paper's, as this project knows them;
what stands at positions that no layer covers yet is this project's choice. Level 2.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from .vector_quantization import (
    GIVEN,
    VectorQuantizer,
    VectorQuantizerOutput,
    _pass_straight,
    _rotate,
    codebook_statistics,
)


@dataclass
class PyramidQuantizerOutput(VectorQuantizerOutput):
    """What a `PyramidQuantizer` makes of B maps of S x S latents.

    `quantized` is the last of `prefixes`. `tokens` are [B, 1, T], layer by layer and row by row within a layer, or
    [B, S, S] for a single layer. `codebook_loss` is 0, since the codebook is frozen.

    Args:
        prefixes: [B, D, S, S] in the latents' dtype for each layer, the mean of the entries up to it; each carries the
            gradient for the encoder.
        layer_latents: [B, D, s, s] float32 for each layer of s x s tokens, what it quantized: the latents at its
            positions and what the layers before left of them; with the latents' gradient.
    """

    prefixes: tuple[torch.Tensor, ...] = GIVEN
    layer_latents: tuple[torch.Tensor, ...] = GIVEN


class PyramidQuantizer(VectorQuantizer):
    """A frozen codebook of K entries of width D that latents are written with in layers.

    A layer of s x s tokens stands on every (S / s)-th row and column. With n(p) layers before it at position p, whose
    entries are e_1 ... e_n, it quantizes z + sum (z - e_i), the latent and what is left of it; a position's code is
    the mean of its entries. At positions that no layer covers yet the code of the nearest covered position stands,
    the first row by row of equally near ones, so that a prefix of one token is a whole map too.

    Args:
        codebook_size: K.
        embedding_dim: D.
        layer_sizes: Sizes s of the layers, coarse to fine; the last is S, and each divides S by a power of two. A
            single layer is a `VectorQuantizer` and takes maps of any size.
        latent_dim: Width of the latents; D.
        gradient: As of `VectorQuantizer`.

    Raises:
        ValueError: If the widths differ, or `gradient` is unknown.
    """

    def __init__(
        self,
        codebook_size: int,
        embedding_dim: int,
        layer_sizes: Sequence[int],
        latent_dim: int | None = None,
        gradient: str = "straight-through",
    ):
        super().__init__(codebook_size, embedding_dim, latent_dim, trainable=False, gradient=gradient)
        self.layer_sizes = tuple(layer_sizes)
        self.side = self.layer_sizes[-1]
        squares = [size**2 for size in self.layer_sizes]
        self.token_counts = tuple(sum(squares[: layer + 1]) for layer in range(len(squares)))
        # plain numbers: a buffer that is not saved would be left empty where weights are loaded
        self._nearest_covered = nearest_covered(self.layer_sizes)

    @property
    def is_pyramid(self) -> bool:
        """Whether there is more than one layer."""
        return len(self.layer_sizes) > 1

    def forward(self, latents: torch.Tensor) -> PyramidQuantizerOutput:
        """Replaces latents by the means of their entries, in float32 also under autocast.

        The commitment loss is the mean over the layers of the mean squared distance between the latents and the codes
        up to that layer, at the positions that are covered by then.

        Args:
            latents: [B, D, S, S], any float dtype; [B, D, h, w] for a single layer.

        Raises:
            ValueError: If a latent is not finite, or the map is not the pyramid's.
        """
        tokens, prefixes, layer_latents, commitments = [], [], [], []
        with torch.autocast(latents.device.type, enabled=False):
            exact = latents.float()
            for layer, (wanted, chosen, total, count) in enumerate(self._layers(exact)):
                codes, is_covered = self._mean(total, count, layer), (count > 0).float()
                squares = (exact - codes).square() * is_covered
                commitments.append(squares.mean() / is_covered.mean())
                if torch.is_grad_enabled():
                    codes = (_rotate if self.gradient == "rotation" else _pass_straight)(exact, codes)
                tokens.append(chosen)
                prefixes.append(codes.to(latents.dtype))
                layer_latents.append(wanted)
            commitment_loss = torch.stack(commitments).mean()
        joined = _join(tokens)
        usage, perplexity = codebook_statistics(joined, self.codebook.shape[0])
        return PyramidQuantizerOutput(
            quantized=prefixes[-1],
            tokens=joined,
            codebook_loss=exact.new_zeros(()),
            commitment_loss=commitment_loss,
            codebook_usage=usage,
            codebook_perplexity=perplexity,
            prefixes=tuple(prefixes),
            layer_latents=tuple(layer_latents),
        )

    @torch.no_grad()
    def assign(self, latents: torch.Tensor) -> torch.Tensor:
        """Tokens [B, 1, T] int64 of latents [B, D, S, S]; [B, h, w] of [B, D, h, w] for a single layer.

        Raises:
            ValueError: As `forward`.
        """
        with torch.autocast(latents.device.type, enabled=False):
            return _join([tokens for _, tokens, _, _ in self._layers(latents.float())])

    def lookup(self, tokens: torch.Tensor) -> torch.Tensor:
        """Codes [B, D, S, S] float32 of tokens [B, 1, T'] int64: the mean of the entries of the layers there are.

        Args:
            tokens: The first T' tokens of images, T' one of `token_counts`; for a single layer also maps [B, h, w],
                which give [B, D, h, w].

        Raises:
            ValueError: If T' is another number, or a token is outside [0, K).
        """
        if not self.is_pyramid:
            is_row = tokens.shape[1:] == (1, self.token_counts[0])
            return super().lookup(tokens.view(-1, self.side, self.side) if is_row else tokens)
        if tokens.ndim != 3 or tokens.shape[1] != 1 or tokens.shape[2] not in self.token_counts:
            raise ValueError(
                f"Cannot decode tokens of shape {tuple(tokens.shape)}: an image has as many as one of its first layers "
                f"end with, as (batch, 1, number): give {_one_of(self.token_counts)} of them."
            )
        layers = self.token_counts.index(tokens.shape[2]) + 1
        sizes = self.layer_sizes[:layers]
        entries = super().lookup(tokens).split([size**2 for size in sizes], dim=3)
        batch, width = entries[0].shape[:2]
        total = entries[0].new_zeros(batch, width, self.side, self.side)
        count = total.new_zeros(self.side, self.side)
        for size, found in zip(sizes, entries, strict=True):
            self._add(total, count, size, found.reshape(batch, width, size, size))
        return self._mean(total, count, layers - 1)

    def _layers(self, latents: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]:
        """For each layer, what it quantizes [B, D, s, s], its tokens [B, s, s], and sum and number of entries so far.

        Sum [B, D, h, w] and number [h, w] are written on in place, so they are to be used before the next layer.
        """
        if self.is_pyramid and latents.shape[2:] != (self.side, self.side):
            raise ValueError(
                f"The latents are a map of {latents.shape[2]} x {latents.shape[3]}, but the layers of tokens are of a "
                f"grid of {self.side} x {self.side}: give images of the size in the model's configuration."
            )
        total = torch.zeros_like(latents, requires_grad=False)
        count = latents.new_zeros(latents.shape[2:])
        for size in self.layer_sizes:
            at = self._at(size)
            wanted = latents[at] * (1 + count[at]) - total[at]
            tokens = super().assign(wanted.detach())
            self._add(total, count, size, super().lookup(tokens))
            yield wanted, tokens, total, count

    def _at(self, size: int) -> tuple:
        """What picks a layer's positions out of the last two dimensions."""
        places = layer_places(size, self.side)
        return ..., places, places

    def _add(self, total: torch.Tensor, count: torch.Tensor, size: int, entries: torch.Tensor) -> None:
        at = self._at(size)
        total[at] += entries
        count[at] += 1

    def _mean(self, total: torch.Tensor, count: torch.Tensor, layer: int) -> torch.Tensor:
        """Codes [B, D, h, w] of the sum and the number of the entries up to a layer."""
        codes = total / count.clamp_min(1)
        nearest = self._nearest_covered[layer]
        if nearest is None:
            return codes
        return codes.flatten(2)[..., torch.tensor(nearest, device=codes.device)].view_as(codes)


def layer_places(size: int, side: int) -> slice:
    """Which rows, and columns, of a grid of S a layer of s x s tokens stands on.

    Counted from 1 these are h * S / s - ceil(S / (2 * s)) + 1 for h = 1 ... s (SPAE, section 3, with S = 2 ** D' and
    s = 2 ** l); counted from 0, S / s being a power of two, every (S / s)-th from the (S / s) // 2-th on.
    """
    step = side // size
    return slice(step // 2, None, step)


def nearest_covered(layer_sizes: Sequence[int]) -> list[list[int] | None]:
    """For each layer, the covered position nearest to each of the S * S positions, row by row; None if all are covered.

    Covered is what this layer or one before stands on. Distances are Euclidean, of equals the first counts.
    """
    side, covered, found = layer_sizes[-1], set(), []
    for size in layer_sizes:
        places = range(side)[layer_places(size, side)]
        covered |= {(row, column) for row in places for column in places}
        if len(covered) == side**2:
            found.append(None)
            continue
        ordered = sorted(covered)
        nearest = []
        for row in range(side):
            for column in range(side):
                squares = [(row - other[0]) ** 2 + (column - other[1]) ** 2 for other in ordered]
                nearest_row, nearest_column = ordered[squares.index(min(squares))]
                nearest.append(nearest_row * side + nearest_column)
        found.append(nearest)
    return found


def _join(tokens: list[torch.Tensor]) -> torch.Tensor:
    """Tokens [B, 1, T] of layers [B, s, s]; a single layer as it is."""
    if len(tokens) == 1:
        return tokens[0]
    return torch.cat([layer.flatten(1) for layer in tokens], dim=1)[:, None]


def _one_of(numbers: Sequence[int]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} or {numbers[-1]}"


__all__ = ["PyramidQuantizer", "PyramidQuantizerOutput"]
