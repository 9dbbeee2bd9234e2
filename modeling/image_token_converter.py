"""Image tokens as ids of a language model's vocabulary, and back. Level 0."""

from collections.abc import Mapping

import torch

# Stands in `input_ids` where a picture's token is not known yet; no vocabulary has it.
PLACEHOLDER = -1
SPECIALS = ("pad", "begin", "end")


class ImageTokenConverter:
    """The only place that knows where image tokens lie in a vocabulary.

    LVM and DeLVM put token 0 at id 0 and special ids behind the codebook (LVM) or nowhere (DeLVM); a model that grew
    out of a text model has them behind the text.

    Args:
        codebook_size: K.
        offset: Id of image token 0.
        specials: Ids by name: "pad" fills up, "begin" and "end" frame a sentence; each may be absent.
        vocab_size: V, of the language model.

    Raises:
        ValueError: If image tokens or special ids leave the vocabulary, or overlap, or a name is unknown.
    """

    def __init__(self, codebook_size: int, offset: int, specials: Mapping[str, int], vocab_size: int):
        if offset < 0 or offset + codebook_size > vocab_size:
            raise ValueError(
                f"The image tokens are ids {offset} to {offset + codebook_size - 1}, but the language model's "
                f"vocabulary has {vocab_size}: they have to lie inside it."
            )
        for name, number in specials.items():
            if name not in SPECIALS:
                raise ValueError(f"Unknown special token {name!r}: there are {', '.join(SPECIALS)}.")
            if not 0 <= number < vocab_size or offset <= number < offset + codebook_size:
                raise ValueError(
                    f"The special token {name!r} has id {number}, which is an image token's or outside of the "
                    f"vocabulary of {vocab_size}."
                )
        self.codebook_size, self.offset, self.specials = codebook_size, offset, dict(specials)

    @property
    def pad_id(self) -> int:
        """What fills up; any id does where there is none of this name, as padding is never attended to."""
        return self.specials.get("pad", self.offset)

    @property
    def begin_id(self) -> int | None:
        """What every sentence begins with, if anything."""
        return self.specials.get("begin")

    @property
    def end_id(self) -> int | None:
        """What every sentence ends with, if anything."""
        return self.specials.get("end")

    def to_ids(self, image_tokens: torch.Tensor) -> torch.Tensor:
        """Image tokens in [0, K) as ids, of the same shape.

        Raises:
            ValueError: If one is outside of the codebook.
        """
        if image_tokens.numel() and not 0 <= int(image_tokens.min()) <= int(image_tokens.max()) < self.codebook_size:
            raise ValueError(
                f"Image tokens must lie in [0, {self.codebook_size}), found {int(image_tokens.min())} to "
                f"{int(image_tokens.max())}: they are of another codebook."
            )
        return image_tokens + self.offset

    def to_tokens(self, ids: torch.Tensor) -> torch.Tensor:
        """Ids of image tokens as tokens in [0, K), of the same shape.

        Raises:
            ValueError: If one is no image token's.
        """
        tokens = ids - self.offset
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.codebook_size:
            raise ValueError(
                f"Ids of image tokens lie in [{self.offset}, {self.offset + self.codebook_size}), found "
                f"{int(ids.min())} to {int(ids.max())}: they are special ids, or of another vocabulary."
            )
        return tokens

    def is_image(self, ids: torch.Tensor) -> torch.Tensor:
        """Bool, of the same shape: whether ids are image tokens'."""
        return (ids >= self.offset) & (ids < self.offset + self.codebook_size)


__all__ = ["PLACEHOLDER", "ImageTokenConverter"]
