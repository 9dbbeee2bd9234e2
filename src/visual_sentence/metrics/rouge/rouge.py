"""ROUGE of captions: unigrams, bigrams, longest common subsequence."""

import datasets
import evaluate

from visual_sentence.metrics import captions, image_quality, streaming

DESCRIPTION = """
ROUGE-1, ROUGE-2 and ROUGE-L of captions, by rouge-score: F1 against the best reference, mean over pictures, on words in
lower case without punctuation. Higher is better.
"""


class CaptionRouge(streaming.StreamingMetric):
    """See `inputs_description`."""

    def _info(self):
        value = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=captions.INPUTS.format(returns="rouge1, rouge2, rougeL, each in [0, 1]"),
            features=datasets.Features(
                {
                    "predictions": dict.fromkeys(captions.ROUGE_KINDS, value),
                    "references": datasets.Value("null"),
                }
            ),
        )

    def reduce(self, predictions, references):
        return {"predictions": captions.rouge(predictions, references), "references": [None] * len(predictions)}

    def _compute(self, predictions, references):
        means = {}
        for kind in captions.ROUGE_KINDS:
            mean = image_quality.RunningMean()
            mean.update([row[kind] for row in predictions])
            means[kind] = mean.mean
        return {**means, "n": len(predictions)}
