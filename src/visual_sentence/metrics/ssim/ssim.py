"""Structural similarity of RGB images."""

import datasets
import evaluate
import torch

from visual_sentence.metrics import image_quality, streaming

DESCRIPTION = """
Structural similarity (Wang et al. 2004): Gaussian window of 11 pixels and sigma 1.5, K1 = 0.01, K2 = 0.03, population
covariances, mean over the channels of RGB and over positions; then the mean over images. Higher is better, 1 is equal.
"""
INPUTS = """
Args:
    predictions: images [B, 3, H, W], uint8 in [0, 255] or floating point in [0, 1], at least 11 x 11; or a list of
        [3, H, W] of any sizes.
    references: as predictions.
Returns:
    ssim in [-1, 1], n images.
"""


class SSIM(streaming.StreamingMetric):
    """See `inputs_description`."""

    def _info(self):
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features(
                {"predictions": {"ssim": datasets.Value("float64")}, "references": datasets.Value("null")}
            ),
        )

    def reduce(self, predictions, references):
        parts = streaming.pieces(predictions, references)
        return streaming.columns(ssim=torch.cat([image_quality.ssim(*part) for part in parts]))

    def _compute(self, predictions, references):
        mean = image_quality.RunningMean()
        mean.update([row["ssim"] for row in predictions])
        return {"ssim": mean.mean, "n": mean.n}
