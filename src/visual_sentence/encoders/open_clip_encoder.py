"""Adapter for open_clip architectures, with weights of a tag, a file or a folder."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import open_clip
import torch
from torch.func import functional_call
from transformers.image_utils import PILImageResampling

from ..errors import UserError
from ..modeling.image_processing_v2l import V2LImageProcessor
from ..modeling.image_tower_v2l import OpenClipImageTower
from ..references import LOADING_ERRORS
from .base import JointEncoder

PREFIX = "open_clip:"
FOLDER_PREFIXES = ("local-dir:", "hf-hub:")


class OpenClipJointEncoder(JointEncoder):
    """Any open_clip model.

    Args:
        name: The reference it was loaded from.
        model: The open_clip model.
        tokenizer: Its tokenizer, texts to padded ids.
        model_config: Its model configuration (`embed_dim`, `vision_cfg`, `text_cfg`, ...).
        image_processor: Makes its image tower's view.
    """

    encoder_type = "open_clip"

    def __init__(
        self,
        name: str,
        model: torch.nn.Module,
        tokenizer,
        model_config: dict,
        image_processor: V2LImageProcessor,
    ):
        # open_clip switches the activation when it loads OpenAI's weights; the copy must do the same
        uses_quick_gelu = any(type(module).__name__ == "QuickGELU" for module in model.modules())
        tower_config = {**model_config, "quick_gelu": uses_quick_gelu}
        visual: Any = model.visual
        super().__init__(name, OpenClipImageTower(tower_config, model=visual), tower_config, image_processor)
        self.model = model
        self.tokenizer = tokenizer
        self._pad_id = int(tokenizer(["a"])[0, -1])  # the last position of a one-letter text is padding
        self._text_prefix = "text." if hasattr(model, "text") else ""

    @classmethod
    def load(cls, reference: str, device: str) -> "OpenClipJointEncoder":
        """Loads `open_clip:ARCH@TAG`, `open_clip:ARCH@FILE`, `open_clip:local-dir:FOLDER` or `open_clip:hf-hub:ID`.

        Raises:
            UserError: If the architecture is unknown, no weights are named, or they cannot be had.
        """
        architecture, weights = reference.removeprefix(PREFIX), ""
        if not architecture.startswith(FOLDER_PREFIXES):
            architecture, _, weights = architecture.partition("@")
            _check_weights(reference, architecture, weights)
        try:
            model = open_clip.create_model(architecture, pretrained=weights or None, device=device)
            model_config = open_clip.get_model_config(architecture)
            tokenizer = open_clip.get_tokenizer(architecture)
        except LOADING_ERRORS as error:
            said = shorten(str(error), 300, placeholder=" ...")  # a misfit names every tensor
            raise UserError(f"{reference} cannot be loaded by open_clip ({said}): check the weights.") from error
        assert model_config is not None  # as there is a model of it
        return cls(reference, model.eval(), tokenizer, model_config, _view(reference, model))

    @property
    def pad_id(self) -> int:
        return self._pad_id

    @property
    def text_length(self) -> int:
        return self.tokenizer.context_length

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        rows = self.tokenizer(list(texts)).tolist()
        return [_strip_padding(row, self._pad_id) for row in rows]

    def whole_words(self, texts: Sequence[str]) -> list[bool]:
        empty = len(self.tokenize([""])[0])  # the special tokens around a text
        words = sorted({word for text in texts for word in text.split()})
        lengths = dict(zip(words, map(len, self.tokenize(words)), strict=True)) if words else {}
        return [all(lengths[word] == empty + 1 for word in text.split()) for text in texts]

    def _text_features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        # open_clip always adds all its positions; lending it shorter ones for this call reads shorter texts
        length, state = input_ids.shape[1], {}
        position_name, mask_name = f"{self._text_prefix}positional_embedding", f"{self._text_prefix}attn_mask"
        positions = dict(self.model.named_parameters()).get(position_name)
        mask = dict(self.model.named_buffers()).get(mask_name)
        if positions is not None and length < positions.shape[0]:
            state[position_name] = positions[:length]
            if mask is not None:
                state[mask_name] = mask[:length, :length]
        output = functional_call(self.model, state, kwargs={"text": input_ids})
        return output["text_features"] if isinstance(output, dict) else output[1]

    @property
    def allows_short_batches(self) -> bool:
        try:
            return super().allows_short_batches
        except RuntimeError:  # a text tower that insists on its full length
            return False


def _check_weights(reference: str, architecture: str, weights: str) -> None:
    """Refuses unknown architectures and weights before anything is built or fetched."""
    if open_clip.get_model_config(architecture) is None:
        raise UserError(
            f"{reference}: open_clip has no architecture {architecture!r}; `python -c 'import open_clip; "
            "print(open_clip.list_models())'` lists them."
        )
    if not weights:
        raise UserError(
            f"{reference} names no weights, so its embeddings would be random: write open_clip:{architecture}@TAG or "
            f"open_clip:{architecture}@FILE."
        )
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if weights not in tags and not Path(weights).is_file():
        raise UserError(
            f"{reference}: {weights!r} is neither a file nor one of open_clip's tags for {architecture} "
            f"({', '.join(tags) or 'it has none'})."
        )


def _strip_padding(ids: list[int], pad_id: int) -> list[int]:
    """Cuts the padding off the end of a row of ids."""
    end = len(ids)
    while end > 1 and ids[end - 1] == pad_id:
        end -= 1
    return ids[:end]


def _view(reference: str, model: torch.nn.Module) -> V2LImageProcessor:
    """The view that the model's image tower was trained on."""
    config = open_clip.get_model_preprocess_cfg(model)
    size = config["size"] if isinstance(config["size"], int) else config["size"][0]
    mode = config.get("resize_mode") or "shortest"
    if mode == "longest":
        raise UserError(
            f"{reference} pads its pictures (resize mode 'longest'), which is not supported: choose another."
        )
    bicubic = (config.get("interpolation") or "bicubic") == "bicubic"
    return V2LImageProcessor(
        global_size=size,
        global_crop=mode == "shortest",
        global_resample=PILImageResampling.BICUBIC if bicubic else PILImageResampling.BILINEAR,
        global_mean=config["mean"],
        global_std=config["std"],
    )
