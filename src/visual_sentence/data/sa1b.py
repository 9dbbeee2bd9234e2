"""Examples out of folders of SA-1B: JPEG pictures, and beside each a JSON file with the masks of everything in it.

Kirillov et al., "Segment Anything", 2023, appendix "Dataset": masks are run lengths in COCO's compressed form.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..image_io import open_image
from .annotations import check_sizes
from .examples import Example, ExampleSource


class SegmentAnythingFolder(ExampleSource):
    """Pictures with a label map of instances (largest first, so smaller ones lie on top) and the mask of all.

    DeLVM adds the colours of overlapping masks, with values above 255 starting again from 0; here a pixel belongs to
    the smallest mask on it.

    Args:
        folder: Holds `NAME.jpg` and `NAME.json`.
        places: Which of the pictures, in order of their names.

    Raises:
        UserError: If a picture is without its JSON file.
    """

    def __init__(self, folder: Path, places: slice = slice(None)) -> None:
        self.name = folder.name
        files = sorted(folder.glob("*.jpg"))
        alone = [file.name for file in files if not file.with_suffix(".json").is_file()]
        if alone:
            raise UserError(f"{folder}: {alone[0]} and {len(alone) - 1} more are without a JSON file: fetch them too.")
        self._files = files[places]

    def __len__(self) -> int:
        return len(self._files)

    def source_of(self, index: int) -> str:
        """The picture's name."""
        return f"{self.name}/{self._files[index].stem}"

    def example(self, index: int) -> Example:
        """Reads a picture and paints its masks."""
        path = self._files[index]
        image = open_image(path)
        labels = read_instances(path.with_suffix(".json"))
        if labels is None:
            labels = np.zeros((image.height, image.width), np.int64)
        check_sizes(image, str(path), label_map=labels)
        return Example(image, self.source_of(index), mask=labels > 0, label_map=labels)


def read_instances(path: Path) -> np.ndarray | None:
    """The masks of a JSON file of SA-1B as one map.

    Args:
        path: The file.

    Returns:
        [H, W] int64: k for the k-th largest mask, 0 where there is none; None if the file lists no masks.

    Raises:
        UserError: If the file cannot be read.
    """
    try:
        annotations = json.loads(path.read_text(encoding="utf-8"))["annotations"]
        masks = [decode_rle(annotation["segmentation"]) for annotation in annotations]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(
            f"{path} is no annotation of SA-1B ({type(error).__name__}: {error}): it needs `annotations`, each with a "
            "`segmentation` of `size` and `counts`."
        ) from error
    if not masks:
        return None
    labels = np.zeros(masks[0].shape, np.int64)
    for number, mask in enumerate(sorted(masks, key=np.count_nonzero, reverse=True), start=1):
        labels[mask] = number
    return labels


def decode_rle(segmentation: dict[str, Any]) -> np.ndarray:
    """A mask out of COCO's run lengths.

    Args:
        segmentation: `size` (H, W) and `counts`: run lengths down the columns, background first, as a list or in the
            compressed form: each in groups of 5 bits, least first, with a sign, and from the fourth on as the
            difference to the last but one.

    Returns:
        [H, W] bool.

    Raises:
        ValueError: If the lengths do not add up to the size.
    """
    height, width = segmentation["size"]
    counts = segmentation["counts"]
    lengths = _uncompressed(counts) if isinstance(counts, str | bytes) else [int(count) for count in counts]
    if sum(lengths) != height * width or min(lengths, default=0) < 0:
        raise ValueError(f"run lengths of {sum(lengths)} pixels for a mask of {height} x {width}")
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return flat.reshape(width, height).T


def _uncompressed(counts: str | bytes) -> list[int]:
    groups = [value - 48 for value in (counts.encode() if isinstance(counts, str) else counts)]
    lengths: list[int] = []
    value = shift = 0
    for group in groups:
        value |= (group & 0x1F) << shift
        shift += 5
        if group & 0x20:  # more groups follow
            continue
        if group & 0x10:
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = shift = 0
    return lengths


__all__ = ["SegmentAnythingFolder", "decode_rle", "read_instances"]
