"""Adapter for transformers' dual encoders (CLIP, SigLIP, ALIGN, ...) and, built like one, for ConSE."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ..errors import UserError
from ..modeling.image_processing_v2l import V2LImageProcessor
from ..modeling.image_tower_v2l import ConseImageTower, TransformersImageTower
from .base import JointEncoder


class TransformersJointEncoder(JointEncoder):
    """Any transformers model with `get_image_features` and `get_text_features`.

    Args:
        name: The folder or Hub id it was loaded from.
        model: The dual encoder.
        tokenizer: Its tokenizer.
        image_processor: Makes its image tower's view.
    """

    encoder_type = "transformers"
    tower_class = TransformersImageTower

    def __init__(
        self,
        name: str,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        image_processor: V2LImageProcessor,
    ):
        tower_config = model.config.to_dict()
        super().__init__(name, self.tower_class(tower_config, model=model), tower_config, image_processor)
        self.model: Any = model  # of whatever class has `get_text_features`
        self.tokenizer = tokenizer

    @classmethod
    def load(cls, reference: str, config: PretrainedConfig, device: str) -> "TransformersJointEncoder":
        """Loads model, tokenizer and image processor of a folder or Hub id.

        Raises:
            UserError: If the model has no joint space.
        """
        model = AutoModel.from_pretrained(reference, config=config).to(device).eval()
        if not (hasattr(model, "get_image_features") and hasattr(model, "get_text_features")):
            raise UserError(
                f"{reference} is a {config.model_type} model, which does not embed images and texts in one space: "
                "give a CLIP-like model, an open_clip architecture (open_clip:ARCH@TAG) or 'offline'."
            )
        tokenizer = AutoTokenizer.from_pretrained(reference)
        assert tokenizer is not None  # said of classes that want a package which is not installed
        return cls(reference, model, tokenizer, load_view(reference))

    @property
    def pad_id(self) -> int:
        return self.tokenizer.pad_token_id or 0

    @property
    def text_length(self) -> int:
        text_config = self.model.config.get_text_config()
        return min(text_config.max_position_embeddings, self.tokenizer.model_max_length)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return self.tokenizer(list(texts), truncation=True, max_length=self.text_length)["input_ids"]

    def whole_words(self, texts: Sequence[str]) -> list[bool]:
        return [all(self._is_whole(word) for word in text.split()) for text in texts]

    def _is_whole(self, word: str) -> bool:
        pieces = self.tokenizer.tokenize(word)
        return len(pieces) == 1 and pieces[0] != self.tokenizer.unk_token

    def _text_features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        # a tokenizer that gives no mask belongs to a text tower that was trained to read its padding (SigLIP)
        inputs = {name: inputs[name] for name in inputs if name in self.tokenizer.model_input_names}
        output = self.model.get_text_features(**inputs)
        return output if isinstance(output, torch.Tensor) else output.pooler_output


class ConseJointEncoder(TransformersJointEncoder):
    """A `ConseModel` with its sentence encoder's tokenizer."""

    encoder_type = "conse"
    tower_class = ConseImageTower

    @property
    def text_length(self) -> int:
        # sentence encoders read short texts; a full-length one would only slow the padding probe down
        return min(128, self.model.config.text_config["max_position_embeddings"], self.tokenizer.model_max_length)

    def _is_whole(self, word: str) -> bool:
        return super()._is_whole(word) or word.lower() in self._label_words

    @property
    def _label_words(self) -> frozenset[str]:
        return frozenset(self.model.config.label_words)


def load_view(reference: str) -> V2LImageProcessor:
    """Reads, from a saved image processor of any kind, the view that an image tower was trained on.

    Args:
        reference: A folder or Hub id.
    """
    source = AutoImageProcessor.from_pretrained(reference)
    if isinstance(source, V2LImageProcessor):
        return source
    size, crop = dict(source.size), dict(getattr(source, "crop_size", None) or {})
    resize = size.get("shortest_edge") or size["height"]
    crops = bool(getattr(source, "do_center_crop", False))
    return V2LImageProcessor(
        global_size=crop["height"] if crops else resize,
        global_resize=resize,
        global_crop="shortest_edge" in size,
        global_resample=int(source.resample),
        global_mean=source.image_mean,
        global_std=source.image_std,
    )
