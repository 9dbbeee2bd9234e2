"""Adversarial losses against numbers worked out by hand; the adaptive weight against gradients taken one by one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from visual_sentence.training import losses
from visual_sentence.training.losses import adaptive_weight, adversarial_generator_loss, hinge_discriminator_loss


def test_hinge_loss_by_hand():
    # relu(1 - real) = 0, 0.5, 3 with mean 3.5/3; relu(1 + fake) = 0, 1.25 with mean 0.625
    loss = hinge_discriminator_loss(torch.tensor([2.0, 0.5, -2.0]), torch.tensor([-3.0, 0.25]))
    assert loss.item() == pytest.approx((3.5 / 3 + 0.625) / 2, abs=1e-6)


def test_hinge_loss_pushes_only_what_is_within_the_margin():
    real = torch.tensor([1.5, 0.5, -1.0, 1.0], requires_grad=True)
    fake = torch.tensor([-1.5, 0.5], requires_grad=True)
    hinge_discriminator_loss(real, fake).backward()
    assert real.grad.tolist() == [0.0, -0.125, -0.125, 0.0]  # half, over four logits
    assert fake.grad.tolist() == [0.0, 0.25]
    assert hinge_discriminator_loss(torch.tensor([1.0, 7.0]), torch.tensor([-1.0, -9.0])).item() == 0


def test_generator_loss_is_minus_the_mean():
    assert adversarial_generator_loss(torch.tensor([[1.0, -2.0], [4.0, 0.0]])).item() == -0.75


def test_losses_of_half_precision_logits_are_float32():
    logits = torch.full((4096,), 3e4, dtype=torch.float16)  # their sum is beyond float16
    assert adversarial_generator_loss(logits).dtype == torch.float32
    assert adversarial_generator_loss(logits).item() == pytest.approx(-3e4, rel=1e-3)
    loss = hinge_discriminator_loss(-logits, logits)
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(3e4, rel=1e-3)


class Decoder(nn.Module):
    """A stand-in whose last convolution both losses pass through."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(images)))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 8, 8) * 2 - 1


@pytest.fixture
def decoder() -> Decoder:
    return Decoder()


@pytest.fixture
def judge() -> nn.Module:
    return nn.Conv2d(3, 1, 4, stride=2)


def both_losses(decoder: Decoder, judge: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    reconstruction = decoder(images)
    return (reconstruction.float() - images).abs().mean(), adversarial_generator_loss(judge(reconstruction))


def norms_by_backward(decoder: Decoder, judge: nn.Module, images: torch.Tensor) -> list[float]:
    """The norms of both gradients, each from a backward pass of its own."""
    norms = []
    for index in range(2):
        decoder.zero_grad()
        both_losses(decoder, judge, images)[index].backward()
        norms.append(sum(value**2 for value in decoder.last.weight.grad.double().flatten().tolist()) ** 0.5)
    decoder.zero_grad()
    return norms


def test_adaptive_weight_is_the_ratio_of_the_gradients(decoder, judge, images):
    reconstruction_norm, adversarial_norm = norms_by_backward(decoder, judge, images)
    weight = adaptive_weight(*both_losses(decoder, judge, images), decoder.last.weight)
    assert weight.item() == pytest.approx(reconstruction_norm / (adversarial_norm + 1e-4), rel=1e-5)
    assert weight.shape == () and not weight.requires_grad


def test_adaptive_weight_leaves_the_graph_and_the_gradients_alone(decoder, judge, images):
    reconstruction, adversarial = both_losses(decoder, judge, images)
    weight = adaptive_weight(reconstruction, adversarial, decoder.last.weight)
    assert all(parameter.grad is None for module in (decoder, judge) for parameter in module.parameters())
    (reconstruction + weight * adversarial).backward()
    found = decoder.first.weight.grad.clone()
    decoder.zero_grad()
    reconstruction, adversarial = both_losses(decoder, judge, images)
    (reconstruction + weight.item() * adversarial).backward()
    assert torch.allclose(found, decoder.first.weight.grad, rtol=1e-5, atol=1e-8)


def test_adaptive_weight_stays_within_its_bounds(decoder, judge, images):
    reconstruction, adversarial = both_losses(decoder, judge, images)
    # no adversarial gradient at all: norm / 1e-4, or the bound
    weight = adaptive_weight(reconstruction * 1e-3, adversarial * 0, decoder.last.weight)
    assert weight.item() == pytest.approx(norms_by_backward(decoder, judge, images)[0] * 1e-3 / 1e-4, rel=1e-4)
    assert adaptive_weight(reconstruction * 1e6, adversarial * 0, decoder.last.weight).item() == 1e4
    assert adaptive_weight(reconstruction * 0, adversarial, decoder.last.weight).item() == 0


def test_adaptive_weight_shows_a_gradient_that_is_not_finite(decoder, judge, images):
    reconstruction, adversarial = both_losses(decoder, judge, images)
    assert adaptive_weight(reconstruction * float("nan"), adversarial, decoder.last.weight).isnan()


def test_adaptive_weight_under_autocast(decoder, judge, images):
    expected = adaptive_weight(*both_losses(decoder, judge, images), decoder.last.weight)
    with torch.autocast("cpu", torch.bfloat16):
        weight = adaptive_weight(*both_losses(decoder, judge, images), decoder.last.weight)
    assert weight.dtype == torch.float32
    assert weight.item() == pytest.approx(expected.item(), rel=0.03)


def test_gradient_scale_saves_what_float16_would_lose(decoder, judge, images):
    expected = adaptive_weight(*both_losses(decoder, judge, images), decoder.last.weight)

    def weight(scale: float) -> float:
        with torch.autocast("cpu", torch.float16):
            reconstruction, adversarial = both_losses(decoder, judge, images)
        # as small as the gradients of a mean over a large batch of large images
        return adaptive_weight(reconstruction * 1e-5, adversarial, decoder.last.weight, scale).item() * 1e5

    assert weight(2.0**14) == pytest.approx(expected.item(), rel=0.02)
    assert weight(1.0) == 0


HALF_A_BATCH = """
import importlib.util, json, sys
import torch
from torch import distributed, nn
path, store, rank = sys.argv[1], sys.argv[2], int(sys.argv[3])
spec = importlib.util.spec_from_file_location("losses", path)
losses = importlib.util.module_from_spec(spec)
spec.loader.exec_module(losses)
torch.set_num_threads(1)
if rank >= 0:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
torch.manual_seed(0)
layer, judge, images = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 1, 4), torch.randn(4, 3, 8, 8)
images = images if rank < 0 else images[2 * rank : 2 * rank + 2]
output = layer(images)
adversarial = losses.adversarial_generator_loss(judge(output))
print(json.dumps(losses.adaptive_weight((output - images).square().mean(), adversarial, layer.weight).item()))
"""


def test_two_processes_share_the_weight_of_the_whole_batch(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HALF_A_BATCH, Path(losses.__file__), tmp_path / "store", str(rank)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1, -1)
    ]
    # the last line, since older versions of Gloo write to standard output too
    first, second, whole = (float(process.communicate(timeout=120)[0].splitlines()[-1]) for process in processes)
    assert first == second == pytest.approx(whole, rel=1e-5)
