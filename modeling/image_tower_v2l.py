"""Frozen image towers: the image half of three kinds of joint image-text encoder behind one interface.

Every tower maps `pixel_values` [B, 3, H, W], as its own encoder's preprocessing gives them, to embeddings [B, D]
float32, L2-normalised. A tower knows no text and no codebook. Level 3.
"""

import importlib
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel

from .configuration_conse import ConseConfig
from .modeling_conse import ConseModel, sub_config

# The names transformers' dual encoders (CLIP, SigLIP, ALIGN, AltCLIP, ...) give to what only texts pass through.
TEXT_PREFIXES = ("text_", "logit_")


class ImageTower(nn.Module, ABC):
    """What all towers share: features in, unit vectors out.

    Args:
        label_ids: Identifiers of the labels that the tower can be told to do without; empty where it has none.
    """

    def __init__(self, label_ids: list[str] | None = None):
        super().__init__()
        self.label_ids = list(label_ids or [])

    @abstractmethod
    def features(self, pixel_values: torch.Tensor, excluded_labels: torch.Tensor | None) -> torch.Tensor:
        """The encoder's own image features [B, D], any float dtype, any length."""

    def forward(self, pixel_values: torch.Tensor, excluded_labels: torch.Tensor | None = None) -> torch.Tensor:
        """Embeds images.

        Args:
            pixel_values: [B, 3, H, W], as the encoder's preprocessing gives them.
            excluded_labels: [E] int64, labels to do without; only for towers that have labels.

        Returns:
            [B, D] float32, L2-normalised.

        Raises:
            ValueError: If labels are to be left out of a tower that has none.
        """
        if excluded_labels is not None and not self.label_ids:
            raise ValueError("This image tower has no labels that could be left out (excluded_labels was given).")
        pixel_values = pixel_values.to(next(self.parameters()).dtype)
        return F.normalize(self.features(pixel_values, excluded_labels).float(), dim=-1)


class TransformersImageTower(ImageTower):
    """Image half of any transformers model with `get_image_features`; what only texts need is left out.

    Args:
        config: Configuration of the whole dual encoder, as a dict with `model_type`.
        model: The encoder, where it is loaded already; built from `config` with new weights otherwise.
    """

    model: Any  # of whatever class has `get_image_features`

    def __init__(self, config: dict, model: nn.Module | None = None):
        super().__init__()
        self.model = AutoModel.from_config(sub_config(config)) if model is None else model
        if model is None:
            drop_text_half(self.model)

    def features(self, pixel_values: torch.Tensor, excluded_labels: torch.Tensor | None) -> torch.Tensor:
        output = self.model.get_image_features(pixel_values=pixel_values)
        # transformers 5 returns a ModelOutput; remote-code models of older days a tensor
        return output if isinstance(output, torch.Tensor) else output.pooler_output


class OpenClipImageTower(ImageTower):
    """Image half of any open_clip architecture.

    Args:
        config: open_clip's model configuration (`embed_dim`, `vision_cfg`, `text_cfg`, ...).
        model: The encoder's `visual`, where it is loaded already.

    Raises:
        ImportError: If open_clip is not installed.
    """

    def __init__(self, config: dict, model: nn.Module | None = None):
        super().__init__()
        self.model = self._build(config) if model is None else model

    @staticmethod
    def _build(config: dict) -> nn.Module:
        try:
            # not an import statement: who loads another kind of encoder does not need the package
            open_clip = importlib.import_module("open_clip")
        except ImportError as error:
            raise ImportError(
                "This model's image tower is an open_clip architecture, but open_clip is not installed: "
                "run `pip install open_clip_torch`."
            ) from error
        # real tensors even where transformers builds on the meta device: third-party towers may hold
        # non-persistent buffers that no checkpoint brings back
        with torch.device("cpu"):
            arguments = {key: value for key, value in config.items() if key != "custom_text"}
            model_class = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
            visual = model_class(**arguments).visual
        for module in visual.modules():
            vars(module)["_is_hf_initialized"] = True  # keeps open_clip's own initialisation
        return visual

    def features(self, pixel_values: torch.Tensor, excluded_labels: torch.Tensor | None) -> torch.Tensor:
        return self.model(pixel_values)


class ConseImageTower(ImageTower):
    """Image half of a `ConseModel`.

    Args:
        config: A `ConseConfig` as a dict; its text half is left out.
        model: The encoder, where it is loaded already.
    """

    def __init__(self, config: dict, model: ConseModel | None = None):
        super().__init__(config["label_ids"])
        if model is None:
            model = ConseModel(ConseConfig.from_dict({**config, "text_config": None, "dtype": None}))
        self.model = model

    def features(self, pixel_values: torch.Tensor, excluded_labels: torch.Tensor | None) -> torch.Tensor:
        found = self.model.get_image_features(pixel_values, excluded_labels=excluded_labels).pooler_output
        assert found is not None  # a ConseModel always gives it
        return found


def drop_text_half(model: nn.Module) -> None:
    """Removes, in place, the modules and parameters of a dual encoder that only texts pass through."""
    for name in [*model._modules, *model._parameters]:
        if name.startswith(TEXT_PREFIXES):
            setattr(model, name, None)
    # some models' own initialisation reaches for the parts that are gone; what is left was initialised when built
    vars(model)["_is_hf_initialized"] = True


IMAGE_TOWERS = {"transformers": TransformersImageTower, "open_clip": OpenClipImageTower, "conse": ConseImageTower}


def build_image_tower(encoder_type: str, encoder_config: dict) -> ImageTower:
    """Builds the tower that a `V2LConfig` describes, with new weights.

    Args:
        encoder_type: "transformers", "open_clip" or "conse".
        encoder_config: The tower's own configuration.
    """
    return IMAGE_TOWERS[encoder_type](encoder_config)


__all__ = ["ImageTower", "build_image_tower"]
