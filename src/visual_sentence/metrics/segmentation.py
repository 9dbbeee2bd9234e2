"""What the `evaluate` modules `dice` and `iou` share."""

from typing import Any

import datasets
import evaluate

from .overlap import SegmentationOverlap, Task, pixel_counts
from .streaming import Batch, StreamingMetric

INPUTS = """
Args:
    predictions: masks or label maps [B, H, W], bool or integers; or a list of [H, W] of any sizes.
    references: as predictions.
    task: given to compute; "binary" (default) scores class 1 of masks of 0 and 1, "labels" every class of a label map.
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

    def reduce(self, predictions: Batch, references: Batch) -> dict[str, list]:
        rows = []
        for prediction, reference in zip(predictions, references, strict=True):
            counts = pixel_counts(prediction, reference)
            rows.append(
                {
                    "reference": [label for label, _ in counts],
                    "predicted": [label for _, label in counts],
                    "pixels": list(counts.values()),
                }
            )
        return {"predictions": rows, "references": [None] * len(rows)}

    def _compute(
        self,
        predictions: list[dict[str, list[int]]],
        references: list,
        task: Task = "binary",
        ignore_index: int | None = None,
        background: int | None = None,
    ) -> dict[str, Any]:
        overlap = SegmentationOverlap(task, ignore_index, background)
        for row in predictions:
            pairs = zip(row["reference"], row["predicted"], strict=True)
            overlap.add_image(dict(zip(pairs, row["pixels"], strict=True)))
        result = overlap.compute()
        return {name: value for name, value in result.items() if name == "n" or name.startswith(self.measure)}
