"""The numbers of an evaluation, against scikit-image, numpy and sums made by hand on the pictures themselves."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from visual_sentence import UserError
from visual_sentence.features import PerceptualDistance, PooledFeatures
from visual_sentence.image_io import ImageSource
from visual_sentence.metrics import CodebookCounts
from visual_sentence.reconstruction import (
    ImageCodec,
    evaluate_reconstruction,
    evaluation,
    reconstruct_pictures,
    share_of_equal_tokens,
)

NO_NETWORKS = {"perceptual": "none", "frechet": "none"}
KEYS = {
    *("model", "data", "n", "resolution", "tokens_per_image", "global_tokens_per_image", "psnr", "psnr_y", "ssim"),
    *("identical", "mean_color_psnr", "codebook_usage", "codebook_perplexity", "codebook_size"),
    *("seconds_per_image", "device", "dtype"),
}


def arrays(codec: ImageCodec, noise: list[Image.Image]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(original, reconstruction) of every picture, uint8 (R, R, 3)."""
    found = reconstruct_pictures(codec, noise, 4)
    return [(np.asarray(item.original), np.asarray(item.reconstruction)) for item in found]


def test_quality_by_scikit_image_on_the_pictures_that_are_written(vqgan, noise, source):
    result = evaluate_reconstruction(vqgan, source, batch_size=4, **NO_NETWORKS)
    pairs = arrays(vqgan, noise)
    psnr = [peak_signal_noise_ratio(*pair, data_range=255) for pair in pairs]
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    ssim = [structural_similarity(*pair, channel_axis=2, data_range=255, **window) for pair in pairs]
    assert result["psnr"] == pytest.approx(np.mean(psnr), abs=1e-9)
    assert result["ssim"] == pytest.approx(np.mean(ssim), abs=1e-9)
    weights = np.array([65.481, 128.553, 24.966]) / 255
    luma = [np.mean(((original - drawn.astype(float)) @ weights) ** 2) for original, drawn in pairs]
    assert result["psnr_y"] == pytest.approx(np.mean(10 * np.log10(255**2 / np.array(luma))), abs=1e-9)


def test_the_mean_color_is_each_pictures_own(vqgan, noise, source):
    result = evaluate_reconstruction(vqgan, source, **NO_NETWORKS)
    expected = []
    for original, _ in arrays(vqgan, noise):
        color = np.round(original.mean(axis=(0, 1)))
        error = np.mean((original - color) ** 2)
        expected.append(10 * math.log10(255**2 / error) if error else math.inf)
    assert expected[0] == math.inf  # the first picture has one colour only
    assert result["mean_color_psnr"] == pytest.approx(np.mean(expected[1:]), abs=1e-9)


def test_codebook_use_by_numpy(vqgan, make_v2l_codec, noise, source):
    for codec in (vqgan, make_v2l_codec("paper")):
        result = evaluate_reconstruction(codec, source, batch_size=3, **NO_NETWORKS)
        tokens = np.array([item.image_tokens for item in reconstruct_pictures(codec, noise, 11)])
        codes, counts = np.unique(tokens, return_counts=True)
        assert 1 < len(codes) < 40
        shares = counts / tokens.size
        assert result["codebook_usage"] == len(codes) / 40
        assert result["codebook_perplexity"] == pytest.approx(np.exp(-np.sum(shares * np.log(shares))))
        assert (result["codebook_size"], result["tokens_per_image"], result["n"]) == (40, 16, 11)


def test_the_object_says_what_was_measured(vqgan, make_v2l_codec, source):
    result = evaluate_reconstruction(vqgan, source, **NO_NETWORKS)
    assert set(result) == KEYS
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    described = {name: result[name] for name in ("model", "data", "n", "resolution", "device", "dtype")}
    assert described == {
        "model": "tiny-vqgan",
        "data": "noise",
        "n": 11,
        "resolution": 16,
        "device": "cpu",
        "dtype": "float32",
    }
    assert result["global_tokens_per_image"] == 0 and result["identical"] == 0 and result["seconds_per_image"] > 0
    assert evaluate_reconstruction(make_v2l_codec("paper"), source, **NO_NETWORKS)["global_tokens_per_image"] == 3


class Roundtrip:
    """A codec that loses nothing, around a real one."""

    def __init__(self, codec: ImageCodec):
        self.codec = codec

    def __getattr__(self, name: str):
        return getattr(self.codec, name)

    def reconstruct(self, pictures):
        return [
            type(item)(item.original, item.original, item.image_tokens) for item in self.codec.reconstruct(pictures)
        ]


def test_perfect_reconstructions_have_no_psnr(vqgan, source):
    result = evaluate_reconstruction(Roundtrip(vqgan), source, **NO_NETWORKS)
    assert (result["psnr"], result["psnr_y"], result["identical"]) == (None, None, 11)
    assert result["ssim"] == pytest.approx(1)
    json.dumps(result, allow_nan=False)


def test_the_batch_size_changes_nothing(vqgan, source):
    results = [evaluate_reconstruction(vqgan, source, batch_size=size, **NO_NETWORKS) for size in (1, 4, 11)]
    for result in results[1:]:
        for name in ("psnr", "psnr_y", "ssim"):
            assert result[name] == pytest.approx(results[0][name], rel=1e-3)  # single pixels may round the other way
        for name in ("mean_color_psnr", "codebook_usage", "codebook_perplexity", "n"):
            assert result[name] == results[0][name]


