"""Masks and label maps out of pictures, checked against the picture that they belong to."""

import numpy as np
from PIL import Image

from ..errors import UserError

# What indices may be stored as; a palette's indices are the classes, its colours are for the eye.
INDEX_MODES = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B")
IGNORE = 255


def read_mask(picture: Image.Image, name: str) -> np.ndarray:
    """A picture of a mask as foreground or not.

    Args:
        picture: Black and white, of any mode; values above 127 are foreground.
        name: What it is called in messages.

    Returns:
        [H, W] bool.

    Raises:
        UserError: If its highest value is above 0, but not above 127: then it is no picture of 0 and 255.
    """
    values = np.asarray(picture.convert("L"))
    highest = int(values.max(initial=0))
    if 0 < highest <= 127:
        raise UserError(
            f"{name}: the mask's highest value is {highest}, so nothing would be foreground: masks are 0 and 255; "
            "a map of class indices is a label map (label_column=..., or a folder named labels)."
        )
    return values > 127


def read_label_map(picture: Image.Image, name: str, ignore: int | None = None) -> np.ndarray:
    """A picture of class indices as numbers.

    Args:
        picture: One channel of 8 or 16 bits, or a palette.
        name: What it is called in messages.
        ignore: The index that means "unknown", which becomes 0; None for none.

    Returns:
        [H, W] int64.

    Raises:
        UserError: If it has colours instead of indices.
    """
    if picture.mode not in INDEX_MODES:
        raise UserError(
            f"{name}: the label map is a picture of mode {picture.mode}, not of class indices: save it as a PNG of one "
            "channel, each value the index of a class."
        )
    labels = np.asarray(picture).astype(np.int64)
    return labels if ignore is None else np.where(labels == ignore, 0, labels)


def check_sizes(image: Image.Image, name: str, **annotations: np.ndarray | Image.Image | None) -> None:
    """Every annotation must be of the picture's size.

    Raises:
        UserError: If one is not.
    """
    for what, found in annotations.items():
        if found is None:
            continue
        width, height = found.size if isinstance(found, Image.Image) else found.shape[::-1]
        if (width, height) != image.size:
            raise UserError(
                f"{name}: the picture has {image.width} x {image.height} pixels, its {what.replace('_', ' ')} "
                f"{width} x {height}: they must be of one size, pixel on pixel."
            )


__all__ = ["IGNORE", "check_sizes", "read_label_map", "read_mask"]
