"""How well words fit an image, in the space of a joint image-text encoder: CLIP score and CLIP-R.

Both take embeddings, so that they need no model; "CLIP" in their names is the encoder of the V2L Tokenizer's table 2,
and numbers of different encoders cannot be compared.
"""

import numpy as np
import torch
from torch.nn import functional as F

from ..errors import UserError

Embeddings = torch.Tensor | np.ndarray


def clip_score(word_embeds: Embeddings, image_embeds: Embeddings) -> torch.Tensor:
    """Mean cosine between an image and its words, unscaled (V2L Tokenizer, table 2, "CLIP").

    Args:
        word_embeds: [B, k, D], embeddings of the words of each image, any length.
        image_embeds: [B, D], embeddings of the images, any length.

    Returns:
        [B] float64 in [-1, 1].

    Raises:
        UserError: If the shapes do not fit, or an embedding has no direction.
    """
    words, images = _unit(word_embeds, "word embeddings", 3), _unit(image_embeds, "image embeddings", 2)
    if words.shape[0] != images.shape[0] or words.shape[2] != images.shape[1]:
        raise UserError(
            f"Word embeddings {list(words.shape)} and image embeddings {list(images.shape)} do not fit: they must be "
            "[B, k, D] and [B, D], of one encoder."
        )
    return torch.einsum("bkd,bd->bk", words, images).mean(dim=1)


def clip_r(words: torch.Tensor | np.ndarray, image_embeds: Embeddings, vocabulary_embeds: Embeddings) -> torch.Tensor:
    """Where an image's words stand between the vocabulary's worst and best for it.

    The cosines of an image with the whole vocabulary, min-max normalised to [0, 1] image by image, and of these the
    mean over the image's words: 1 if each is the best there is, 0 if each is the worst. The V2L Tokenizer's table 2
    reports "CLIP-R" without a definition; this one is ours.

    Args:
        words: [B, k] integers, places of each image's words in the vocabulary.
        image_embeds: [B, D].
        vocabulary_embeds: [V, D].

    Returns:
        [B] float64 in [0, 1].

    Raises:
        UserError: If the shapes do not fit, a place lies outside of the vocabulary, or all of the vocabulary is equally
            near to an image.
    """
    words = torch.as_tensor(words).detach().cpu()
    images, vocabulary = (
        _unit(image_embeds, "image embeddings", 2),
        _unit(vocabulary_embeds, "vocabulary embeddings", 2),
    )
    if words.ndim != 2 or not words.shape[1] or words.is_floating_point() or len(words) != len(images):
        raise UserError(
            f"Words must be [{len(images)}, k] places in the vocabulary, found {words.dtype} {list(words.shape)}."
        )
    if images.shape[1] != vocabulary.shape[1]:
        raise UserError(
            f"Image embeddings have {images.shape[1]} numbers and vocabulary embeddings {vocabulary.shape[1]}: take "
            "both from one encoder."
        )
    if int(words.min()) < 0 or int(words.max()) >= len(vocabulary):
        raise UserError(
            f"Words must lie in [0, {len(vocabulary)}), found {int(words.min())} to {int(words.max())}: give their "
            "places in the vocabulary that is given."
        )
    cosines = images @ vocabulary.T
    low, high = cosines.amin(dim=1, keepdim=True), cosines.amax(dim=1, keepdim=True)
    if (high == low).any():
        raise UserError(
            "All of the vocabulary is equally near to an image, so CLIP-R has no range: give the whole vocabulary."
        )
    return ((cosines - low) / (high - low)).gather(1, words.long()).mean(dim=1)


def _unit(embeds: Embeddings, what: str, ndim: int) -> torch.Tensor:
    """Embeddings of unit length, in float64 on the CPU."""
    embeds = torch.as_tensor(embeds).detach().cpu().double()
    if embeds.ndim != ndim or 0 in embeds.shape:
        raise UserError(f"The {what} must have {ndim} dimensions and none empty, found {list(embeds.shape)}.")
    lengths = embeds.norm(dim=-1)
    if not (lengths.isfinite() & (lengths > 0)).all():
        raise UserError(f"The {what} hold a vector of length 0 or NaN, which has no direction: check the encoder.")
    return F.normalize(embeds, dim=-1, eps=0)
