"""Words of pictures for few-shot prompts, where they are not a V2L model's global words."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import torch
from PIL import Image
from torch.nn import functional as F

from ..errors import UserError
from ..reconstruction import ImageCodec
from ..words import ImageWords, batched

# What stands for an entry that is white space only, which in a prompt would be no word.
BLANK = "_"


class LocalWordFinder:
    """Gives a picture the first of its local tokens as words (LQAE: all; SPAE: the pyramid's first layers).

    Args:
        codec: A model of the V2L family with words.

    Raises:
        UserError: If it has none.
    """

    def __init__(self, codec: ImageCodec):
        if codec.words is None:
            raise UserError(f"{codec.name} has no words for its tokens: give a model with a local_vocabulary.json.")
        self.codec = codec

    @property
    def labels(self) -> list[str]:
        """None: nothing here was taught labels."""
        return []

    @torch.no_grad()
    def find(
        self,
        images: Iterable[Image.Image],
        num_words: int | None = None,
        batch_size: int = 16,
        excluded_labels: Sequence[str] = (),
        total: int | None = None,
    ) -> Iterator[ImageWords]:
        """The words of pictures, in order; arguments as of `WordFinder.find`.

        `image_embeds` is the mean latent, of length 1, for the reference that asks no language model.
        """
        codec, every = self.codec, self.codec.words
        assert every is not None  # its tokens are words
        for batch in batched(images, batch_size):
            views = codec.image_processor(list(batch), return_tensors="pt", do_global_view=False)
            output = codec.model.encode(pixel_values=views["pixel_values"].to(codec.model.device))
            embeds = F.normalize(output.latents.float().mean((2, 3)), dim=1).cpu()
            rows = output.local_tokens.flatten(1)[:, :num_words].tolist()
            for row, embed in zip(rows, embeds, strict=True):
                words = [every[token].strip() or BLANK for token in row]
                yield ImageWords(words, [[token] for token in row], [], embed)


class RememberingFinder:
    """Finds the words of each picture once.

    Args:
        finder: What finds them.
    """

    def __init__(self, finder: Any):
        self.finder = finder
        self._known: dict[str, ImageWords] = {}

    @property
    def labels(self) -> list[str]:
        """The finder's."""
        return self.finder.labels

    def find(
        self, images: Iterable[Image.Image], num_words: int | None = None, *args: Any, **options: Any
    ) -> Iterator[ImageWords]:
        """As the finder's, for one number of words."""
        pictures = list(images)
        keys = [sha256(f"{num_words} {picture.size}".encode() + picture.tobytes()).hexdigest() for picture in pictures]
        missing = {key: picture for key, picture in zip(keys, pictures, strict=True) if key not in self._known}
        options.pop("total", None)
        found = self.finder.find(missing.values(), num_words, *args, total=len(missing), **options)
        self._known.update(zip(missing, found, strict=True))
        return (replace(self._known[key]) for key in keys)


__all__ = ["LocalWordFinder", "RememberingFinder"]
