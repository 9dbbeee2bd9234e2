"""Feature distances: against the same formulas written out, and that nothing is called what it is not."""

import sys
import types
from importlib.metadata import files as package_files

import numpy as np
import pytest
import scipy.linalg
import timm
import torch
import torchvision
from torch.nn import functional as F
from torchmetrics.image.fid import _compute_fid
from transformers import AutoModel

from visual_sentence.errors import UserError
from visual_sentence.features import (
    FrechetStatistics,
    frechet_distance,
    load_frechet_features,
    load_perceptual_distance,
    perceptual,
    pooled,
)
from visual_sentence.features.frozen import hub_checkpoint
from visual_sentence.features.offline_tower import OfflineTower
from visual_sentence.features.perceptual import LPIPS_BACKBONES, OfflineTowerDistance
from visual_sentence.features.pooled import INCEPTION_FILE, OfflineTowerFeatures
from visual_sentence.modeling import V2LImageProcessor
from visual_sentence.offline import offline_folder

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    """An empty torch.hub cache, and no way to fill it."""

    def refuse(*_, **__):
        raise AssertionError("tried to download")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    hub_checkpoint("").mkdir(parents=True)
    return hub_checkpoint("")


@pytest.fixture(scope="module")
def tower() -> OfflineTower:
    """The offline tower's architecture with random weights and moved statistics."""
    torch.manual_seed(0)
    network = timm.create_model("tf_efficientnet_lite0", num_classes=7)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return OfflineTower(network, MEAN, STD, resolution=48)


@pytest.fixture
def offline(tower, monkeypatch) -> OfflineTower:
    """Puts the random tower in the real one's place."""
    monkeypatch.setattr(perceptual, "load_offline_tower", lambda: tower)
    monkeypatch.setattr(pooled, "load_offline_tower", lambda: tower)
    return tower


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 40, 48) * 2 - 1


@pytest.fixture
def references() -> torch.Tensor:
    return torch.rand(2, 3, 40, 48) * 2 - 1


def distance_by_hand(layers: list[np.ndarray], others: list[np.ndarray]) -> np.ndarray:
    """Zhang et al. 2018, equation 1 with w = 1, in float64."""
    total = 0.0
    for one, other in zip(layers, others, strict=True):
        one, other = one.astype(np.float64), other.astype(np.float64)
        one, other = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (one, other))
        total = total + ((one - other) ** 2).sum(axis=1).mean(axis=(1, 2))
    return total


def layers_by_hand(tower: OfflineTower, images: torch.Tensor) -> list[np.ndarray]:
    """The last block of each resolution, with the images normalised as an ordinary preprocessing would."""
    network = tower.network
    pixels = torchvision.transforms.functional.normalize((images + 1) / 2, MEAN, STD)
    hidden, layers = network.bn1(network.conv_stem(pixels)), []
    for index, block in enumerate(network.blocks):
        hidden = block(hidden)
        if index in (0, 1, 2, 4, 6):
            layers.append(hidden.numpy())
    return layers


def test_tower_distance_is_the_formula(tower, images, references):
    distance = OfflineTowerDistance(tower)(images, references)
    with torch.no_grad():
        expected = distance_by_hand(layers_by_hand(tower, images), layers_by_hand(tower, references))
    assert distance.shape == (2,) and distance.dtype == torch.float32
    np.testing.assert_allclose(distance.detach().numpy(), expected, rtol=1e-4)


def test_equal_images_are_at_distance_zero(tower, images):
    assert OfflineTowerDistance(tower)(images, images).tolist() == [0.0, 0.0]


def test_gradient_reaches_the_images_only_and_is_finite_on_flat_ones(tower, images, references):
    distance = OfflineTowerDistance(tower)
    images.requires_grad_()
    references.requires_grad_()
    distance(images, references).sum().backward()
    assert references.grad is None and images.grad.isfinite().all() and images.grad.abs().amax(dim=(1, 2, 3)).min() > 0
    assert all(parameter.grad is None for parameter in distance.parameters())
    flat = torch.zeros(1, 3, 32, 32, requires_grad=True)
    distance(flat, torch.full_like(flat, 0.5)).sum().backward()
    assert flat.grad.isfinite().all()


def test_gradient_descends(tower, images, references):
    distance = OfflineTowerDistance(tower)
    images.requires_grad_()
    before = distance(images, references).sum()
    (gradient,) = torch.autograd.grad(before, images)
    after = distance(images.detach() - 1e-3 * gradient / gradient.norm(), references).sum()
    assert (before - after).item() == pytest.approx(1e-3 * gradient.norm().item(), rel=0.1)


def test_stays_frozen_in_training(tower, images, references):
    distance = OfflineTowerDistance(tower)
    before = distance(images, references)
    trainer = torch.nn.ModuleList([distance]).train()
    assert not any(module.training for module in trainer[0].modules())
    assert torch.equal(distance(images, references), before)
    assert not any(parameter.requires_grad for parameter in distance.parameters())


