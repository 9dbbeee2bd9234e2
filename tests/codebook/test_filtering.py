import numpy as np
import pytest
import torch
import torch.nn.functional as F

from visual_sentence.codebook import center, count_top_items, encode_image_set, mean_feature
from visual_sentence.codebook import filtering as filtering_module
from visual_sentence.codebook.filtering import frequent_items
from visual_sentence.errors import UserError


@pytest.fixture
def codes():
    generator = torch.Generator().manual_seed(2)
    return F.normalize(torch.randn(50, 16, generator=generator) + 0.3, dim=-1)


@pytest.mark.parametrize("centred", [False, True])
def test_counts_equal_all_at_once(encoder, images, codes, tmp_path, monkeypatch, centred):
    monkeypatch.setattr(filtering_module, "SIMILARITY_BUDGET", 4 * len(codes))
    shards = encode_image_set(encoder, images, folder=tmp_path, batch_size=4, shard_size=10)
    assert (len(shards), shards.rows) == (4, len(images))
    features = encoder.encode_images(images).half().float()
    mean = features.mean(0)
    assert torch.allclose(mean_feature(shards), mean, atol=1e-6)
    if centred:
        codes = center(codes, codes.mean(0))
        features = F.normalize(features - mean, dim=-1)
        assert torch.allclose(codes.norm(dim=-1), torch.ones(len(codes)))
    expected = torch.zeros(len(codes), dtype=torch.int64)
    for similarities in features @ codes.T:
        expected[similarities.topk(5).indices] += 1
    counts = count_top_items(shards, codes, mean_feature(shards) if centred else torch.zeros(16))
    assert torch.equal(counts, expected)
    assert counts.sum() == 5 * len(images)


def test_fewer_items_than_places(encoder, images, codes, tmp_path):
    shards = encode_image_set(encoder, images, folder=tmp_path)
    assert count_top_items(shards, codes[:3], torch.zeros(16)).tolist() == [len(images)] * 3


@pytest.mark.parametrize("lazy", [False, True])
def test_an_interrupted_run_continues(encoder, images, tmp_path, lazy):
    def encode(folder):
        source = (image for image in images) if lazy else images
        return encode_image_set(encoder, source, folder=folder, batch_size=4, shard_size=8)

    expected = np.concatenate(list(encode(tmp_path / "whole")))
    encoder.images_seen, encoder.fail_after = 0, 20
    with pytest.raises(KeyboardInterrupt):
        encode(tmp_path / "halved")
    encoder.images_seen, encoder.fail_after = 0, None
    assert np.array_equal(np.concatenate(list(encode(tmp_path / "halved"))), expected)
    assert encoder.images_seen == len(images) - 16
    encode(tmp_path / "halved")
    assert encoder.images_seen == len(images) - 16


def test_other_settings_and_no_images_are_refused(encoder, images, tmp_path):
    encode_image_set(encoder, images, folder=tmp_path / "full", images_name="these")
    with pytest.raises(UserError, match='images was "these" and is now "those"'):
        encode_image_set(encoder, images, folder=tmp_path / "full", images_name="those")
    with pytest.raises(UserError, match="empty"):
        encode_image_set(encoder, [], folder=tmp_path / "none")


def test_min_count_keeps_and_refuses():
    counts = torch.tensor([0, 3, 1, 7])
    assert frequent_items(counts, 1).tolist() == [1, 2, 3]
    assert frequent_items(counts, 3).tolist() == [1, 3]
    with pytest.raises(UserError, match="largest count is 7"):
        frequent_items(counts, 8)
