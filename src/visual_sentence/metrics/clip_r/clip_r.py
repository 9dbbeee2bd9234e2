"""CLIP-R: where the words of an image stand between the vocabulary's worst and best for it."""

import datasets
import evaluate
import torch

from visual_sentence.metrics import embeddings, image_quality, streaming

DESCRIPTION = """
The cosines of an image with the whole vocabulary, min-max normalised to [0, 1] image by image, and of these the mean
over the image's words; then the mean over images. 1: each word is the best there is; 0: each is the worst. The V2L
Tokenizer's table 2 reports "CLIP-R" without defining it; this definition is ours.
"""
INPUTS = """
Args:
    predictions: places of each image's words in the vocabulary, [B, k] integers, or a list of [k], each k its own.
    references: image embeddings [B, D].
    vocabulary: text embeddings [V, D] of the whole vocabulary; given with each batch.
Returns:
    clip_r in [0, 1], n images.
"""


class ClipR(streaming.StreamingMetric):
    """See `inputs_description`."""

    batch_options = ("vocabulary",)

    def _info(self):
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features(
                {"predictions": {"score": datasets.Value("float64")}, "references": datasets.Value("null")}
            ),
        )

    def reduce(self, predictions, references, vocabulary):
        parts = streaming.pieces(predictions, references)
        return streaming.columns(score=torch.cat([embeddings.clip_r(*part, vocabulary) for part in parts]))

    def _compute(self, predictions, references):
        mean = image_quality.RunningMean()
        mean.update([row["score"] for row in predictions])
        return {"clip_r": mean.mean, "n": mean.n}