def test_pictures_are_streamed_and_limited(vqgan, noise):
    taken = []

    def stream():
        for index in range(1000):
            taken.append(index)
            yield noise[index % len(noise)]

    source = ImageSource("endless", None, stream)
    assert evaluate_reconstruction(vqgan, source, limit=5, batch_size=2, **NO_NETWORKS)["n"] == 5
    assert taken == [0, 1, 2, 3, 4]
    beyond = ImageSource("few", 3, lambda: iter(noise[:3]))
    assert evaluate_reconstruction(vqgan, beyond, limit=10, batch_size=2, **NO_NETWORKS)["n"] == 3


def test_no_pictures(vqgan):
    with pytest.raises(UserError, match=r"nothing holds no picture, so there is nothing to measure"):
        evaluate_reconstruction(vqgan, ImageSource("nothing", None, lambda: iter(())), **NO_NETWORKS)


class MeanDifference(PerceptualDistance):
    """Mean absolute difference in [-1, 1]: a distance that can be worked out by hand."""

    def __init__(self, resolution: int):
        assert resolution == 32
        super().__init__("mean-difference", resolution)

    def distances(self, images, references):
        return (images - references).abs().mean(dim=(1, 2, 3))


class MeanColor(PooledFeatures):
    """An image's mean colour in [-1, 1]: features whose Fréchet distance can be worked out by hand."""

    def __init__(self):
        super().__init__("mean-color-frechet-distance", 3)

    def features(self, images):
        return images.mean(dim=(2, 3))


def doubled(image: np.ndarray) -> np.ndarray:
    """An image (16, 16, 3) enlarged to 32 x 32 by linear interpolation between the middles of pixels."""
    places = (np.arange(32) + 0.5) / 2 - 0.5
    matrix = np.clip(1 - np.abs(places[:, None].clip(0, 15) - np.arange(16)), 0, 1)
    return np.einsum("ay,bx,yxc->abc", matrix, matrix, image.astype(float))


def test_networks_under_their_own_names(vqgan, noise, source, monkeypatch):
    asked = []

    def distance(*given, resolution):
        asked.append(given)
        return MeanDifference(resolution)

    monkeypatch.setattr(evaluation, "load_perceptual_distance", distance)
    monkeypatch.setattr(evaluation, "load_frechet_features", lambda *given: asked.append(given) or MeanColor())
    result = evaluate_reconstruction(vqgan, source, batch_size=4, perceptual="lpips", frechet="inception")
    assert asked == [("lpips", torch.device("cpu")), ("inception", torch.device("cpu"))]
    assert set(result) == {*KEYS, "mean-difference", "mean-color-frechet-distance"}
    pairs = arrays(vqgan, noise)
    differences = [np.abs(doubled(first) - doubled(second)).mean() / 127.5 for first, second in pairs]
    assert result["mean-difference"] == pytest.approx(np.mean(differences), rel=1e-5)
    first, second = (np.array([pair[side].mean(axis=(0, 1)) / 127.5 - 1 for pair in pairs]) for side in (0, 1))
    covariances = np.cov(first.T), np.cov(second.T)
    root = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).real.clip(0)).sum()
    traces = sum(np.trace(covariance) for covariance in covariances)
    expected = np.sum((first.mean(axis=0) - second.mean(axis=0)) ** 2) + traces - 2 * root
    assert result["mean-color-frechet-distance"] == pytest.approx(expected, rel=1e-4)
    single = evaluate_reconstruction(vqgan, source, limit=1, perceptual="none")
    assert single["mean-color-frechet-distance"] is None and "mean-difference" not in single


def test_measures_that_are_not_there(vqgan, source):
    with pytest.raises(UserError, match=r"'eyes' is no perceptual distance.*--perceptual none\.$"):
        evaluate_reconstruction(vqgan, source, perceptual="eyes", frechet="none")
    with pytest.raises(UserError, match=r"'eyes' gives no features.*--frechet none\.$"):
        evaluate_reconstruction(vqgan, source, perceptual="none", frechet="eyes")


def test_tokens_of_another_codebook_are_refused(vqgan, source, monkeypatch):
    monkeypatch.setattr(evaluation, "CodebookCounts", lambda size: CodebookCounts(3))
    with pytest.raises(UserError, match=r"must lie in \[0, 3\)"):
        evaluate_reconstruction(vqgan, source, **NO_NETWORKS)


def test_share_of_equal_tokens(vqgan, source):
    assert share_of_equal_tokens(vqgan, vqgan, source, batch_size=4) == 1
    codes = vqgan.model.quantizer.codebook.detach()
    tokens = torch.tensor([found.image_tokens for found in reconstruct_pictures(vqgan, list(source))])
    common = tokens.flatten().mode().values
    other = copy.deepcopy(vqgan)
    with torch.no_grad():
        other.model.quantizer.codebook[common] = codes[common] + 1000  # nobody chooses it any more
    wanted = (tokens != common).float().mean().item()
    assert share_of_equal_tokens(vqgan, other, source) == pytest.approx(wanted) and 0 < wanted < 1
    only = (tokens[:3] != common).float().mean().item()
    assert share_of_equal_tokens(vqgan, other, source, limit=3) == pytest.approx(only)
    with pytest.raises(UserError, match="holds no picture"):
        share_of_equal_tokens(vqgan, other, ImageSource("nothing", 0, lambda: iter([])))
