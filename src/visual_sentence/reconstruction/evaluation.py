"""How good reconstructions are, over any set of pictures: near to their originals, and made of how many codes.

Measured is what files hold: the reference is the model's view of a picture in 8 bits, the reconstruction is clipped and
rounded to 8 bits. Pictures are taken as they are needed.
"""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image

from ..errors import UserError
from ..features import (
    FrechetStatistics,
    frechet_distance,
    load_frechet_features,
    load_perceptual_distance,
)
from ..features.frozen import MIN_SIZE
from ..image_io import ImageSource
from ..metrics import CodebookCounts, ImageQuality, RunningMean
from ..metrics.image_quality import psnr
from ..progress import progress_bar
from ..words import batched
from .codec import ImageCodec, Reconstruction

NONE = "none"
T = TypeVar("T")


def evaluate_reconstruction(
    codec: ImageCodec,
    source: ImageSource,
    limit: int | None = None,
    batch_size: int = 16,
    perceptual: str = "auto",
    frechet: str = "auto",
) -> dict[str, Any]:
    """Reconstructs pictures and measures the result; docs/reconstruction.md and docs/metrics.md define every number.

    Args:
        codec: What is measured.
        source: Pictures, any number; they are read as they are needed.
        limit: Only the first so many.
        batch_size: Pictures a forward pass.
        perceptual: A kind of `load_perceptual_distance`, or "none".
        frechet: A kind of `load_frechet_features`, or "none".

    Returns:
        `model, data, n, resolution, tokens_per_image, global_tokens_per_image, psnr, psnr_y, ssim, identical,
        mean_color_psnr`, the perceptual and the Fréchet measure under their true names, `codebook_usage,
        codebook_perplexity, codebook_size, seconds_per_image, device, dtype`. PSNRs are in dB, and None where all
        pictures are equal to their reference; the Fréchet measure is None for one picture.

    Raises:
        UserError: If there is no picture, one cannot be read, or a measure is unknown or not at hand.
    """
    measures = _Measures(codec, perceptual, frechet)
    total = source.count if limit is None else min(limit, source.count or limit)
    seconds, sizes = 0.0, (0, 0)
    with progress_bar("measuring reconstructions", total) as bar:
        for batch in batched(islice(source, limit), batch_size):
            start = time.perf_counter()
            found = codec.reconstruct(batch)
            seconds += time.perf_counter() - start
            sizes = (np.size(found[0].image_tokens), len(found[0].global_tokens or ()))
            measures.update(found)
            bar.advance(len(batch))
    if not measures.n:
        raise UserError(f"{source.name} holds no picture, so there is nothing to measure: give other data.")
    return {
        "model": codec.name,
        "data": source.name,
        "n": measures.n,
        "resolution": codec.resolution,
        "tokens_per_image": sizes[0],
        "global_tokens_per_image": sizes[1],
        **measures.compute(),
        "seconds_per_image": seconds / measures.n,
        "device": str(codec.model.device),
        "dtype": str(codec.dtype).removeprefix("torch."),
    }


def share_of_equal_tokens(
    first: ImageCodec, second: ImageCodec, source: ImageSource, limit: int | None = None, batch_size: int = 16
) -> float:
    """Which share in [0, 1] of all places of pictures two models write with the same token.

    Args:
        first: A model.
        second: Another, with maps of the same size.
        source: Pictures.
        limit: Only the first so many.
        batch_size: Pictures a forward pass.

    Raises:
        UserError: If there is no picture, one cannot be read, or the maps differ in size.
    """
    equal = places = 0
    for batch in batched(islice(source, limit), batch_size):
        ours, theirs = (codec.encode(batch).image_tokens for codec in (first, second))
        if ours.shape != theirs.shape:
            raise UserError(
                f"{first.name} writes a picture as {tuple(ours.shape[1:])} tokens, {second.name} as "
                f"{tuple(theirs.shape[1:])}: compare models with maps of one size."
            )
        equal, places = equal + int((ours == theirs).sum()), places + ours.numel()
    if not places:
        raise UserError(f"{source.name} holds no picture, so there is nothing to compare: give other data.")
    return equal / places


class _Measures:
    """Everything that is measured of reconstructions, batch by batch.

    Args:
        codec: What is measured.
        perceptual: As for `evaluate_reconstruction`.
        frechet: As for `evaluate_reconstruction`.
    """

    def __init__(self, codec: ImageCodec, perceptual: str, frechet: str):
        self.device = codec.model.device
        self.quality, self.mean_color = ImageQuality(), RunningMean()
        self.codes = CodebookCounts(codec.codebook_size)
        enlarging = partial(load_perceptual_distance, resolution=MIN_SIZE)  # only what no network could look at
        self.distance = _load(enlarging, "perceptual", perceptual, self.device)
        self.distances = RunningMean()
        self.features = _load(load_frechet_features, "frechet", frechet, self.device)
        if self.features is not None:
            self.statistics = [FrechetStatistics(self.features.dim) for _ in range(2)]
        self.n = 0

    @torch.no_grad()
    def update(self, found: Sequence[Reconstruction]) -> None:
        """Adds one batch."""
        originals = as_batch([item.original for item in found]).to(self.device)
        images = as_batch([item.reconstruction for item in found]).to(self.device)
        self.quality.update(images, originals)
        self.mean_color.update(psnr(mean_colors(originals), originals))
        self.codes.update(np.asarray([item.image_tokens for item in found]))
        symmetric = [pixels.float() / 127.5 - 1 for pixels in (images, originals)]
        if self.distance is not None:
            self.distances.update(self.distance(*symmetric))
        if self.features is not None:
            for statistics, pixels in zip(self.statistics, symmetric, strict=True):
                statistics.update(self.features(pixels))
        self.n += len(found)

    def compute(self) -> dict[str, Any]:
        """The numbers of all batches."""
        quality, codes = self.quality.compute(), self.codes.compute()
        found: dict[str, Any] = {name: quality[name] for name in ("psnr", "psnr_y", "ssim", "identical")}
        found["mean_color_psnr"] = self.mean_color.mean
        if self.distance is not None:
            found[self.distance.name] = self.distances.mean
        if self.features is not None:
            found[self.features.name] = None
            if self.n > 1:
                drawn, original = self.statistics
                found[self.features.name] = frechet_distance(drawn.mean, drawn.cov, original.mean, original.cov)
        found |= {name: codes[name] for name in ("codebook_usage", "codebook_perplexity", "codebook_size")}
        return {name: None if value == math.inf else value for name, value in found.items()}  # JSON has no infinity


def _load(load: Callable[[str, torch.device], T], option: str, kind: str, device: torch.device) -> T | None:
    """The network of a measure, or None where it is not wanted."""
    if kind == NONE:
        return None
    try:
        return load(kind, device)
    except UserError as error:
        raise UserError(f"{error} To do without this measure: --{option} {NONE}.") from error


def as_batch(pictures: Sequence[Image.Image]) -> torch.Tensor:
    """RGB pictures of one size as [B, 3, H, W] uint8."""
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2)


def mean_colors(pixels: torch.Tensor) -> torch.Tensor:
    """Each image painted over in its own mean colour, the nearest that can be had without looking at any detail.

    Args:
        pixels: [B, 3, H, W] uint8.

    Returns:
        The same shape and dtype.
    """
    return pixels.double().mean(dim=(2, 3), keepdim=True).round().to(torch.uint8).expand_as(pixels)