def test_float32_under_autocast_and_for_half_inputs(tower, images, references):
    distance = OfflineTowerDistance(tower)
    expected = distance(images.bfloat16().float(), references)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = distance(images.bfloat16(), references)
        features = OfflineTowerFeatures(tower)(images)
    assert found.dtype == torch.float32 and torch.equal(found, expected)
    assert torch.equal(features, OfflineTowerFeatures(tower)(images))


def test_resolution_enlarges_small_images_only(offline, images, references):
    plain = load_perceptual_distance("offline-tower")
    larger = load_perceptual_distance("offline-tower", resolution=80)
    scaled = [F.interpolate(part, size=(80, 96), mode="bilinear") for part in (images, references)]
    assert torch.equal(larger(images, references), plain(*scaled))
    assert torch.equal(larger(*scaled), plain(*scaled))


@pytest.mark.parametrize(
    ("shape", "other", "found"),
    [
        ((2, 3, 32, 32), (1, 3, 32, 32), "differ in shape"),
        ((2, 1, 32, 32), (2, 1, 32, 32), r"\[2, 1, 32, 32\]"),
        ((3, 32, 32), (3, 32, 32), r"\[3, 32, 32\]"),
        ((2, 3, 16, 32), (2, 3, 16, 32), "16 x 32"),
    ],
)
def test_wrong_shapes_are_named(tower, shape, other, found):
    with pytest.raises(UserError, match=found):
        OfflineTowerDistance(tower)(torch.zeros(shape), torch.zeros(other))


def test_without_weights_nothing_is_called_lpips_or_fid(offline):
    assert load_perceptual_distance().name == "offline-tower-distance"
    assert load_frechet_features().name == "offline-tower-frechet-distance"
    with pytest.raises(UserError, match=r"LPIPS needs .*vgg16-397923af\.pth.*offline-tower"):
        load_perceptual_distance("lpips")
    with pytest.raises(UserError, match=f"FID needs .*{INCEPTION_FILE}"):
        load_frechet_features("inception")
    for load in (load_perceptual_distance, load_frechet_features):
        with pytest.raises(UserError, match="'fid' "):
            load("fid")
    with pytest.raises(UserError, match="'resnet' is no backbone"):
        load_perceptual_distance(backbone="resnet")


def lpips_by_hand(network: torch.nn.Module, images: torch.Tensor, references: torch.Tensor) -> np.ndarray:
    """LPIPS 0.1 on SqueezeNet: the package's learned weights on the squared differences of seven layers."""
    path = next(file for file in package_files("lpips") if str(file).endswith("v0.1/squeeze.pth")).locate()
    weights = [
        part.flatten().double().numpy() for part in torch.load(path, weights_only=True, map_location="cpu").values()
    ]
    shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
    sides = []
    for pixels in (images, references):
        hidden = torchvision.transforms.functional.normalize(pixels, shift.tolist(), scale.tolist())
        layers = []
        for index, layer in enumerate(network.features):
            hidden = layer(hidden)
            if index in (1, 4, 7, 9, 10, 11, 12):
                layers.append(hidden.double().numpy())
        sides.append([layer / np.linalg.norm(layer, axis=1, keepdims=True) for layer in layers])
    parts = [
        (((one - other) ** 2) * weight[None, :, None, None]).sum(axis=1).mean(axis=(1, 2))
        for one, other, weight in zip(*sides, weights, strict=True)
    ]
    return sum(parts)


def test_lpips_where_its_weights_are(offline, hub, images, references):
    network = torchvision.models.squeezenet1_1(weights=None).eval()
    torch.save(network.state_dict(), hub / LPIPS_BACKBONES["squeeze"])
    distance = load_perceptual_distance()
    assert distance.name == "lpips-squeeze"
    with torch.no_grad():
        np.testing.assert_allclose(
            distance(images, references).numpy(), lpips_by_hand(network, images, references), rtol=1e-3
        )
    assert load_perceptual_distance("offline-tower").name == "offline-tower-distance"
    with pytest.raises(UserError, match=r"LPIPS needs .*alexnet-owt"):
        load_perceptual_distance("lpips", backbone="alex")


def test_damaged_weights_are_named(offline, hub):
    (hub / LPIPS_BACKBONES["squeeze"]).write_bytes(b"not weights")
    with pytest.raises(UserError, match=r"squeezenet1_1-b8a52dc0\.pth could not be read"):
        load_perceptual_distance()


