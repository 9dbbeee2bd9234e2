"""Masked pictures: written as tokens, some of them taken away, and drawn again with whatever fills the gaps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from PIL import Image

from ..reconstruction import ImageCodec, ImageTokens

# Grey value, of 255, from which a pixel of a mask counts as damaged.
DAMAGED = 128


def masked_patches(mask: Image.Image, grid: tuple[int, int]) -> torch.Tensor:
    """Which tokens a mask takes away: those whose patch has a damaged pixel.

    Args:
        mask: White where a picture is damaged, black elsewhere; its sides are multiples of the grid's.
        grid: (h, w).

    Returns:
        [h, w] bool, True where a token is taken away.
    """
    (height, width), pixels = grid, torch.from_numpy(np.array(mask.convert("L")))
    patches = pixels.view(height, pixels.shape[0] // height, width, pixels.shape[1] // width)
    return patches.amax((1, 3)) >= DAMAGED


@dataclass(frozen=True)
class MaskedPictures:
    """B pictures with masked tokens.

    Args:
        codec: What writes and draws.
        pictures: Of any size and mode.
        tokens: What they are written as, masked tokens included.
        known: [B, h, w] bool, False where a token is masked.
    """

    codec: ImageCodec
    pictures: Sequence[Image.Image]
    tokens: ImageTokens
    known: torch.Tensor

    @cached_property
    def originals(self) -> list[Image.Image]:
        """What the model sees of the pictures: resized and cropped."""
        return self.codec.views(self.pictures)

    @cached_property
    def masked(self) -> list[Image.Image]:
        """What is left of them: the codes of masked tokens are zero (V2L Tokenizer, figure 8, input)."""
        return self.codec.decode(self.tokens, self.known)

    def draw(self, maps: torch.Tensor) -> list[Image.Image]:
        """The pictures with other local tokens [B, h, w]."""
        return self.codec.decode(replace(self.tokens, image_tokens=maps))
