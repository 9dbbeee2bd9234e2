"""Accuracy of N-way answers, with its uncertainty and what guessing would reach."""

import math

import datasets
import evaluate

DESCRIPTION = """
Share of right answers among n independent questions, with half the width of its 95 % confidence interval (normal
approximation, 1.96 standard errors) and the accuracy of guessing.
"""
INPUTS = """
Args:
    predictions: index of the answered class, or -1 where the answer names no class (counted as wrong).
    references: index of the right class.
    way: number of classes in each question.
Returns:
    accuracy in [0, 1], ci95 (half width, same unit), n, chance = mean of 1 / way.
"""


class FewShotAccuracy(evaluate.Metric):
    """Accuracy of N-way answers; see `inputs_description`."""

    def _info(self):
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features(
                {name: datasets.Value("int64") for name in ("predictions", "references", "way")}
            ),
        )

    def _compute(self, predictions, references, way):
        n = len(predictions)
        accuracy = sum(p == r for p, r in zip(predictions, references, strict=True)) / n
        return {
            "accuracy": accuracy,
            "ci95": 1.96 * math.sqrt(accuracy * (1 - accuracy) / n),
            "n": n,
            "chance": sum(1 / ways for ways in way) / n,
        }
