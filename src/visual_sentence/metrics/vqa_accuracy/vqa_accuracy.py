"""Accuracy of answers to questions about pictures."""

import datasets
import evaluate

from visual_sentence.metrics import answers, image_quality, streaming

DESCRIPTION = """
Share of right answers after the VQA challenge's normalisation: exact match with any of the reference answers, and the
accuracy min(n / 3, 1) of the questions that have ten references, n of them equal to the answer.
"""
INPUTS = """
Args:
    predictions: answers, one text a question.
    references: for each question its reference answers, a text or a list of texts, at least one.
Returns:
    exact_match in [0, 1] over n questions; vqa_accuracy in [0, 1] over those n_ten questions that have ten references,
    left out where none has.
"""


class VqaAccuracy(streaming.StreamingMetric):
    """See `inputs_description`."""

    def _info(self):
        value = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features(
                {
                    "predictions": {"exact_match": value, "vqa_accuracy": value},
                    "references": datasets.Value("null"),
                }
            ),
        )

    def reduce(self, predictions, references):
        return {"predictions": answers.vqa_scores(predictions, references), "references": [None] * len(predictions)}

    def _compute(self, predictions, references):
        exact, of_ten = image_quality.RunningMean(), image_quality.RunningMean()
        exact.update([row["exact_match"] for row in predictions])
        of_ten.update([row["vqa_accuracy"] for row in predictions if row["vqa_accuracy"] is not None])
        found = {"exact_match": exact.mean, "n": exact.n, "n_ten": of_ten.n}
        return {**found, "vqa_accuracy": of_ten.mean} if of_ten.n else found
