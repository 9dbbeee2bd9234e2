"""Share of a codebook in use, and its perplexity."""

import datasets
import evaluate
import numpy as np
import torch

from visual_sentence.metrics import codes, streaming

DESCRIPTION = """
Codebook usage: the share of codes chosen at least once over everything added. Codebook perplexity: exp of the entropy
of the codes' frequencies, between 1 and the codebook's size. Both grow with the number of images; higher is better.
"""
INPUTS = """
Args:
    predictions: codebook indices, [B, ...] integers; or a list of arrays of any shapes.
    codebook_size: number of codes; given to compute.
Returns:
    codebook_usage in [0, 1], codebook_perplexity in [1, codebook_size], codebook_size, tokens: how many were counted.
"""


class CodebookUsage(streaming.StreamingMetric):
    """See `inputs_description`."""

    def _info(self):
        value = datasets.Value("int64")
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": {"code": value, "count": value}}),
        )

    def reduce(self, predictions, references=None):
        rows = []
        for part in [predictions] if isinstance(predictions, torch.Tensor | np.ndarray) else predictions:
            pairs = zip(*(column.tolist() for column in codes.code_counts(part)), strict=True)
            rows.extend({"code": code, "count": count} for code, count in pairs)
        return {"predictions": rows}

    def _compute(self, predictions, codebook_size):
        counts = codes.CodebookCounts(codebook_size)
        rows = torch.tensor([[row["code"], row["count"]] for row in predictions], dtype=torch.int64).view(-1, 2)
        counts.add_counts(rows[:, 0], rows[:, 1])
        return counts.compute()
