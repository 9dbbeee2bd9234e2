"""What may be given to a pipeline: one picture in any form, and collections of them, read as they are needed."""

from collections.abc import Iterable, Iterator, Mapping
from http.client import HTTPException
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset

from ..errors import UserError
from ..image_io import PICTURE_ERRORS, open_image
from ..modeling.image_processing_v2l import to_rgb

# What stands for one picture; a mapping holds it under "image", or as "bytes" or "path" as `datasets` writes it.
Picture = Image.Image | np.ndarray | torch.Tensor | str | Path | Mapping
FETCH_SECONDS = 60
# What a picture that cannot be read raises on its way in.
READING_ERRORS = (*PICTURE_ERRORS, HTTPException)  # URLs that fail raise an OSError


class Unreadable:
    """Stands for a picture that its data set could not give.

    Args:
        error: Why.
    """

    def __init__(self, error: Exception):
        self.error = error


class PictureTable(Dataset):
    """Anything with a length and places, as transformers streams from it; a row that cannot be decoded is marked.

    Args:
        rows: A sequence, a `datasets.Dataset`, a `KeyDataset`, ...
    """

    def __init__(self, rows: Any):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.rows[index]
        except READING_ERRORS as error:  # data sets decode a picture when its row is asked for
            return Unreadable(error)


class PictureStream(IterableDataset):
    """Anything that gives one picture after another, each taken when it is needed.

    Args:
        items: A generator, an iterator, an iterable data set, ...
    """

    def __init__(self, items: Iterable[Any]):
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        items = iter(self.items)
        while True:
            try:
                item = next(items)
            except StopIteration:
                return
            except READING_ERRORS as error:
                if not isinstance(items, map):  # a generator cannot go on behind an error, and would seem to be at
                    raise  # its end; a map can
                item = Unreadable(error)
            yield item


def open_picture(image: Picture) -> Image.Image:
    """Opens one input of a pipeline.

    Args:
        image: A PIL picture, an array or a tensor as `V2LImageProcessor` takes them; a path; a URL or data URL; or a
            mapping with the picture under "image", or as "bytes" or "path".

    Returns:
        8-bit RGB.

    Raises:
        UserError: If it cannot be read, or is nothing of that kind.
    """
    try:
        return _open(image)
    except READING_ERRORS as error:
        raise unreadable(image, error) from None


def _open(image: Any) -> Image.Image:
    if isinstance(image, Mapping):
        if image.get("image") is not None:
            return _open(image["image"])
        if image.get("bytes") is not None:
            return open_image_bytes(image["bytes"])
        if image.get("path") is not None:
            return _open(image["path"])
        raise UserError(f"An input with the keys {', '.join(map(str, image))} has no picture: give it as 'image'.")
    if isinstance(image, str) and image.startswith(("http://", "https://", "data:")):
        return fetch_image(image)
    if isinstance(image, (str, Path)):
        return open_image(image)
    if isinstance(image, (Image.Image, np.ndarray, torch.Tensor)):
        return to_rgb(image)
    raise UserError(f"Found {type(image).__name__} where a picture was expected: give a PIL image, a path or a URL.")


def fetch_image(url: str) -> Image.Image:
    """A picture of 8-bit RGB from a URL or data URL; raises one of `READING_ERRORS`."""
    with urlopen(Request(url, headers={"User-Agent": "visual-sentence"}), timeout=FETCH_SECONDS) as response:
        return open_image_bytes(response.read())


def open_image_bytes(content: bytes) -> Image.Image:
    """A picture of 8-bit RGB from the content of its file; raises what PIL raises."""
    with Image.open(BytesIO(content)) as image:
        return to_rgb(image)


def unreadable(image: Any, error: Exception) -> UserError:
    """What went wrong with an input, in one line: the error itself where it is one for users."""
    if isinstance(error, UserError):
        return error
    said = " ".join(str(error).split())[:200] or type(error).__name__
    return UserError(f"{picture_name(image)} cannot be read ({said}): fetch or export it again, or leave it out.")


def picture_name(image: Any) -> str:
    """What a message calls an input."""
    if isinstance(image, Mapping):
        found = image.get("image") if image.get("image") is not None else image.get("path")
        return picture_name(found)
    if isinstance(image, (str, Path)):
        return str(image)[:100]
    return getattr(image, "filename", None) or "A picture"
