"""How a picture is read as an answer, and how near it is to the true one.

Masks by threshold, label maps by the nearest colour of the palette that the pairs show, images as they are.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..errors import UserError
from ..metrics import SegmentationOverlap
from ..metrics.image_quality import psnr, ssim
from ..metrics.instances import aggregated_pixels, instance_counts
from ..metrics.overlap import PixelCounts, pixel_counts
from ..metrics.picture_overlap import THRESHOLD, picture_labels, picture_masks

MASK, LABELS, IMAGE = "mask", "labels", "image"
KINDS = (MASK, LABELS, IMAGE)
MEASURES = ("dice", "iou", "aji", "psnr", "ssim")
# Which of two answers is the worse one is told by the first of these that applies.
RANKING = ("dice", "psnr")
BLACK = (0, 0, 0)

Palette = Sequence[tuple[int, int, int]]


@dataclass(frozen=True)
class Score:
    """How near one answer is to the true one.

    Args:
        values: Measure -> value; psnr in dB, infinite for equal pictures, the others at most 1.
        counts: Pixels of each pair of labels, of masks and label maps.
        instances: Common pixels and union of `aggregated_pixels`, where instances are compared.
    """

    values: dict[str, float]
    counts: PixelCounts | None = None
    instances: tuple[int, int] | None = None

    @property
    def rank(self) -> float:
        """The value by which answers are ranked: Dice, or PSNR of images."""
        return next(self.values[name] for name in RANKING if name in self.values)


@dataclass(frozen=True)
class Scoring:
    """How answers of one setting are compared with the true ones: as masks, label maps or images.

    Args:
        kind: "mask", "labels" or "image".
        palette: Of label maps: the colours of class 0, 1, ...
        instances: Of masks: whether their connected parts are compared as instances, too.
        threshold: Of masks: foreground is where the mean of R, G and B, in [0, 1], is above it.

    Raises:
        UserError: If the kind is unknown, or these do not go together.
    """

    kind: str
    palette: Palette | None = None
    instances: bool = False
    threshold: float = THRESHOLD
    background: int | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"An answer cannot be read as {self.kind!r}: choose one of {', '.join(KINDS)}.")
        if self.kind == LABELS and not self.palette:
            raise UserError("Label maps are read by the colours that the pairs show, and there is no palette: give it.")
        if self.instances and self.kind != MASK:
            raise UserError(
                f"Instances are the connected parts of a mask, but answers of this task are read as {self.kind}: leave "
                "--instances out, or take a task with masks."
            )
        black = [label for label, colour in enumerate(self.palette or ()) if tuple(colour) == BLACK]
        object.__setattr__(self, "background", black[0] if black else None)

    @property
    def measures(self) -> tuple[str, ...]:
        """The names of the measures that apply."""
        if self.kind == IMAGE:
            return ("psnr", "ssim")
        return ("dice", "iou", "aji") if self.instances else ("dice", "iou")

    @property
    def resampling(self) -> Image.Resampling:
        """How a picture of another size is brought to a query's: without new colours, unless it is an image."""
        return Image.Resampling.BICUBIC if self.kind == IMAGE else Image.Resampling.NEAREST

    def read(
        self, picture: Image.Image, size: tuple[int, int] | None = None, shown: Collection[int] | None = None
    ) -> np.ndarray:
        """Reads a picture.

        Args:
            picture: RGB; an answer of the model at its own resolution, or a picture of any size.
            size: Width and height that the result is to have; the picture's own by default. Images and pictures of
                masks are stretched before they are read, label maps afterwards: a colour between two classes would
                be that of a third.
            shown: Of label maps: the classes that may be found; all of the palette's by default.

        Returns:
            Masks [H, W] bool, label maps [H, W] int64, images [H, W, 3] uint8.
        """
        size = size or picture.size
        if self.kind == LABELS:
            labels = self._read_labels(picture, shown)
            if picture.size == size:
                return labels
            drawn = Image.fromarray(labels.astype(np.int32)).resize(size, Image.Resampling.NEAREST)
            return np.asarray(drawn).astype(np.int64)
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling.BICUBIC)
        if self.kind == MASK:
            return picture_masks(_batch(picture), self.threshold)[0].numpy()
        return np.asarray(picture.convert("RGB"))

    def _read_labels(self, picture: Image.Image, shown: Collection[int] | None) -> np.ndarray:
        palette = self.palette or ()
        places = np.array(sorted(range(len(palette)) if shown is None else shown))
        return places[picture_labels(_batch(picture), [palette[place] for place in places])[0].numpy()]

    def classes_shown(self, targets: Iterable[Image.Image]) -> set[int] | None:
        """The classes in targets, which are the ones that an answer can have; None where answers have no classes."""
        if self.kind != LABELS:
            return None
        return {label for target in targets for label in np.unique(self.read(target)).tolist()}

    def draw(self, answer: np.ndarray) -> Image.Image:
        """A picture of what `read` gave."""
        if self.kind == MASK:
            return Image.fromarray(answer.astype(np.uint8) * 255).convert("RGB")
        if self.kind == LABELS:
            return Image.fromarray(np.asarray(self.palette, dtype=np.uint8)[answer])
        return Image.fromarray(answer)

    def score(self, answer: np.ndarray, truth: np.ndarray) -> Score:
        """Measures an answer against the true one, both as `read` gives them.

        Dice and IoU of label maps are means over the classes that occur in either; black, the colour of everything
        that no class is asked for, is not scored.

        Raises:
            UserError: If their sizes differ, or images are smaller than the window of SSIM.
        """
        if self.kind == IMAGE:
            pair = [torch.from_numpy(np.ascontiguousarray(part.transpose(2, 0, 1)[None])) for part in (answer, truth)]
            return Score({"psnr": psnr(*pair).item(), "ssim": ssim(*pair).item()})
        counts = pixel_counts(answer, truth)
        overlap = self.overlap()
        overlap.add_image(counts)
        found: dict[str, Any] = overlap.compute()
        values = {"dice": found["dice"], "iou": found["iou"]}
        if not self.instances:
            return Score(values, counts)
        common, union = aggregated_pixels(instance_counts(answer, truth))
        return Score({**values, "aji": common / union if union else 1.0}, counts, (common, union))

    def overlap(self) -> SegmentationOverlap:
        """An empty accumulator for `Score.counts`."""
        return (
            SegmentationOverlap("binary") if self.kind == MASK else SegmentationOverlap("labels", None, self.background)
        )


def _batch(picture: Image.Image) -> np.ndarray:
    """[1, 3, H, W] uint8."""
    return np.array(picture.convert("RGB")).transpose(2, 0, 1)[None]
