"""Codebook usage and perplexity, worked out by hand."""

import math

import numpy as np
import pytest
import torch

from visual_sentence.errors import UserError
from visual_sentence.metrics import CodebookCounts


def test_usage_and_perplexity_on_paper():
    counts = CodebookCounts(8)
    counts.update(torch.tensor([[0, 0], [3, 5]]))
    # frequencies 1/2, 1/4, 1/4: entropy 1/2 ln 2 + 2 * 1/4 ln 4 = 3/2 ln 2
    assert counts.compute() == {
        "codebook_usage": 3 / 8,
        "codebook_perplexity": pytest.approx(2**1.5),
        "codebook_size": 8,
        "tokens": 4,
    }


def test_extremes():
    counts = CodebookCounts(16)
    counts.update(np.arange(16, dtype=np.int32))
    assert (counts.usage, counts.perplexity) == (1, pytest.approx(16))
    counts = CodebookCounts(16)
    counts.update(torch.full((2, 4, 4), 7))
    assert (counts.usage, counts.perplexity) == (1 / 16, pytest.approx(1))


def test_pieces_and_merged_parts_are_the_whole():
    tokens = torch.randint(0, 50, (9, 4, 4))
    whole, first, second = CodebookCounts(64), CodebookCounts(64), CodebookCounts(64)
    whole.update(tokens)
    first.update(tokens[:2])
    first.update(tokens[2:2])
    first.update(tokens[2:3])
    second.update(tokens[3:])
    first.merge(second)
    assert torch.equal(first.counts, torch.bincount(tokens.flatten(), minlength=64))
    assert first.compute() == whole.compute()
    shares = np.unique(tokens, return_counts=True)[1] / tokens.numel()
    assert first.perplexity == pytest.approx(math.exp(-(shares * np.log(shares)).sum()))


def test_nonsense_is_named():
    counts = CodebookCounts(8)
    with pytest.raises(UserError, match=r"\[0, 8\), found 0 to 8"):
        counts.update(torch.tensor([0, 8]))
    with pytest.raises(UserError, match="found -1 to 3"):
        counts.update(torch.tensor([-1, 3]))
    with pytest.raises(UserError, match=r"torch\.float32"):
        counts.update(torch.zeros(3))
    with pytest.raises(UserError, match="8 and 9 codes"):
        counts.merge(CodebookCounts(9))
    assert counts.counts.sum() == 0
    with pytest.raises(UserError, match="No tokens"):
        counts.compute()
