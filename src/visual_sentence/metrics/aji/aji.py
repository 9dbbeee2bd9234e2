"""Aggregated Jaccard index of instance maps."""

import datasets
import evaluate

from visual_sentence.metrics import instances, streaming

DESCRIPTION = """
Aggregated Jaccard index (Kumar et al. 2017, https://doi.org/10.1109/TMI.2017.2677499, algorithm 1) of instance maps,
such as nuclei: common pixels over union, summed over reference instances and their best predicted partners; what is
left unpaired counts as error. Higher is better, 1 is equal.
"""
INPUTS = """
Args:
    predictions: instance maps [B, H, W], integers with an index for each instance and 0 for the background; or bool
        masks, whose connected parts (by edges, by scipy) are the instances; or a list of [H, W] of any sizes.
    references: as predictions.
Returns:
    aji of the sums over all images, aji_images: mean over images of each image's own; in [0, 1]; n images. Empty
    against empty is 1.
"""


class AJI(streaming.StreamingMetric):
    """See `inputs_description`."""

    def _info(self):
        count = datasets.Value("int64")
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features(
                {"predictions": {"common": count, "union": count}, "references": datasets.Value("null")}
            ),
        )

    def reduce(self, predictions, references):
        sums = [
            instances.aggregated_pixels(instances.instance_counts(*pair))
            for pair in zip(predictions, references, strict=True)
        ]
        rows = [{"common": common, "union": union} for common, union in sums]
        return {"predictions": rows, "references": [None] * len(rows)}

    def _compute(self, predictions, references):
        index = instances.AggregatedJaccard()
        for row in predictions:
            index.add_image(row["common"], row["union"])
        return index.compute()
