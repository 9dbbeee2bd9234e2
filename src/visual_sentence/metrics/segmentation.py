"""What the `evaluate` modules `dice` and `iou` share."""

from typing import Any

import datasets
import evaluate

from ..errors import UserError
from .overlap import PixelCounts, SegmentationOverlap, Task, pixel_counts
from .picture_overlap import THRESHOLD, TOLERANCE, equal_pixels, equal_tokens, picture_labels, picture_masks
from .streaming import Batch, StreamingMetric, pieces

# config name -> what is given with a batch, and its value where it is not
MODES: dict[str, dict[str, Any]] = {
    "default": {},
    "threshold": {"threshold": THRESHOLD},
    "palette": {"palette": None},
    "pixel": {"tolerance": TOLERANCE},
    "tokens": {},
}
INPUTS = """
Args:
    predictions: masks or label maps [B, H, W], bool or integers; or a list of [H, W] of any sizes. With another config
        name than the default one: images [B, 3, H, W], uint8 in [0, 255] or floating point in [0, 1] (or a list),
        compared as masks ("threshold"), as label maps of the nearest colours ("palette") or as coloured pixels
        ("pixel"); or image tokens [B, h, w] ("tokens").
    references: as predictions.
    threshold: of "threshold", with each batch; foreground is where the mean of R, G, B is above it, by default 0.5.
    palette: of "palette", with each batch; K colours [R, G, B] in [0, 255], one for each class.
    tolerance: of "pixel", with each batch; the most that a channel of equal pixels may differ, by default 16 / 255.
    task: given to compute; "binary" scores class 1 of masks of 0 and 1, "labels" (default with a palette) every class
        of a label map.
    ignore_index: given to compute; reference pixels of this label count nowhere.
    background: given to compute; a class of label maps that is not scored.
Returns:
    {name} of the pixels of all images together, {name}_images: mean over images of each image's own, {name}_per_class;
    all in [0, 1]; n images. Means over classes are over those that occur; empty against empty is 1.
"""


class OverlapMetric(StreamingMetric):
    """One of the measures of `SegmentationOverlap`.

    Class attributes:
        measure: "dice" or "iou".
        summary: What the module measures.
    """

    measure = ""
    summary = ""

    def _info(self) -> evaluate.MetricInfo:
        numbers = datasets.Sequence(datasets.Value("int64"))
        row = {"reference": numbers, "predicted": numbers, "pixels": numbers}
        return evaluate.MetricInfo(
            description=self.summary,
            citation="",
            inputs_description=INPUTS.format(name=self.measure),
            features=datasets.Features({"predictions": row, "references": datasets.Value("null")}),
        )

    @property
    def batch_options(self) -> tuple[str, ...]:
        """What is given with each batch, by the mode."""
        return tuple(self._mode_options())

    def _mode_options(self) -> dict[str, Any]:
        if self.config_name not in MODES:
            raise UserError(
                f"{self.name} has no mode {self.config_name!r}: use one of {', '.join(MODES)} as the config name."
            )
        return MODES[self.config_name]

    def add_batch(self, *, predictions: Batch | None = None, references: Batch | None = None, **options: Any) -> None:
        """Adds a batch; see `inputs_description`."""
        super().add_batch(predictions=predictions, references=references, **{**self._mode_options(), **options})

    def reduce(self, predictions: Batch, references: Batch, **options: Any) -> dict[str, list]:
        rows = [
            {
                "reference": [label for label, _ in counts],
                "predicted": [label for _, label in counts],
                "pixels": list(counts.values()),
            }
            for counts in self._counts(predictions, references, options)
        ]
        return {"predictions": rows, "references": [None] * len(rows)}

    def _counts(self, predictions: Batch, references: Batch, options: dict[str, Any]) -> list[PixelCounts]:
        if self.config_name == "default":
            return [pixel_counts(*pair) for pair in zip(predictions, references, strict=True)]
        compare = {"pixel": equal_pixels, "tokens": equal_tokens}.get(self.config_name)
        read = {"threshold": picture_masks, "palette": picture_labels}.get(self.config_name)
        found: list[PixelCounts] = []
        for part in pieces(predictions, references):
            if compare is not None:
                found += compare(*part, **options)
            elif read is not None:
                maps = [read(images, **options) for images in part]
                found += [pixel_counts(*pair) for pair in zip(*maps, strict=True)]
        return found

    def _compute(
        self,
        predictions: list[dict[str, list[int]]],
        references: list,
        task: Task | None = None,
        ignore_index: int | None = None,
        background: int | None = None,
    ) -> dict[str, Any]:
        task = task or ("labels" if self.config_name == "palette" else "binary")
        overlap = SegmentationOverlap(task, ignore_index, background)
        for row in predictions:
            pairs = zip(row["reference"], row["predicted"], strict=True)
            overlap.add_image(dict(zip(pairs, row["pixels"], strict=True)))
        result = overlap.compute()
        return {name: value for name, value in result.items() if name == "n" or name.startswith(self.measure)}
