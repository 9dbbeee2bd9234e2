"""Peak signal-to-noise ratio of RGB images and of their luma."""

import datasets
import evaluate
import torch

from visual_sentence.metrics import image_quality, streaming

DESCRIPTION = """
Peak signal-to-noise ratio in dB, 10 log10(1 / MSE) with values in [0, 1]: of RGB, and of the luma (ITU-R BT.601,
Y = 16 + 65.481 R + 128.553 G + 24.966 B, peak 255). The mean over images of each image's own value. Higher is better.
"""
INPUTS = """
Args:
    predictions: images [B, 3, H, W], uint8 in [0, 255] or floating point in [0, 1]; or a list of [3, H, W] of any
        sizes.
    references: as predictions.
Returns:
    psnr, psnr_y: means in dB over the images whose value is finite; n images; identical: how many were equal to their
    reference, which makes their PSNR infinite, and are not in the mean (if all are, it is infinite).
"""


class PSNR(streaming.StreamingMetric):
    """See `inputs_description`."""

    def _info(self):
        value = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features(
                {"predictions": {"psnr": value, "psnr_y": value}, "references": datasets.Value("null")}
            ),
        )

    def reduce(self, predictions, references):
        parts = list(streaming.pieces(predictions, references))
        return streaming.columns(
            psnr=torch.cat([image_quality.psnr(*part) for part in parts]),
            psnr_y=torch.cat([image_quality.psnr_y(*part) for part in parts]),
        )

    def _compute(self, predictions, references):
        means = {}
        for name in ("psnr", "psnr_y"):
            means[name] = image_quality.RunningMean()
            means[name].update([row[name] for row in predictions])
        values = {name: mean.mean for name, mean in means.items()}
        return {**values, "n": means["psnr"].n, "identical": means["psnr"].infinite}
