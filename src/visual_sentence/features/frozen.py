"""What all frozen networks share: they never learn, never leave evaluation mode, and compute in float32."""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import UserError

MIN_SIZE = 32  # below, the deepest layers of every network here have nothing left to look at


class FrozenModule(nn.Module):
    """A network that is used and never trained."""

    def freeze(self) -> None:
        """Ends construction: no parameter learns, and no statistics move."""
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "FrozenModule":
        """Stays in evaluation mode whatever the model around it does, so that batch statistics stay as they are."""
        return super().train(False)


def check_images(images: torch.Tensor, min_size: int = MIN_SIZE) -> None:
    """Refuses what is no batch of RGB images.

    Args:
        images: What should be [B, 3, H, W], any float dtype.
        min_size: Smallest H and W that make sense.

    Raises:
        UserError: If the shape, the dtype or the size is another.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise UserError(
            f"Images must be floating point [B, 3, H, W] in [-1, 1], found {images.dtype} {list(images.shape)}: "
            "pass them through the model's image processor."
        )
    if min(images.shape[2:]) < min_size:
        raise UserError(
            f"Images of {images.shape[2]} x {images.shape[3]} pixels are too small for this network, which needs "
            f"{min_size} x {min_size}: enlarge them, or use the resolution option."
        )


def enlarge(images: torch.Tensor, resolution: int) -> torch.Tensor:
    """Scales images up, bilinearly, until the shorter side has `resolution` pixels; larger ones stay as they are.

    Args:
        images: [B, C, H, W].
        resolution: Pixels of the shorter side.
    """
    shorter = min(images.shape[2:])
    if shorter >= resolution:
        return images
    size = [round(side * resolution / shorter) for side in images.shape[2:]]
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False)


def hub_checkpoint(name: str) -> Path:
    """Where torch.hub keeps a weights file of that name; nothing is downloaded, the file may be absent."""
    return Path(torch.hub.get_dir()) / "checkpoints" / name
