"""The perceptual loss: a frozen mean in float32 that hands gradients to the images alone."""

import pytest
import torch
from torch import nn

from visual_sentence.errors import UserError
from visual_sentence.features import PerceptualDistance
from visual_sentence.training import perceptual
from visual_sentence.training.perceptual import load_perceptual_loss


class TinyDistance(PerceptualDistance):
    """A measure with weights and batch statistics of its own; notes the dtypes that it computes in."""

    def __init__(self):
        super().__init__("tiny-distance")
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.seen: list[torch.dtype] = []
        self.freeze()

    def distances(self, images: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        found, expected = self.net(images), self.net(references)
        self.seen += [images.dtype, references.dtype, found.dtype]
        return (found - expected).square().mean((1, 2, 3))


@pytest.fixture
def distance(monkeypatch) -> TinyDistance:
    tiny = TinyDistance()
    monkeypatch.setattr(perceptual, "load_perceptual_distance", lambda kind, device: tiny.to(device))
    return tiny


@pytest.fixture
def pairs() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(3, 3, 32, 32) * 2 - 1, torch.rand(3, 3, 32, 32) * 2 - 1


def test_loss_is_the_mean_over_the_batch(distance, pairs):
    loss = load_perceptual_loss("auto")
    one_by_one = [distance(image[None], reference[None]).item() for image, reference in zip(*pairs, strict=True)]
    assert loss(*pairs).item() == pytest.approx(sum(one_by_one) / 3, rel=1e-5)
    assert loss(*pairs).shape == () and loss(pairs[0], pairs[0]).item() == 0
    assert loss.name == "tiny-distance"


def test_it_stays_frozen_inside_a_model_in_training(distance, pairs):
    parent = nn.ModuleList([load_perceptual_loss("auto")]).train()
    before = {name: value.clone() for name, value in parent.state_dict().items()}
    images, references = (pictures.requires_grad_() for pictures in pairs)
    parent[0](images, references).backward()
    assert images.grad.abs().sum() > 0 and references.grad is None
    assert len(before) == 7 and not list(filter(lambda parameter: parameter.requires_grad, parent.parameters()))
    assert all(torch.equal(value, before[name]) for name, value in parent.state_dict().items())


def test_autocast_does_not_reach_inside(distance, pairs):
    loss = load_perceptual_loss("auto")
    expected = loss(*pairs)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(*pairs)
        of_half = loss(pairs[0].bfloat16(), pairs[1])
    assert set(distance.seen) == {torch.float32} and of_half.dtype == torch.float32
    assert torch.equal(found, expected)


def test_none_is_no_loss():
    assert load_perceptual_loss("none") is None


def test_an_unknown_kind_is_refused():
    with pytest.raises(UserError, match="'vgg16' is no perceptual distance") as error:
        load_perceptual_loss("vgg16")
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("offline_models")
def test_the_offline_tower_tells_small_from_large_changes():
    loss = load_perceptual_loss("offline-tower")
    assert loss.name == "offline-tower-distance"
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    slightly = (images + 0.05 * torch.randn_like(images)).clamp(-1, 1).requires_grad_()
    small, large = loss(slightly, images), loss(torch.rand_like(images) * 2 - 1, images)
    assert 0 < small < large
    small.backward()
    assert slightly.grad.abs().sum() > 0 and slightly.grad.isfinite().all()
