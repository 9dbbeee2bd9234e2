"""One picture with what is known about it, and many of them by number: the raw material of every task.

Knows no task and no file.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

# The fields beside the picture that a task may need, and how each is called to a person.
FIELDS = {
    "mask": "a mask (white is foreground)",
    "label_map": "a label map (a class index for each pixel)",
    "target": "a target picture",
}


@dataclass(frozen=True)
class Example:
    """A picture with its annotation.

    Args:
        image: H x W pixels, 8-bit RGB.
        source: Which source picture it is of. No two pictures of one sentence share it.
        mask: [H, W] bool, True is foreground.
        label_map: [H, W] int64, class or instance indices, 0 is background or the first class.
        target: H x W pixels, 8-bit RGB: the answer that a person gave.
    """

    image: Image.Image
    source: str
    mask: np.ndarray | None = None
    label_map: np.ndarray | None = None
    target: Image.Image | None = None

    def stretched(self, size: tuple[int, int]) -> "Example":
        """The same stretched to other sides, as the processor does: aspect ratio is not kept.

        Args:
            size: Width and height in pixels. Pictures are resized bicubically, masks by area (half and more is
                foreground), label maps by the nearest pixel.
        """
        if self.image.size == size:
            return self
        return self.changed(
            lambda picture: picture.resize(size, Image.Resampling.BICUBIC),
            lambda mask: _resized(mask.astype(np.uint8) * 255, size, Image.Resampling.BOX) > 127,
            lambda labels: _resized(labels.astype(np.int32), size, Image.Resampling.NEAREST).astype(np.int64),
        )

    def changed(
        self,
        on_picture: Callable[[Image.Image], Image.Image],
        on_mask: Callable[[np.ndarray], np.ndarray],
        on_labels: Callable[[np.ndarray], np.ndarray],
    ) -> "Example":
        """The same with one change done to everything that it has."""
        return replace(
            self,
            image=on_picture(self.image),
            mask=None if self.mask is None else on_mask(self.mask),
            label_map=None if self.label_map is None else on_labels(self.label_map),
            target=None if self.target is None else on_picture(self.target),
        )


class ExampleSource(Sequence[Example], ABC):
    """Examples in a fixed order, decoded when they are asked for.

    Attributes:
        name: What it is called, in messages and in the setting of sentences.
    """

    name: str

    @abstractmethod
    def source_of(self, index: int) -> str:
        """Which source picture an example is of, without decoding it.

        Args:
            index: Its place, in [0, length).
        """

    @abstractmethod
    def example(self, index: int) -> Example:
        """Decodes one example.

        Args:
            index: Its place, in [0, length).

        Raises:
            UserError: If it cannot be read.
        """

    def __getitem__(self, index: int) -> Example:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} examples, {index} is beyond")
        return self.example(index % len(self))


def _resized(values: np.ndarray, size: tuple[int, int], resample: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(values).resize(size, resample))


__all__ = ["FIELDS", "Example", "ExampleSource"]
