"""CLIP score: how near the words of an image are to it in a joint image-text space."""

import datasets
import evaluate
import torch

from visual_sentence.metrics import embeddings, image_quality, streaming

DESCRIPTION = """
Mean cosine between an image's embedding and the text embeddings of its words, unscaled, mean over images (V2L
Tokenizer, table 2, "CLIP"). Higher is better. Takes embeddings, of whatever joint encoder; numbers of different
encoders cannot be compared.
"""
INPUTS = """
Args:
    predictions: text embeddings of each image's words, [B, k, D], or a list of [k, D], each k its own; any length.
    references: image embeddings [B, D].
Returns:
    clip_score in [-1, 1], n images.
"""


class ClipScore(streaming.StreamingMetric):
    """See `inputs_description`."""

    def _info(self):
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features(
                {"predictions": {"score": datasets.Value("float64")}, "references": datasets.Value("null")}
            ),
        )

    def reduce(self, predictions, references):
        parts = streaming.pieces(predictions, references)
        return streaming.columns(score=torch.cat([embeddings.clip_score(*part) for part in parts]))

    def _compute(self, predictions, references):
        mean = image_quality.RunningMean()
        mean.update([row["score"] for row in predictions])
        return {"clip_score": mean.mean, "n": mean.n}
