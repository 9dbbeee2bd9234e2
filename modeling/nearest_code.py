"""The nearest entry of a codebook: exact, in little memory.

A plain search writes out all distances, which for 8 images of 256 tokens and 256,000 entries takes 2 GB. Here the
distances of one tile after another are bounded by a matrix product in float32; whatever may be the nearest within
the product's rounding error is measured by its differences, so that the answer is that of
`(latent - code).square().sum(-1).argmin()` over all entries, the first of equals included. Level 0.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch

# Sizes in float32 values. Together with the copies below they keep the working memory under 64 MiB.
ROW_VALUES = 4 << 20  # latents of one pass
TILE_VALUES = 1 << 20  # scores of one tile
PAIR_VALUES = 1 << 20  # differences of one step


def nearest_codes(
    latents: torch.Tensor,
    codebook: torch.Tensor,
    project: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """Finds the nearest entry of each latent by Euclidean distance.

    Args:
        latents: [N, D] of any float type and any strides; taken as float32.
        codebook: [K, E] float32.
        project: Maps entries [n, E] to [n, D]; None where E = D. Applied to a tile at a time.

    Returns:
        [N] int64 in [0, K), the lowest index among equally near entries.

    Raises:
        ValueError: If a latent is not finite: nothing is nearest to it.
    """
    width = latents.shape[1]
    rows = max(1, ROW_VALUES // width)
    with torch.no_grad(), torch.autocast(latents.device.type, enabled=False):
        parts = [_search(part.float().contiguous(), codebook, project) for part in latents.detach().split(rows)]
    return torch.cat(parts) if parts else latents.new_empty(0, dtype=torch.long)


def _search(
    latents: torch.Tensor, codebook: torch.Tensor, project: Callable[[torch.Tensor], torch.Tensor] | None
) -> torch.Tensor:
    """`nearest_codes` of latents [n, D] float32 that fit the memory."""
    count, width = latents.shape
    norms = latents.norm(dim=1)
    if not torch.isfinite(norms).all():
        raise ValueError(
            "The latents are not finite, so no code is nearest to them: the encoder's weights or the images hold "
            "NaN or infinite values."
        )
    best_score = torch.full_like(norms, -torch.inf)
    best_distance = torch.full_like(norms, torch.inf)
    best_code = torch.zeros(count, dtype=torch.long, device=latents.device)
    largest = norms.new_zeros(())
    roundoff = 2 * (width + 4) * _unit_roundoff(latents.device)
    for start, codes in _tiles(codebook, project, max(1, TILE_VALUES // count)):
        half_squares = codes.square().sum(1).mul_(0.5)
        largest = torch.maximum(largest, half_squares.max())
        # the larger the score, the nearer: |x - c|^2 = |x|^2 - 2 score
        scores = torch.addmm(half_squares, latents, codes.T, beta=-1)
        tile_best = scores.amax(dim=1)
        best_score = torch.maximum(best_score, tile_best)
        # what rounding may have cost, in the product and in the differences that settle the matter
        lowest = best_score - roundoff * (norms + (2 * largest).sqrt()).square()
        places = (tile_best >= lowest).nonzero().squeeze(1)
        if len(places):
            pairs = (scores[places] >= lowest[places, None]).nonzero()
            _settle(latents, codes, start, places[pairs[:, 0]], pairs[:, 1], best_distance, best_code)
    return best_code


def _tiles(
    codebook: torch.Tensor, project: Callable[[torch.Tensor], torch.Tensor] | None, size: int
) -> Iterator[tuple[int, torch.Tensor]]:
    """(first index, entries [n, D] float32) of the codebook in order."""
    size = min(size, max(1, ROW_VALUES // codebook.shape[1] // 2))
    for start in range(0, len(codebook), size):
        tile = codebook[start : start + size].float()
        yield start, tile if project is None else project(tile)


def _settle(
    latents: torch.Tensor,
    codes: torch.Tensor,
    start: int,
    rows: torch.Tensor,
    columns: torch.Tensor,
    best_distance: torch.Tensor,
    best_code: torch.Tensor,
) -> None:
    """Measures pairs of latents and codes by their differences and notes, in place, what is nearer than before."""
    step = max(1, PAIR_VALUES // latents.shape[1])
    for row, column in zip(rows.split(step), columns.split(step), strict=True):
        distance = (latents[row] - codes[column]).square().sum(-1)
        nearest = best_distance.scatter_reduce(0, row, distance, "amin")
        # entries come in order, so an equal distance of a later one changes nothing
        hit = (distance == nearest[row]) & (distance < best_distance[row])
        row, column = row[hit], column[hit]
        first = torch.full_like(best_code, start + len(codes)).scatter_reduce(0, row, column + start, "amin")
        best_code[row] = first[row]
        best_distance.copy_(nearest)


def _unit_roundoff(device: torch.device) -> float:
    """Relative error of one multiplication in a float32 matrix product, which may be computed in TF32 or bfloat16."""
    backends: Any = torch.backends  # some attributes are made when it is imported
    precision = (backends.cuda if device.type == "cuda" else backends.mkldnn).matmul.fp32_precision
    if precision == "none":  # not set for this backend
        precision = backends.fp32_precision
    return {"tf32": 2.0**-11, "bf16": 2.0**-8}.get(precision, 2.0**-24)
