"""Noisy copies: how much of them is replaced, by what, and alike on both sides."""

import pytest
import torch

from visual_sentence.restoration.copies import RATIOS, noisy_copies

VOCABULARY = torch.arange(1000, 2000)


@pytest.fixture
def maps() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(256).view(16, 16), torch.arange(300, 556).view(16, 16)


def test_ratios_are_the_papers():
    assert RATIOS == (0.5, 0.47, 0.44, 0.41, 0.38, 0.35, 0.32, 0.29, 0.26, 0.23)


@pytest.mark.parametrize("extra", [0, 21])
def test_as_many_are_replaced_as_the_ratio_says(maps, extra):
    degraded, clean = maps
    for ratio, copy in zip(RATIOS, noisy_copies(degraded, clean, VOCABULARY, extra_tokens=extra), strict=True):
        changed = [place for place in range(256) if copy.clean[place] != clean.flatten()[place]]
        assert len(changed) == int(ratio * (256 + extra))
        for place in range(256):
            if place in changed:
                assert 1000 <= copy.clean[place] == copy.degraded[place] < 2000
            else:
                assert copy.degraded[place] == place and copy.clean[place] == place + 300


def test_copies_differ_from_each_other_and_depend_on_seed_and_map(maps):
    copies = noisy_copies(*maps, VOCABULARY, (0.5, 0.5))
    assert copies[0] != copies[1]
    assert noisy_copies(*maps, VOCABULARY, (0.5, 0.5)) == copies
    assert noisy_copies(*maps, VOCABULARY, (0.5, 0.5), seed=1) != copies
    replaced = [place for place in range(256) if copies[0].clean[place] >= 1000]
    other = noisy_copies(maps[0], maps[1] + 1, VOCABULARY, (0.5,))[0]
    assert [place for place in range(256) if other.clean[place] >= 1000] != replaced


def test_no_more_than_all_tokens_are_replaced():
    tokens = torch.zeros(2, 2, dtype=torch.int64)
    (copy,) = noisy_copies(tokens, tokens, VOCABULARY, (0.5,), extra_tokens=21)
    assert min(copy.clean) >= 1000
