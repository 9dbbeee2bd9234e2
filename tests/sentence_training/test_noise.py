"""Noise in answers: only there, of their own tokens, as much as was asked, and never in what is to be said."""

import pytest
import torch

from visual_sentence.modeling import ImageTokenConverter
from visual_sentence.sentence_training.batches import IGNORED, SentenceBatch
from visual_sentence.sentence_training.noise import with_noisy_answers

CONVERTER = ImageTokenConverter(50, 2, {"pad": 0, "end": 1}, 60)


def make_batch(rows: int = 64, length: int = 400) -> SentenceBatch:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(2, 52, (rows, length), generator=generator)
    ids[:, length // 2 :] = torch.randint(2, 12, (rows, length // 2), generator=generator)  # answers: few kinds
    ids[:, -1] = 1  # the end, which a loss on everything asks for
    labels = ids.clone()
    labels[:, : length // 2] = IGNORED
    return SentenceBatch(ids, labels, None, None, None, rows * length, int((labels != IGNORED).sum()))


def test_only_answers_are_changed_and_only_into_others_of_them():
    torch.manual_seed(0)
    batch = make_batch()
    before = batch.input_ids.clone()
    found = with_noisy_answers(batch, 0.8, CONVERTER)
    assert torch.equal(batch.input_ids, before) and torch.equal(found.labels, batch.labels)
    changed = found.input_ids != before
    assert not changed[:, :200].any() and not changed[:, -1].any()
    assert found.input_ids[:, 200:-1].max() < 12  # of the answers' kinds
    # a tenth of the tokens drawn is the one that stood there
    shares = changed[:, 200:-1].float().mean(1) / 0.9
    assert shares.mean().item() == pytest.approx(0.4, abs=0.08)
    assert shares.min() < 0.1 and shares.max() > 0.65  # each row has a share of its own


def test_none_is_none_and_a_row_without_answers_is_left_alone():
    batch = make_batch(2)
    assert with_noisy_answers(batch, 0.0, CONVERTER) is batch
    batch.labels[0] = IGNORED
    found = with_noisy_answers(batch, 0.9, CONVERTER)
    assert torch.equal(found.input_ids[0], batch.input_ids[0])


def test_the_same_seed_gives_the_same_noise():
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(with_noisy_answers(make_batch(4), 0.5, CONVERTER).input_ids)
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
