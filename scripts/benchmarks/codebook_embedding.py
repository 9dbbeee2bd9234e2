"""Text embedding: sorted, unpadded batches of distinct prompts against one text at a time."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from visual_sentence.codebook import embed_texts
from visual_sentence.codebook.embedding import TextEncoder

from .common import Measurement, timed

TOLERANCE = 1e-5


def run(
    encoder: TextEncoder,
    texts: Sequence[str],
    *,
    reference_texts: int = 200,
    rounds: int = 3,
    setting: dict[str, Any] | None = None,
) -> Measurement:
    """Measures both ways with the plain template.

    Args:
        encoder: The joint encoder's text half.
        texts: What our way embeds; a few thousand fill its batches.
        reference_texts: Of these, spread evenly, how many are also embedded one at a time.
        rounds: How often both ways are measured in turn; the fastest of each counts, as others may use the
            machine too.
        setting: Further facts for the report.

    Returns:
        Seconds of both ways for `reference_texts` texts; ours is scaled down from all. The result is the same
        where no number differs by more than 1e-5.
    """
    count = min(reference_texts, len(texts))
    rows = [i * len(texts) // count for i in range(count)]
    compared = [texts[i] for i in rows]
    _embed(encoder, compared)
    _embed_one_by_one(encoder, compared[:3])
    ours_s = reference_s = float("inf")
    for _ in range(rounds):
        ours, seconds = timed(lambda: _embed(encoder, texts))
        ours_s = min(ours_s, seconds)
        reference, seconds = timed(lambda: _embed_one_by_one(encoder, compared))
        reference_s = min(reference_s, seconds)
    return Measurement(
        name="codebook-embedding",
        setting={
            "encoder": encoder.name,
            "texts": len(texts),
            "reference_texts": count,
            "seconds_are_for_texts": count,
            "fastest_of_rounds": rounds,
            "tolerance": TOLERANCE,
            "threads": torch.get_num_threads(),
            **(setting or {}),
        },
        ours_s=ours_s / len(texts) * count,
        reference_s=reference_s,
        same_result=bool(np.abs(ours[rows] - reference).max() <= TOLERANCE),
    )


def _embed(encoder: TextEncoder, texts: Sequence[str]) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        # A copy, because the folder goes and the result is mapped from it.
        return np.array(embed_texts(encoder, texts, folder=Path(folder)))


@torch.inference_mode()
def _embed_one_by_one(encoder: TextEncoder, texts: Sequence[str]) -> np.ndarray:
    return torch.cat([encoder.encode_token_ids(encoder.tokenize([text])).float().cpu() for text in texts]).numpy()
