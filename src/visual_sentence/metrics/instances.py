"""The aggregated Jaccard index (AJI) of instance maps, such as nuclei of a tissue section."""

import numpy as np
import torch

from ..errors import UserError
from .overlap import Masks, PixelCounts, pixel_counts

BACKGROUND = 0


def instance_map(mask: Masks) -> np.ndarray:
    """Numbers the connected parts of a binary mask; pixels are connected by their edges, not by their corners.

    Touching instances of a mask become one, in prediction and reference alike.

    Args:
        mask: [H, W] bool.

    Returns:
        [H, W] int64, 0 the background.

    Raises:
        UserError: If it is no bool mask, or scipy is not installed.
    """
    mask = torch.as_tensor(mask).detach().cpu().numpy()
    if mask.dtype != bool or mask.ndim != 2:
        raise UserError(f"A binary mask is [H, W] bool, found {list(mask.shape)} {mask.dtype}: give `mask > 127`.")
    try:
        from scipy.ndimage import label
    except ImportError as error:
        raise UserError(
            "Masks are split into instances by scipy, which is not installed: run "
            "`pip install 'visual-sentence[metrics]'`, or give instance maps."
        ) from error
    return label(mask)[0].astype(np.int64)


def instance_counts(prediction: Masks, reference: Masks) -> dict[tuple[int, int], int]:
    """`pixel_counts` of two instance maps; a bool mask is split into its connected parts first.

    Args:
        prediction: [H, W] bool, or integers with an index for each instance and 0 for the background.
        reference: As `prediction`.

    Raises:
        UserError: If shapes differ or the values are no indices.
    """
    pair = [torch.as_tensor(part).detach().cpu() for part in (prediction, reference)]
    return pixel_counts(*(instance_map(part) if part.dtype == torch.bool else part for part in pair))


def aggregated_pixels(counts: PixelCounts) -> tuple[int, int]:
    """The two sums whose ratio is the aggregated Jaccard index (Kumar et al. 2017, algorithm 1).

    Each reference instance is paired with the predicted one of highest IoU (the lowest index among equals), which may
    serve for several; their common pixels and their union are added. Predicted instances that are nobody's partner, and
    reference instances that nothing overlaps, add their pixels to the union.

    Args:
        counts: As `instance_counts` gives them.

    Returns:
        Common pixels and pixels of the unions.
    """
    predicted: dict[int, int] = {}
    references: dict[int, dict[int, int]] = {}
    for (reference, label), pixels in counts.items():
        predicted[label] = predicted.get(label, 0) + pixels
        references.setdefault(reference, {})[label] = pixels
    partners, common, union = {BACKGROUND}, 0, 0
    for reference in sorted(references.keys() - {BACKGROUND}):
        overlaps = references[reference]
        size = sum(overlaps.values())
        shares = {
            label: pixels / (size + predicted[label] - pixels)
            for label, pixels in sorted(overlaps.items())
            if label != BACKGROUND
        }
        if not shares:
            union += size
            continue
        partner = max(shares, key=lambda label: shares[label])
        partners.add(partner)
        common += overlaps[partner]
        union += size + predicted[partner] - overlaps[partner]
    return common, union + sum(pixels for label, pixels in predicted.items() if label not in partners)


class AggregatedJaccard:
    """The aggregated Jaccard index over many images: streaming, mergeable.

    Where an image has no instance in prediction and reference, its index is 1.
    """

    def __init__(self) -> None:
        self.common = 0
        self.union = 0
        self.image_sum = 0.0
        self.n = 0

    def update(self, predictions: Masks, references: Masks) -> None:
        """Adds images.

        Args:
            predictions: [B, H, W] bool masks, or instance maps with 0 for the background.
            references: As `predictions`.

        Raises:
            UserError: If numbers or shapes differ, or the values are no instances.
        """
        if len(predictions) != len(references):
            raise UserError(
                f"Found {len(predictions)} predictions for {len(references)} references: give one for each."
            )
        for pair in [instance_counts(*images) for images in zip(predictions, references, strict=True)]:
            self.add_image(*aggregated_pixels(pair))

    def add_image(self, common: int, union: int) -> None:
        """Adds one image by the sums of `aggregated_pixels`."""
        self.common += common
        self.union += union
        self.image_sum += _ratio(common, union)
        self.n += 1

    def merge(self, other: "AggregatedJaccard") -> None:
        """Adds what `other` has seen, for example in another process."""
        self.common += other.common
        self.union += other.union
        self.image_sum += other.image_sum
        self.n += other.n

    def compute(self) -> dict[str, float | int]:
        """The index.

        Returns:
            `aji`: of the sums over all images; `aji_images`: the mean over images of each image's own; both in [0, 1];
            `n` images.

        Raises:
            UserError: If nothing was added.
        """
        if not self.n:
            raise UserError("No images were added, so there is no aggregated Jaccard index: add some first.")
        return {"aji": _ratio(self.common, self.union), "aji_images": self.image_sum / self.n, "n": self.n}


def _ratio(common: int, union: int) -> float:
    return common / union if union else 1.0
