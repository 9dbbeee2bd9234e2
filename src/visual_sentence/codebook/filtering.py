"""The image filter: which candidates come near to any image at all.

V2L Tokenizer, arXiv 2403.07874, section 3.2: for every image of a large set the 5 most similar candidates
are noted; a candidate that is never noted is left out. Memory does not grow with the number of images.
"""

from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ..errors import UserError
from ..progress import Tracker, progress_bar
from .steps import ChunkFolder

# Similarities held at a time: 64 MiB of float32.
SIMILARITY_BUDGET = 2**24


class ImageEncoder(Protocol):
    """The part of a joint encoder that reads images."""

    @property
    def name(self) -> str:
        """What records call it."""

    @property
    def embedding_dim(self) -> int:
        """D, width of its vectors."""

    def encode_images(self, images: list[Image.Image]) -> torch.Tensor:
        """Unit vectors, float32 [B, D]."""


def encode_image_set(
    encoder: ImageEncoder,
    images: Iterable[Image.Image],
    *,
    folder: Path,
    images_name: str = "",
    batch_size: int = 64,
    shard_size: int = 4096,
) -> ChunkFolder:
    """Writes the features of all images to disk; a rerun with the same settings skips those already there.

    Args:
        encoder: The joint encoder's image half, D dimensions.
        images: RGB images in an order that is the same in every run. Of a sequence only the missing images
            are fetched; any other iterable is read from its start.
        folder: Where the features are kept.
        images_name: What the images are, to tell their features from another set's.
        batch_size: Images per forward pass.
        shard_size: Images per file.

    Returns:
        The shards, float16 [at most `shard_size`, D] each.

    Raises:
        UserError: `folder` holds results of other settings, or there is no image.
    """
    total = len(images) if isinstance(images, Sized) else None
    settings = {
        "encoder": encoder.name,
        "embedding_dim": encoder.embedding_dim,
        "images": images_name,
        "number_of_images": total,
        "shard_size": shard_size,
    }
    shards = ChunkFolder(folder, settings)
    if shards.finished:
        return shards
    done = shards.rows
    with progress_bar("Encoding the filter images", total, done=done) as bar:
        remaining = _from_position(images, done)
        # Only one batch of pictures is in memory: 4,096 decoded photographs would be gigabytes.
        while shard := list(_encode_batches(encoder, islice(remaining, shard_size), batch_size, bar)):
            shards.append(torch.cat(shard).numpy())
    if not shards.rows:
        raise UserError(f"The image set {images_name!r} is empty, so nothing could be kept: give at least one image.")
    shards.finish()
    return shards


def _encode_batches(
    encoder: ImageEncoder, images: Iterator[Image.Image], batch_size: int, bar: Tracker
) -> Iterator[torch.Tensor]:
    while batch := list(islice(images, batch_size)):
        yield encoder.encode_images(batch).to("cpu", torch.float16)
        bar.advance(len(batch))


def _from_position(images: Iterable[Image.Image], start: int) -> Iterator[Image.Image]:
    if isinstance(images, Sequence):
        return (images[i] for i in range(start, len(images)))
    return islice(images, start, None)


def mean_feature(shards: Iterable[np.ndarray]) -> torch.Tensor:
    """The mean of all image features.

    Args:
        shards: Features [n, D] each, as `encode_image_set` wrote them.

    Returns:
        float32 [D].
    """
    total, count = 0.0, 0
    for shard in shards:
        total = total + shard.sum(0, dtype=np.float64)
        count += len(shard)
    return torch.from_numpy(total / count).float()


def center(features: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Subtracts `mean` [D] from `features` [N, D] and scales the rows to length 1.

    What all images (or all words) have in common says nothing about any of them, but draws every image to
    the same few words.
    """
    return F.normalize(features - mean, dim=-1)


def count_top_items(
    shards: Iterable[np.ndarray],
    codes: torch.Tensor,
    image_center: torch.Tensor,
    *,
    top_per_image: int = 5,
    device: str | torch.device = "cpu",
) -> torch.Tensor:
    """Counts in how many images' top places each candidate is; similarity is the dot product.

    Args:
        shards: Image features [n, D] each, as `encode_image_set` wrote them.
        codes: float32 [N, D], the candidates; already centred where the images are to be.
        image_center: float32 [D], subtracted from the image features; zeros where nothing is centred.
        top_per_image: Places per image.
        device: Where the similarities are computed.

    Returns:
        int64 [N].
    """
    codes, image_center = codes.to(device), image_center.to(device)
    places = min(top_per_image, len(codes))
    counts = torch.zeros(len(codes), dtype=torch.int64, device=device)
    rows = max(1, SIMILARITY_BUDGET // len(codes))
    for shard in shards:
        for start in range(0, len(shard), rows):
            features = torch.from_numpy(shard[start : start + rows].astype(np.float32)).to(device)
            # Not scaled to length 1 again: the order of the codes is the same at any length.
            top = ((features - image_center) @ codes.T).topk(places).indices
            counts += torch.bincount(top.flatten(), minlength=len(codes))
    return counts.cpu()


def frequent_items(counts: torch.Tensor, min_count: int) -> torch.Tensor:
    """Picks the candidates that were counted often enough.

    Args:
        counts: int64 [N].
        min_count: Images that must have noted a candidate: 1 in the paper, 101 in the published code.

    Returns:
        int64, the positions of the candidates that stay.

    Raises:
        UserError: None was.
    """
    kept = torch.nonzero(counts >= min_count).flatten()
    if not len(kept):
        raise UserError(
            f"No word is among the nearest of at least {min_count} images; the largest count is "
            f"{int(counts.max())}. Lower min_count or filter with more images."
        )
    return kept
