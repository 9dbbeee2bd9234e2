"""CLIP score and CLIP-R on vectors whose angles are known."""

import numpy as np
import pytest
import torch

from visual_sentence.errors import UserError
from visual_sentence.metrics.embeddings import clip_r, clip_score

# cosines with the image (1, 0): 1, 0.6, 0, -0.6
VOCABULARY = np.array([[2.0, 0.0], [0.6, 0.8], [0.0, 5.0], [-3.0, 4.0]])
IMAGE = np.array([[7.0, 0.0]])


def test_clip_score_is_the_mean_cosine():
    found = clip_score(VOCABULARY[None, [0, 1, 3]], IMAGE)
    assert found.dtype == torch.float64 and found.tolist() == pytest.approx([(1 + 0.6 - 0.6) / 3])


def test_clip_r_is_the_place_between_worst_and_best():
    images = np.concatenate([IMAGE, -IMAGE])
    words = np.array([[0, 1], [3, 3]])
    # image 1: (1.6 / 1.6 + 1.2 / 1.6) / 2; image 2 looks the other way, so that word 3 is its best
    assert clip_r(words, images, VOCABULARY).tolist() == pytest.approx([0.875, 1.0])
    assert clip_r(np.array([[3]]), IMAGE, VOCABULARY).item() == pytest.approx(0)


def test_neither_depends_on_lengths():
    generator = torch.Generator().manual_seed(0)
    images, vocabulary = torch.randn(3, 5, generator=generator), torch.randn(9, 5, generator=generator)
    words = torch.tensor([[0, 1], [2, 3], [4, 8]])
    scale = torch.rand(9, 1, generator=generator) + 0.1
    torch.testing.assert_close(clip_r(words, images, vocabulary), clip_r(words, 3 * images, scale * vocabulary))
    torch.testing.assert_close(
        clip_score(vocabulary[words], images), clip_score((scale * vocabulary)[words], 3 * images)
    )
    expected = torch.cosine_similarity(vocabulary[words], images[:, None], dim=-1).mean(dim=1)
    torch.testing.assert_close(clip_score(vocabulary[words], images), expected.double(), rtol=1e-5, atol=1e-6)


def test_nonsense_is_named():
    with pytest.raises(UserError, match=r"\[1, 4, 2\] and image embeddings \[2, 2\]"):
        clip_score(VOCABULARY[None], np.ones((2, 2)))
    with pytest.raises(UserError, match="length 0"):
        clip_score(VOCABULARY[None], np.zeros((1, 2)))
    with pytest.raises(UserError, match=r"\[0, 4\), found 0 to 4"):
        clip_r(np.array([[0, 4]]), IMAGE, VOCABULARY)
    with pytest.raises(UserError, match="equally near"):
        clip_r(np.array([[0]]), IMAGE, VOCABULARY[:1])
    with pytest.raises(UserError, match="2 numbers and vocabulary embeddings 3"):
        clip_r(np.array([[0]]), IMAGE, np.eye(3))
    with pytest.raises(UserError, match=r"\[1, k\] places"):
        clip_r(np.array([0]), IMAGE, VOCABULARY)
