"""Dice and IoU of binary masks and label maps."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch

from ..errors import UserError

Masks = torch.Tensor | np.ndarray
Task = Literal["binary", "labels"]
# (reference label, predicted label) -> pixels
PixelCounts = Mapping[tuple[int, int], int]
# Pairs of labels that are counted in a table of all of them.
MOST_BINS = 2**16


def pixel_counts(prediction: Masks, reference: Masks) -> dict[tuple[int, int], int]:
    """How many pixels of one image carry each pair of labels.

    Args:
        prediction: [H, W] bool or any integer dtype.
        reference: As `prediction`.

    Returns:
        (reference label, predicted label) -> pixels; pairs that do not occur are left out.

    Raises:
        UserError: If the shapes differ or the values are no labels.
    """
    pair = [torch.as_tensor(part).detach().cpu() for part in (reference, prediction)]
    for part, what in zip(pair, ("reference", "prediction"), strict=True):
        if part.is_floating_point() or part.is_complex():
            raise UserError(
                f"A {what} must be bool or integer labels, found {part.dtype}: threshold or round it first."
            )
    if pair[0].ndim != 2 or pair[0].shape != pair[1].shape:
        raise UserError(
            f"Prediction {list(pair[1].shape)} and reference {list(pair[0].shape)} must be [H, W] and alike: resize "
            "label maps by nearest neighbour."
        )
    flat = torch.stack([part.flatten().long() for part in pair])
    if not flat.numel():
        return {}
    lows = [int(part.min()) for part in flat]
    spans = [int(part.max()) - low + 1 for part, low in zip(flat, lows, strict=True)]
    if spans[0] * spans[1] <= MOST_BINS:  # several times as fast as sorting
        table = torch.bincount((flat[0] - lows[0]) * spans[1] + flat[1] - lows[1])
        places = table.nonzero()[:, 0]
        labels = torch.stack([places // spans[1] + lows[0], places % spans[1] + lows[1]])
        counts = table[places]
    else:
        labels, counts = torch.unique(flat, dim=1, return_counts=True)
    return dict(zip(map(tuple, labels.T.tolist()), counts.tolist(), strict=True))


class SegmentationOverlap:
    """Dice and IoU over many images: streaming, mergeable.

    For a class with P predicted, R reference and I common pixels: Dice = 2 I / (P + R), IoU = I / (P + R - I). With
    several classes the mean over those that occur in prediction or reference; where none of the scored classes occurs
    in either ("empty against empty") both are 1.

    Args:
        task: "binary" scores class 1 of masks of 0 and 1; "labels" scores every class of a label map.
        ignore_index: Reference pixels of this label count nowhere. Predicted elsewhere, it is an error of the class
            that is there, but no class of its own.
        background: A class of label maps that is not scored; predicted wrongly, it still costs the others.
    """

    def __init__(self, task: Task = "binary", ignore_index: int | None = None, background: int | None = None):
        if task not in ("binary", "labels"):
            raise UserError(f"{task!r} is no task: use 'binary' for masks of 0 and 1, 'labels' for label maps.")
        if task == "binary" and background is not None:
            raise UserError("The background of binary masks is 0: leave it out, or use task='labels'.")
        self.task = task
        self.ignore_index = ignore_index
        self.unscored = {0 if task == "binary" else background, ignore_index}
        self.n = 0
        self._classes: dict[int, np.ndarray] = {}  # class -> common, predicted and reference pixels of all images
        self._image_sums = np.zeros(2)  # of the images' Dice and IoU

    def update(self, predictions: Masks, references: Masks) -> None:
        """Adds images.

        Args:
            predictions: [B, H, W], bool or integer labels.
            references: As `predictions`.

        Raises:
            UserError: If the shapes differ or the values are none of the task's.
        """
        if len(predictions) != len(references):
            raise UserError(
                f"Found {len(predictions)} predictions for {len(references)} references: give one for each."
            )
        images = [pixel_counts(*pair) for pair in zip(predictions, references, strict=True)]
        for image in images:
            self._check(image)
        for image in images:
            self.add_image(image)

    def add_image(self, counts: PixelCounts) -> None:
        """Adds one image whose pixels were counted by `pixel_counts`.

        Raises:
            UserError: If the labels are none of the task's.
        """
        self._check(counts)
        found: dict[int, np.ndarray] = {}
        for (reference, predicted), pixels in counts.items():
            if reference == self.ignore_index:
                continue
            for label, part in ((predicted, 1), (reference, 2)):
                if label not in self.unscored:
                    found.setdefault(label, np.zeros(3, dtype=np.int64))[part] += pixels
            if reference == predicted and reference not in self.unscored:
                found[reference][0] += pixels
        for label, part in found.items():
            self._classes[label] = self._classes.get(label, 0) + part
        self._image_sums += _macro_mean(found)
        self.n += 1

    def merge(self, other: "SegmentationOverlap") -> None:
        """Adds what `other` has seen, for example in another process.

        Raises:
            UserError: If it scores something else.
        """
        settings = [(part.task, part.ignore_index, part.unscored) for part in (self, other)]
        if settings[0] != settings[1]:
            raise UserError(
                "Overlaps of different tasks, ignored labels or backgrounds cannot be merged: use one setting."
            )
        for label, part in other._classes.items():
            self._classes[label] = self._classes.get(label, 0) + part
        self._image_sums += other._image_sums
        self.n += other.n

    def compute(self) -> dict[str, float | int | dict[int, float]]:
        """Dice and IoU.

        Returns:
            `dice` and `iou`: of the pixels of all images together (mean IoU as in semantic segmentation); `dice_images`
            and `iou_images`: mean over images of each image's own value (the habit with medical and few-shot
            segmentation); `dice_per_class` and `iou_per_class`: of all images together, by label; `n` images. All in
            [0, 1].

        Raises:
            UserError: If nothing was added.
        """
        if not self.n:
            raise UserError("No images were added, so there is no overlap: add some first.")
        per_class = {label: _ratios(self._classes[label]) for label in sorted(self._classes)}
        result: dict[str, float | int | dict[int, float]] = {"n": self.n}
        whole = _macro_mean(self._classes)
        for index, name in enumerate(("dice", "iou")):
            result[name] = float(whole[index])
            result[f"{name}_images"] = float(self._image_sums[index] / self.n)
            result[f"{name}_per_class"] = {label: float(pair[index]) for label, pair in per_class.items()}
        return result

    def _check(self, counts: PixelCounts) -> None:
        if self.task == "binary":
            strange = {label for pair in counts for label in pair} - {0, 1, self.ignore_index}
            if strange:
                raise UserError(
                    f"Binary masks hold 0 and 1 only, found {sorted(strange)[:5]}: give `mask > 0`, or task='labels'."
                )


def _ratios(pixels: np.ndarray) -> np.ndarray:
    """Dice and IoU of (common, predicted, reference) pixels."""
    common, predicted, reference = pixels
    return np.array([2 * common / (predicted + reference), common / (predicted + reference - common)])


def _macro_mean(classes: Mapping[int, np.ndarray]) -> np.ndarray:
    """Mean Dice and IoU over the classes that occur; 1 where none does."""
    return np.mean([_ratios(pixels) for pixels in classes.values()], axis=0) if classes else np.ones(2)
