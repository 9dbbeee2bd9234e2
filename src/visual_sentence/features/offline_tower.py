"""The classifier inside the offline joint encoder, as a source of features: EfficientNet-Lite0, trained on ImageNet."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..modeling import V2LImageProcessor, V2LModel
from ..offline import offline_folder
from .frozen import FrozenModule

NAME = "offline-tower"


class OfflineTower(FrozenModule):
    """Features of several depths, and pooled ones.

    Args:
        network: A timm convolutional network with `forward_intermediates`.
        mean: Mean of each channel, of values in [0, 1], that the network was trained with.
        std: Standard deviation likewise.
        resolution: Side of the images that the network was trained on, in pixels.
    """

    network: Any  # of timm, whose classes have no common one
    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float], resolution: int):
        super().__init__()
        self.network = network
        self.resolution = resolution
        means, deviations = torch.tensor(mean).view(1, 3, 1, 1), torch.tensor(std).view(1, 3, 1, 1)
        # (x + 1) / 2 is the value in [0, 1]; both steps of normalisation in one
        self.register_buffer("scale", 0.5 / deviations, persistent=False)
        self.register_buffer("shift", (0.5 - means) / deviations, persistent=False)
        self.freeze()

    @property
    def dim(self) -> int:
        """D, the number of pooled features."""
        return self.network.head_hidden_size

    def layers(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Features of every stage.

        Args:
            images: [B, 3, H, W] float32 in [-1, 1].

        Returns:
            Five tensors [B, C, h, w], of 1/2 to 1/32 of the image's resolution.
        """
        return self.network.forward_intermediates(images * self.scale + self.shift, intermediates_only=True)

    def pooled(self, images: torch.Tensor) -> torch.Tensor:
        """Features before the classifier, averaged over positions: [B, 3, H, W] in [-1, 1] -> [B, D]."""
        features = self.network.forward_features(images * self.scale + self.shift)
        return self.network.forward_head(features, pre_logits=True)


def load_offline_tower() -> OfflineTower:
    """Takes the image classifier out of the offline V2L model.

    Raises:
        UserError: If the offline packages are not installed.
    """
    folder = offline_folder("v2l")
    tower: Any = V2LModel.from_pretrained(folder, dtype=torch.float32).image_tower
    view = V2LImageProcessor.from_pretrained(folder)
    return OfflineTower(tower.model.classifier.timm_model, view.global_mean, view.global_std, view.global_size)
