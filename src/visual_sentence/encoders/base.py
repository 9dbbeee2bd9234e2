"""The interface that every joint image-text encoder obeys.

An encoder maps pictures and texts to unit vectors of one space. It knows no language model and no codebook.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property

import torch
from PIL import Image

from ..modeling.image_processing_v2l import V2LImageProcessor
from ..modeling.image_tower_v2l import ImageTower

# Largest difference at which a text encoded without padding counts as equal to one padded to the full length.
PADDING_TOLERANCE = 1e-5


class JointEncoder(ABC):
    """A joint image-text encoder.

    Args:
        name: The reference it was loaded from.
        tower: Its image half.
        tower_config: What `build_image_tower` needs to build that half anew.
        image_processor: Makes the view that the tower was trained on.
    """

    encoder_type: str

    def __init__(self, name: str, tower: ImageTower, tower_config: dict, image_processor: V2LImageProcessor):
        self.name = name
        self.tower = tower.eval()
        self.tower_config = tower_config
        self.image_processor = image_processor

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.tower.parameters()).device

    @cached_property
    def embedding_dim(self) -> int:
        """D, width of the joint space."""
        return self.encode_texts(["a"]).shape[1]

    @cached_property
    def allows_short_batches(self) -> bool:
        """Whether a text's embedding does not depend on how far it is padded, found by trying.

        True for causal text towers pooled at the end token (CLIP) and for attention-masked ones (BERT), false where
        the pooled position is the last of a fixed length (SigLIP).
        """
        ids = self.tokenize(["a photo of a cat"])
        short = self._padded_text_features(ids, length=len(ids[0]))
        full = self._padded_text_features(ids, length=self.text_length)
        return bool(torch.allclose(short, full, atol=PADDING_TOLERANCE, rtol=0))

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Embeds pictures.

        Args:
            images: B pictures of any size and mode.

        Returns:
            [B, D] float32, L2-normalised, on the CPU.
        """
        views = self.image_processor(list(images), return_tensors="pt", do_local_view=False)
        return self.tower(views["global_pixel_values"].to(self.device)).cpu()

    @torch.inference_mode()
    def encode_token_ids(self, batch: Sequence[Sequence[int]]) -> torch.Tensor:
        """Embeds tokenized texts, padded to the longest of the batch where that leaves the result unchanged.

        Args:
            batch: N lists of ids, special tokens included, not padded, as `tokenize` gives them.

        Returns:
            [N, D] float32, L2-normalised, on the CPU.
        """
        length = max(len(ids) for ids in batch) if self.allows_short_batches else self.text_length
        return self._padded_text_features(batch, length)

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Embeds texts in one batch: `tokenize`, then `encode_token_ids`.

        Returns:
            [N, D] float32, L2-normalised, on the CPU.
        """
        return self.encode_token_ids(self.tokenize(texts))

    @torch.inference_mode()
    def _padded_text_features(self, batch: Sequence[Sequence[int]], length: int) -> torch.Tensor:
        """Pads N lists of ids to `length` columns and embeds them: [N, D] float32, L2-normalised, on the CPU."""
        input_ids = torch.full((len(batch), length), self.pad_id)
        attention_mask = torch.zeros((len(batch), length), dtype=torch.long)
        for row, ids in enumerate(batch):
            input_ids[row, : len(ids)] = torch.tensor(ids)
            attention_mask[row, : len(ids)] = 1
        features = self._text_features(input_ids.to(self.device), attention_mask.to(self.device))
        return torch.nn.functional.normalize(features.float(), dim=-1).cpu()

    @property
    @abstractmethod
    def pad_id(self) -> int:
        """The id that fills up a text."""

    @property
    @abstractmethod
    def text_length(self) -> int:
        """The longest text in tokens, special tokens included."""

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of N texts, special tokens included, not padded, cut at `text_length`."""

    @abstractmethod
    def whole_words(self, texts: Sequence[str]) -> list[bool]:
        """Whether every word of a text is one whole entry of the text encoder's vocabulary, for each of N texts."""

    @abstractmethod
    def _text_features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """The encoder's own text features [N, D] of ids [N, T] and mask [N, T], any float dtype, any length."""
