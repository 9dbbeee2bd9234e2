"""Frozen: an image tower and a linear map from images to a frozen language model's word embeddings.

Source: Tsimpoukelli et al. 2021 (https://arxiv.org/abs/2106.13884), section 3.1. The model holds no language model,
only the width and the name of one. Level 4.
"""

import os
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .configuration_frozen import FrozenConfig
from .image_tower_v2l import build_image_tower
from .vector_quantization import GIVEN


@dataclass
class FrozenOutput(ModelOutput):
    """What a `FrozenModel` makes of B images.

    Args:
        prefix_embeds: [B, n, H], in the mapping's dtype; stand in front of a text's word embeddings.
        image_embeds: [B, D] float32, L2-normalised, what the mapping saw.
    """

    prefix_embeds: torch.Tensor = GIVEN
    image_embeds: torch.Tensor = GIVEN


class FrozenModel(PreTrainedModel):
    """Images to n embeddings each, in the space of a language model's word embeddings.

    Args:
        config: What it is made of.

    Example:
        >>> views = image_processor(image, return_tensors="pt", do_local_view=False)
        >>> model(views["global_pixel_values"]).prefix_embeds.shape
        torch.Size([1, 2, 576])
    """

    config: FrozenConfig
    config_class = FrozenConfig
    base_model_prefix = "frozen"
    main_input_name = "global_pixel_values"
    input_modalities = ["image"]
    _supports_sdpa = True

    def __init__(self, config: FrozenConfig):
        super().__init__(config)
        self.image_tower = build_image_tower(config.encoder_type, config.encoder_config)
        self.mapping = nn.Linear(config.embedding_dim, config.num_prefix_tokens * config.hidden_size)
        vars(self.mapping)["is_mapping"] = True  # told apart from the tower's layers, which start in their own way
        self.post_init()
        self.freeze()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear) and getattr(module, "is_mapping", False):
            init.normal_(module.weight, std=self.config.initializer_range)
            init.zeros_(module.bias)
        else:
            super()._init_weights(module)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, *args, **kwargs):
        """As `PreTrainedModel.from_pretrained`; freezes what is not to be trained."""
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        (loaded[0] if isinstance(loaded, tuple) else loaded).freeze()  # loading makes every parameter trainable again
        return loaded

    def freeze(self) -> None:
        """Makes the tower trainable or not, as the config says."""
        tower = self.image_tower.requires_grad_(self.config.tower_trainable)
        tower.eval()  # trained or not, see `train`

    def train(self, mode: bool = True) -> "FrozenModel":
        """As `nn.Module.train`; the tower stays in evaluation mode, trained or not.

        A language model leaves room for small batches only, whose statistics would spoil those that a tower has.
        """
        super().train(mode)
        self.image_tower.eval()  # for that reason
        return self

    def trainable_parameters(self) -> list[nn.Parameter]:
        """What an optimizer is to move."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def embed_images(
        self, global_pixel_values: torch.Tensor, excluded_labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Image embeddings [B, D] float32, L2-normalised, of images [B, 3, S, S].

        Args:
            global_pixel_values: [B, 3, S, S], as the tower's preprocessing gives them.
            excluded_labels: [E] int64, labels that the tower is to do without, where it has labels.

        Raises:
            ValueError: If the shape is another, or labels are to be left out of a tower that has none.
        """
        if global_pixel_values.ndim != 4 or global_pixel_values.shape[1] != 3:
            raise ValueError(
                f"global_pixel_values must be (batch, 3, height, width), got {tuple(global_pixel_values.shape)}: "
                "pass the images through the model's image processor."
            )
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.tower_trainable):
            return self.image_tower(global_pixel_values, excluded_labels)

    def forward(
        self,
        global_pixel_values: torch.Tensor | None = None,
        image_embeds: torch.Tensor | None = None,
        excluded_labels: torch.Tensor | None = None,
    ) -> FrozenOutput:
        """Maps images to prefixes.

        Args:
            global_pixel_values: [B, 3, S, S], as the tower's preprocessing gives them.
            image_embeds: [B, D], what `embed_images` made of images before, in their place.
            excluded_labels: As of `embed_images`.

        Raises:
            ValueError: If not exactly one of the two is given, or a shape is wrong.
        """
        if image_embeds is None and global_pixel_values is not None:
            image_embeds = self.embed_images(global_pixel_values, excluded_labels)
        elif image_embeds is None or global_pixel_values is not None:
            raise ValueError("Give either global_pixel_values or image_embeds: a prefix is made of one image.")
        config = self.config
        if image_embeds.ndim != 2 or image_embeds.shape[1] != config.embedding_dim:
            raise ValueError(
                f"image_embeds must be (batch, {config.embedding_dim}), got {tuple(image_embeds.shape)}: they are of "
                "another tower."
            )
        prefix = self.mapping(image_embeds.to(self.mapping.weight.dtype))
        return FrozenOutput(prefix.view(-1, config.num_prefix_tokens, config.hidden_size), image_embeds)


__all__ = ["FrozenModel", "FrozenOutput"]
