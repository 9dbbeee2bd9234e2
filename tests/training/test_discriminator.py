"""The discriminator against the published architecture: parameters, field of view, output size, initial weights."""

import pytest
import torch
from torch import nn

from visual_sentence.errors import UserError
from visual_sentence.training.discriminator import PatchDiscriminator

# Per convolution of kernel 4: 16 x in x out, and the bias of the first and the last; per norm: two numbers a channel.
TWO_LAYERS = 16 * 3 * 64 + 64 + 16 * 64 * 128 + 16 * 128 * 256 + 16 * 256 * 1 + 1
THREE_LAYERS = 16 * 3 * 64 + 64 + 16 * 64 * 128 + 16 * 128 * 256 + 16 * 256 * 512 + 16 * 512 * 1 + 1


@pytest.mark.parametrize(
    ("layers", "norm", "expected"),
    [
        (2, "batch", TWO_LAYERS + 2 * (128 + 256)),
        (2, "group", TWO_LAYERS + 2 * (128 + 256)),
        (3, "batch", THREE_LAYERS + 2 * (128 + 256 + 512)),
        (3, None, 2_764_737),  # pix2pix' own count with its instance norm, which has biases and no parameters
        (1, None, 16 * 3 * 64 + 64 + 16 * 64 * 128 + 128 + 16 * 128 * 1 + 1),
    ],
)
def test_parameters_are_those_of_pix2pix(layers, norm, expected):
    discriminator = PatchDiscriminator(layers=layers, norm=norm)
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == expected
    assert all(parameter.requires_grad for parameter in discriminator.parameters())


def test_widths_double_up_to_eight_times_the_first():
    convolutions = [m for m in PatchDiscriminator(width=4, layers=5).modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [4, 8, 16, 32, 32, 32, 1]
    assert [m.stride[0] for m in convolutions] == [2, 2, 2, 2, 2, 1, 1]


@pytest.mark.parametrize(("layers", "field"), [(1, 16), (2, 34), (3, 70)])
def test_a_logit_sees_the_published_patch(layers, field):
    discriminator = PatchDiscriminator(width=2, layers=layers, norm=None)
    images = torch.rand(1, 3, 128, 128, requires_grad=True)
    logits = discriminator(images)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    rows = torch.nonzero(images.grad.abs().sum((0, 1, 3))).flatten()
    assert rows[-1] - rows[0] + 1 == field


@pytest.mark.parametrize(("layers", "size"), [(1, (6, 9)), (2, (64, 50)), (2, (12, 15)), (3, (24, 128))])
def test_logits_per_patch(layers, size):
    logits = PatchDiscriminator(width=2, layers=layers)(torch.rand(2, 3, *size))
    assert logits.shape == (2, 1, *(side // 2**layers - 2 for side in size))


def test_initial_weights_are_those_of_pix2pix():
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(layers=3)
    for module in discriminator.modules():
        center = {nn.Conv2d: 0.0, nn.BatchNorm2d: 1.0}.get(type(module))
        if center is None:
            continue
        weight = module.weight.detach()
        assert weight.mean().item() == pytest.approx(center, abs=4 * 0.02 / weight.numel() ** 0.5)
        assert weight.std().item() == pytest.approx(0.02, rel=0.2)
        assert module.bias is None or not module.bias.any()


def test_group_norm_judges_each_image_by_itself():
    images = torch.rand(3, 3, 32, 32)
    logits = {norm: PatchDiscriminator(width=8, norm=norm) for norm in ("batch", "group")}
    alone = {norm: torch.cat([judge(image[None]) for image in images]) for norm, judge in logits.items()}
    together = {norm: judge(images) for norm, judge in logits.items()}
    assert torch.allclose(alone["group"], together["group"], atol=1e-5)
    assert not torch.allclose(alone["batch"], together["batch"], atol=1e-2)


def test_it_learns_to_tell_bright_from_dark():
    from visual_sentence.training.losses import hinge_discriminator_loss

    torch.manual_seed(0)
    discriminator = PatchDiscriminator(width=4, norm="group")
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-2)
    bright, dark = torch.rand(4, 3, 16, 16), -torch.rand(4, 3, 16, 16)
    for _ in range(30):
        optimizer.zero_grad()
        loss = hinge_discriminator_loss(discriminator(bright), discriminator(dark))
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    assert discriminator(bright).min() > 0 > discriminator(dark).max()


@pytest.mark.parametrize(
    ("arguments", "shape", "said"),
    [
        ({"layers": 2}, (1, 3, 11, 64), "11 x 64 pixels, but nothing is left of less than 12"),
        ({"layers": 3}, (1, 3, 64, 23), "64 x 23 pixels, but nothing is left of less than 24"),
        ({}, (1, 1, 32, 32), r"got \(1, 1, 32, 32\)"),
        ({}, (3, 32, 32), r"got \(3, 32, 32\)"),
    ],
)
def test_images_it_cannot_judge_are_refused(arguments, shape, said):
    with pytest.raises(UserError, match=said) as error:
        PatchDiscriminator(width=2, **arguments)(torch.zeros(shape))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("arguments", [{"norm": "instance"}, {"layers": 0}, {"width": 0}, {"num_channels": -1}])
def test_settings_that_make_no_sense_are_refused(arguments):
    name, value = next(iter(arguments.items()))
    with pytest.raises(UserError, match=f"{name} is {value!r}"):
        PatchDiscriminator(**arguments)