def test_tower_features_see_the_whole_image_at_the_towers_resolution(tower, images):
    features = OfflineTowerFeatures(tower)
    found = features(images * 3)  # clipped
    pixels = F.interpolate((images * 3).clamp(-1, 1), size=(48, 48), mode="bilinear", antialias=True)
    pixels = torchvision.transforms.functional.normalize((pixels + 1) / 2, MEAN, STD)
    with torch.no_grad():
        network = tower.network
        expected = network.bn2(network.conv_head(network.blocks(network.bn1(network.conv_stem(pixels))))).mean((2, 3))
    assert found.shape == (2, features.dim) and found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_inception_gets_eight_bit_images_and_is_called_fid(hub, images, monkeypatch):
    """Stands in for torch-fidelity, whose weights are not here: only the way into it is tested."""
    seen = []

    class Extractor(torch.nn.Module):
        def __init__(self, name, features_list, feature_extractor_weights_path):
            super().__init__()
            assert features_list == ["2048"] and feature_extractor_weights_path == str(hub / INCEPTION_FILE)

        def forward(self, pixels):
            seen.append(pixels)
            return (torch.zeros(len(pixels), 2048),)

    package, module = (
        types.ModuleType("torch_fidelity"),
        types.ModuleType("torch_fidelity.feature_extractor_inceptionv3"),
    )
    module.FeatureExtractorInceptionV3 = Extractor
    package.feature_extractor_inceptionv3 = module
    monkeypatch.setitem(sys.modules, package.__name__, package)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    (hub / INCEPTION_FILE).touch()
    features = load_frechet_features()
    eight_bit = torch.arange(256, dtype=torch.uint8).repeat(3).view(1, 3, 16, 16)
    assert features.name == "fid" and features(eight_bit / 127.5 - 1).shape == (1, features.dim)
    assert torch.equal(seen[0], eight_bit)


@pytest.mark.offline_stack
def test_the_real_tower_is_the_classifier_and_ranks_distortions(offline_models, pictures):
    folder = offline_folder("v2l")
    features = load_frechet_features("offline-tower")
    processor = V2LImageProcessor.from_pretrained(folder)
    view = processor(pictures, return_tensors="pt")["global_pixel_values"]
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (processor.global_mean, processor.global_std))
    classifier = AutoModel.from_pretrained(folder).image_tower.model.classifier
    with torch.no_grad():
        expected = classifier(pixel_values=view).logits
        found = classifier.timm_model.get_classifier()(features((view * std + mean) * 2 - 1))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    image = F.interpolate(torch.rand(1, 3, 8, 8) * 2 - 1, size=(64, 64), mode="bilinear")
    noise = torch.randn(1, 3, 64, 64)
    distance = load_perceptual_distance("offline-tower")
    found = [distance(image + strength * noise, image).item() for strength in (0.0, 0.05, 0.2)]
    assert found[0] == 0 and found[0] < found[1] < found[2]


@pytest.fixture
def clouds() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    mix = generator.normal(size=(6, 6))
    return generator.normal(size=(50, 6)) @ mix + 3, generator.normal(size=(40, 6)) @ (mix + 0.3) - 1


def statistics(*batches: np.ndarray) -> FrechetStatistics:
    found = FrechetStatistics(batches[0].shape[1])
    for batch in batches:
        found.update(batch)
    return found


def test_statistics_are_numpys_however_they_come(clouds):
    vectors = clouds[0] + 1e4  # far from zero, where sums of squares would lose digits
    whole, pieces = statistics(vectors), statistics(vectors[:1], vectors[1:1], vectors[1:20])
    other = statistics(vectors[20:])
    pieces.merge(other)
    pieces.merge(FrechetStatistics(6))
    for found in (whole, pieces):
        assert found.n == 50 and found.mean.dtype == found.cov.dtype == torch.float64
        np.testing.assert_allclose(found.mean.numpy(), vectors.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(found.cov.numpy(), np.cov(vectors, rowvar=False), rtol=1e-9)


def test_frechet_distance_is_scipys_and_torchmetrics(clouds):
    a, b = (statistics(cloud) for cloud in clouds)
    found = frechet_distance(a.mean, a.cov, b.mean, b.cov)
    means, covs = [cloud.mean(axis=0) for cloud in clouds], [np.cov(cloud, rowvar=False) for cloud in clouds]
    root = scipy.linalg.sqrtm(covs[0] @ covs[1]).real
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(covs[0] + covs[1] - 2 * root)
    assert found == pytest.approx(expected, rel=1e-10)
    assert found == pytest.approx(_compute_fid(a.mean, a.cov, b.mean, b.cov).item(), rel=1e-8)
    assert frechet_distance(means[0], covs[0], means[1], covs[1]) == pytest.approx(found, rel=1e-12)


def test_frechet_distance_on_paper():
    # normals with deviations 1 and 3, means 0 and 2: (2 - 0)^2 + (3 - 1)^2 for each of two independent axes
    eye = np.eye(2)
    assert frechet_distance(np.zeros(2), eye, np.full(2, 2.0), 9 * eye) == pytest.approx(16.0)


def test_fewer_images_than_features():
    vectors = np.random.default_rng(0).normal(size=(10, 64))
    a, b = statistics(vectors), statistics(vectors + 0.5)
    assert frechet_distance(a.mean, a.cov, a.mean, a.cov) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a.mean, a.cov, b.mean, b.cov) == pytest.approx(64 * 0.25)


def test_statistics_refuse_nonsense():
    found = FrechetStatistics(4)
    with pytest.raises(UserError, match=r"\[B, 4\], found \[2, 5\]"):
        found.update(torch.zeros(2, 5))
    with pytest.raises(UserError, match="NaN"):
        found.update(torch.full((2, 4), torch.nan))
    with pytest.raises(UserError, match="4 and of 5"):
        found.merge(FrechetStatistics(5))
    found.update(torch.zeros(1, 4))
    with pytest.raises(UserError, match=r"1 image\(s\)"):
        _ = found.cov
