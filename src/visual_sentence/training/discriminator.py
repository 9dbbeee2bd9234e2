"""PatchGAN: tells real image patches from reconstructed ones.

Source: Isola et al. 2017, pix2pix (https://arxiv.org/abs/1611.07004), appendix 6.1.2 and
https://github.com/junyanz/pytorch-CycleGAN-and-pix2pix, `NLayerDiscriminator`; VQGAN uses it with 3 layers, the
published V2L Tokenizer with 2.
"""

import math

import torch
from torch import nn

from ..errors import UserError

KERNEL = 4
NEGATIVE_SLOPE = 0.2
# Widths double from layer to layer up to this multiple of the first.
LARGEST_MULTIPLE = 8
INIT_STD = 0.02
NORMS = ("batch", "group", None)
# Groups of the normalisation where the width allows as many.
NUM_GROUPS = 32


class PatchDiscriminator(nn.Module):
    """Convolutions of kernel 4: `layers` of stride 2, one of stride 1, and one that gives a logit per patch.

    A logit sees 34 x 34 pixels with 2 layers and 70 x 70 with 3. Norms stand behind all convolutions but the first and
    the last.

    Args:
        num_channels: Of the images.
        width: Channels of the first convolution.
        layers: Convolutions that halve the image.
        norm: "batch" as in the sources; "group" where results must not depend on how a batch is split over processes;
            None.

    Raises:
        UserError: A value makes no sense.
    """

    def __init__(self, num_channels: int = 3, width: int = 64, layers: int = 2, norm: str | None = "batch"):
        super().__init__()
        if norm not in NORMS:
            raise UserError(
                f"norm is {norm!r}, which is no norm of the discriminator: choose 'batch', 'group' or None."
            )
        for name, value in (("num_channels", num_channels), ("width", width), ("layers", layers)):
            if value < 1:
                raise UserError(f"{name} is {value}, which leaves no discriminator: give at least 1.")
        self.num_channels = num_channels
        self.smallest_size = 3 * 2**layers
        widths = [min(2**level, LARGEST_MULTIPLE) * width for level in range(layers + 1)]
        modules: list[nn.Module] = [nn.Conv2d(num_channels, width, KERNEL, stride=2, padding=1)]
        for level in range(1, layers + 1):
            stride = 2 if level < layers else 1
            # a norm's own shift makes the bias before it useless
            modules += [
                nn.LeakyReLU(NEGATIVE_SLOPE),
                nn.Conv2d(widths[level - 1], widths[level], KERNEL, stride, padding=1, bias=norm is None),
                *_norm_layers(norm, widths[level]),
            ]
        modules += [nn.LeakyReLU(NEGATIVE_SLOPE), nn.Conv2d(widths[-1], 1, KERNEL, stride=1, padding=1)]
        self.net = nn.Sequential(*modules)
        self.apply(_initialize)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Judges patches.

        Args:
            pixel_values: [B, num_channels, H, W] float, [-1, 1]; H and W at least 3 * 2**layers.

        Returns:
            Logits [B, 1, h, w] with h = H // 2**layers - 2, large where a patch looks real.

        Raises:
            UserError: The images have another number of channels or are too small.
        """
        if pixel_values.ndim != 4 or pixel_values.shape[1] != self.num_channels:
            raise UserError(
                f"The discriminator reads images of shape (batch, {self.num_channels}, height, width), got "
                f"{tuple(pixel_values.shape)}: give it the model's pixel_values."
            )
        height, width = pixel_values.shape[-2:]
        if min(height, width) < self.smallest_size:
            raise UserError(
                f"The images have {height} x {width} pixels, but nothing is left of less than {self.smallest_size} "
                "behind the discriminator's layers: give larger images or a discriminator of fewer layers."
            )
        return self.net(pixel_values)


def _norm_layers(norm: str | None, channels: int) -> list[nn.Module]:
    if norm == "batch":
        return [nn.BatchNorm2d(channels)]
    if norm == "group":
        return [nn.GroupNorm(math.gcd(NUM_GROUPS, channels), channels)]
    return []


def _initialize(module: nn.Module) -> None:
    """Normal weights of standard deviation 0.02, around 0 in convolutions and around 1 in batch norms; biases 0."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, INIT_STD)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, INIT_STD)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)


__all__ = ["PatchDiscriminator"]
