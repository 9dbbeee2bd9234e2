"""The perceptual loss: the mean distance of images from their references in a frozen network's features."""

import torch
from torch import nn

from ..features import PerceptualDistance, load_perceptual_distance


class PerceptualLoss(nn.Module):
    """The mean over a batch of a `PerceptualDistance`, which is frozen and computes in float32 by itself.

    Args:
        distance: The measure.
    """

    def __init__(self, distance: PerceptualDistance):
        super().__init__()
        self.distance = distance

    @property
    def name(self) -> str:
        """The measure's true name, for reports."""
        return self.distance.name

    def forward(self, images: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        """Compares images with references.

        Args:
            images: [B, 3, H, W], any float dtype, [-1, 1]; gradients reach them.
            references: As `images`; gradients do not reach them.

        Returns:
            A float32 scalar, zero for equal images; larger is farther.

        Raises:
            UserError: The shapes differ, are no batches of RGB images, or are too small for the network.
        """
        return self.distance(images, references).mean()


def load_perceptual_loss(kind: str = "auto", device: str | torch.device = "cpu") -> PerceptualLoss | None:
    """Loads the perceptual loss.

    Args:
        kind: "lpips"; "offline-tower"; "auto", LPIPS where its weights are at hand and the offline tower elsewhere; or
            "none".
        device: Where to put it.

    Returns:
        The loss; None for "none".

    Raises:
        UserError: The kind is unknown, or what it needs is not on this machine.
    """
    return None if kind == "none" else PerceptualLoss(load_perceptual_distance(kind, device))


__all__ = ["PerceptualLoss", "load_perceptual_loss"]
