"""Overlap of pictures: how two RGB images, or two maps of tokens, become sets that Dice and IoU can compare.

A published "Dice" between images leaves open what is a set of pixels; these are the four readings, each explicit.
Images follow the value contract of `image_quality`: uint8 in [0, 255] or floating point in [0, 1].
"""

from collections.abc import Sequence

import numpy as np
import torch

from ..errors import UserError
from .image_quality import Images, unit_range
from .overlap import Masks, PixelCounts

THRESHOLD = 0.5
# 16 steps of 8 bits: what JPEG and a good image tokenizer leave of flat colours, far less than between two colours.
TOLERANCE = 16 / 255
MAX_CHANNEL = 255
# A float image of 8-bit values may be off by its own rounding; the steps that are compared are 1 / 255 apart.
ROUNDING = 1e-6


def picture_masks(images: Images, threshold: float = THRESHOLD) -> torch.Tensor:
    """Reads pictures of masks: foreground where the mean of R, G and B is above the threshold.

    Args:
        images: [B, 3, H, W], by the value contract.
        threshold: In [0, 1].

    Returns:
        [B, H, W] bool.

    Raises:
        UserError: If shape or range are wrong.
    """
    if not 0 <= threshold <= 1:
        raise UserError(f"A threshold of a mask lies in [0, 1], found {threshold}: 0.5 is half grey.")
    return unit_range(images).mean(dim=1) > threshold


def picture_labels(images: Images, palette: Sequence[Sequence[int]]) -> torch.Tensor:
    """Reads pictures of label maps: the place in the palette of each pixel's nearest colour.

    Nearest by Euclidean distance in RGB; of equally near colours the first.

    Args:
        images: [B, 3, H, W], by the value contract.
        palette: K colours, each R, G, B in [0, 255].

    Returns:
        [B, H, W] int64 in [0, K).

    Raises:
        UserError: If shape or range are wrong, or the palette is none.
    """
    colours = np.asarray(palette)
    wrong = colours.ndim != 2 or colours.shape[1] != 3 or not len(colours)
    if wrong or colours.min() < 0 or colours.max() > MAX_CHANNEL:
        raise UserError(f"A palette is a list of colours [R, G, B] in [0, 255], found {str(palette)[:80]}.")
    pixels = unit_range(images) * MAX_CHANNEL
    if torch.as_tensor(images).dtype == torch.uint8:
        pixels = pixels.round()  # whole numbers again, so that equal distances are equal
    table = pixels.new_tensor(colours.tolist())
    half_norms = table.square().sum(dim=1) / 2
    # the nearest has the largest product with the pixel, less half its own square; image by image to hold few of them
    return torch.stack([(image.permute(1, 2, 0) @ table.T - half_norms).argmax(dim=-1) for image in pixels])


def equal_pixels(images: Images, references: Images, tolerance: float = TOLERANCE) -> list[PixelCounts]:
    """Compares pictures as sets of coloured pixels: equal where no channel differs by more than the tolerance.

    Both sets have H * W members, so their Dice is the share of equal pixels.

    Args:
        images: [B, 3, H, W], by the value contract.
        references: As `images`.
        tolerance: In [0, 1], of channels in [0, 1].

    Returns:
        B counts for `SegmentationOverlap("binary").add_image`.

    Raises:
        UserError: If shapes or ranges are wrong.
    """
    if not 0 <= tolerance <= 1:
        raise UserError(f"A tolerance of pixels lies in [0, 1], found {tolerance}: 16 steps of 8 bits are 16 / 255.")
    images, references = unit_range(images), unit_range(references, "references")
    _check_alike(images, references)
    equal = ((images - references.to(images.device)).abs() <= tolerance + ROUNDING).all(dim=1)
    return [_counts(part) for part in equal]


def equal_tokens(tokens: Masks, references: Masks) -> list[PixelCounts]:
    """Compares maps of image tokens as sets of (place, token): their Dice is the share of equal tokens.

    Args:
        tokens: [B, h, w] or [B, T], any integer dtype.
        references: As `tokens`.

    Returns:
        B counts for `SegmentationOverlap("binary").add_image`.

    Raises:
        UserError: If shapes differ or they are no integers.
    """
    pair = [torch.as_tensor(part).detach().cpu() for part in (tokens, references)]
    for part in pair:
        if part.is_floating_point() or part.is_complex() or part.dtype == torch.bool:
            raise UserError(f"Image tokens are integers, found {part.dtype}: give indices of the codebook.")
    _check_alike(*pair)
    return [_counts(part) for part in pair[0] == pair[1]]


def _check_alike(images: torch.Tensor, references: torch.Tensor) -> None:
    if images.shape != references.shape:
        raise UserError(
            f"Predictions {list(images.shape)} and references {list(references.shape)} differ in shape, so they cannot "
            "be compared place by place: resize one like the other."
        )


def _counts(equal: torch.Tensor) -> PixelCounts:
    """Members in both sets, in the reference alone and in the prediction alone."""
    common = int(equal.sum())
    alone = equal.numel() - common
    return {(1, 1): common, (1, 0): alone, (0, 1): alone}
