"""From pictures to words: a V2L model with its image processor, fed in batches.

The short way for everything that wants an image's words: command line, evaluation, demo.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

from .errors import UserError
from .image_io import open_image
from .language import choose_device
from .modeling import V2LImageProcessor, V2LModel
from .progress import progress_bar
from .references import LOADING_ERRORS, load_config, resolve, unreachable

T = TypeVar("T")


@dataclass(frozen=True)
class ImageWords:
    """What was found in one picture.

    Args:
        words: k words, nearest first.
        token_ids: The language model's ids of each.
        distances: Their Euclidean distances in the joint space.
        image_embeds: [D] float32, the picture's place there.
    """

    words: list[str]
    token_ids: list[list[int]]
    distances: list[float]
    image_embeds: torch.Tensor


class Finder(Protocol):
    """Finds the words of pictures."""

    @property
    def labels(self) -> list[str]:
        """Identifiers of the labels that can be left out."""

    def find(
        self,
        images: Iterable[Image.Image],
        num_words: int | None = None,
        batch_size: int = 32,
        excluded_labels: Sequence[str] = (),
        total: int | None = None,
    ) -> Iterator["ImageWords"]:
        """The words of each picture, the nearest first."""


class WordFinder:
    """Finds the words of pictures.

    Args:
        model: A V2L model with a vocabulary.
        image_processor: Its image processor.

    Raises:
        UserError: If the model has no words.
    """

    def __init__(self, model: V2LModel, image_processor: V2LImageProcessor):
        if model.vocabulary is None:
            raise UserError(
                "This V2L model has no codebook.json, so its tokens have no words: build a codebook for it."
            )
        self.model = model.eval()
        self.image_processor = image_processor

    @classmethod
    def load(cls, reference: str, device: str | None = None) -> "WordFinder":
        """Loads a V2L model.

        Args:
            reference: "offline", a folder or a Hub id.
            device: Where to put it; the first accelerator by default.

        Raises:
            UserError: If there is no such model, it is of another kind, or the device is unknown.
        """
        device = choose_device(device)
        folder = resolve(reference, "v2l")
        config = load_config(reference, folder)
        if config.model_type not in ("v2l", "lqae", "spae"):
            raise UserError(f"{reference} is a {config.model_type} model; words are found by a V2L model.")
        try:
            model = AutoModel.from_pretrained(folder)
            image_processor = AutoImageProcessor.from_pretrained(folder)
        except LOADING_ERRORS as error:
            raise unreachable(reference, error) from error
        return cls(model.to(device), image_processor)

    @property
    def labels(self) -> list[str]:
        """Identifiers of the labels that the image tower was taught, where it is built on a classifier."""
        tower = self.model.image_tower
        return [] if tower is None else tower.label_ids

    def find(
        self,
        images: Iterable[Image.Image],
        num_words: int | None = None,
        batch_size: int = 32,
        excluded_labels: Sequence[str] = (),
        total: int | None = None,
    ) -> Iterator[ImageWords]:
        """Finds words, a batch of pictures at a time.

        Args:
            images: Pictures; taken as they are needed.
            num_words: k; the model's own number by default.
            batch_size: Pictures a forward pass.
            excluded_labels: Labels, of `labels`, that the image tower is to do without.
            total: How many pictures there are, for the progress bar.

        Yields:
            The words of each picture, in order.

        Raises:
            UserError: If more words are asked for than the codebook has distinct ones.
        """
        places = [index for index, label in enumerate(self.labels) if label in set(excluded_labels)]
        excluded = torch.tensor(places, dtype=torch.long) if places else None
        device = next(self.model.parameters()).device
        with progress_bar("finding words", total) as bar:
            for batch in batched(images, batch_size):
                views = self.image_processor(batch, return_tensors="pt", do_local_view=False)
                try:
                    output = self.model.encode(
                        global_pixel_values=views["global_pixel_values"].to(device),
                        num_global_tokens=num_words,
                        excluded_labels=excluded,
                    )
                except ValueError as error:
                    raise UserError(str(error)) from error
                words, token_ids = output.global_words, output.global_token_ids
                distances, embeds = output.global_distances, output.image_embeds
                assert words is not None and token_ids is not None  # the model has its vocabulary
                assert distances is not None and embeds is not None
                yield from map(ImageWords, words, token_ids, distances.tolist(), embeds.cpu())
                bar.advance(len(batch))

    def find_in_files(self, paths: Sequence[Path], num_words: int | None = None) -> Iterator[ImageWords]:
        """As `find`, for files, which are opened as they are needed."""
        return self.find(map(open_image, paths), num_words, total=len(paths))


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cuts `items` into lists of `size`; the last may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
