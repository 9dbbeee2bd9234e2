"""Answers that are not read as they were written.

In training a model reads true answers, when it is used its own. Where answers are plain, such as masks, a small model
soon says what stands left and above, and one wrong token is repeated to the end. With some of the read tokens wrong it
has to look at the question.
"""

from dataclasses import replace

import torch

from ..modeling import ImageTokenConverter
from .batches import IGNORED, SentenceBatch


def with_noisy_answers(batch: SentenceBatch, most: float, converter: ImageTokenConverter) -> SentenceBatch:
    """A batch some of whose learned image tokens are read as others of the same row; labels stay.

    Args:
        batch: B rows of L tokens, on the CPU.
        most: Each row's share of such tokens is drawn uniformly from [0, most]; 0 leaves the batch as it is.
        converter: Knows image tokens.

    Randomness is torch's own on the CPU, whose state checkpoints hold.
    """
    if most == 0:
        return batch
    ids, is_answer = batch.input_ids.clone(), (batch.labels != IGNORED) & converter.is_image(batch.input_ids)
    hit = is_answer & (torch.rand(ids.shape) < most * torch.rand(len(ids), 1))
    for row, (places, answers) in enumerate(zip(hit, is_answer, strict=True)):
        said = batch.input_ids[row, answers]
        ids[row, places] = said[torch.randint(max(len(said), 1), (int(places.sum()),))]
    return replace(batch, input_ids=ids)


__all__ = ["with_noisy_answers"]
