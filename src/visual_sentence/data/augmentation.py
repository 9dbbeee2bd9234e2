"""Flips, quarter turns and crops of an example, the same for everything that belongs to it.

DeLVM (section on data augmentation) found that augmenting small sets is worth about as much as new data.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..errors import UserError
from .examples import Example


@dataclass(frozen=True)
class Augmentation:
    """What chance may do to an example before a task is made of it.

    Args:
        flip_horizontal: Whether half of them are mirrored left to right.
        flip_vertical: Whether half of them are mirrored top to bottom.
        rotate: Whether they are turned by 0, 90, 180 or 270 degrees.
        crop_scale: Lowest and highest share of the area that is cut out, in (0, 1]; sides keep their ratio.

    Raises:
        UserError: If the shares are none.
    """

    flip_horizontal: bool = True
    flip_vertical: bool = False
    rotate: bool = False
    crop_scale: tuple[float, float] = (0.5, 1.0)

    def __post_init__(self) -> None:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise UserError(f"A crop of {low} to {high} of the area is not possible: give shares above 0, up to 1.")

    def apply(self, example: Example, rng: np.random.Generator) -> Example:
        """Augments one example.

        Args:
            example: Any.
            rng: Where chance comes from.
        """
        width, height = example.image.size
        side = math.sqrt(rng.uniform(*self.crop_scale))
        box_width, box_height = max(1, round(side * width)), max(1, round(side * height))
        x, y = int(rng.integers(width - box_width + 1)), int(rng.integers(height - box_height + 1))
        across, down, turns = rng.random() < 0.5, rng.random() < 0.5, int(rng.integers(4))

        def on_array(values: np.ndarray) -> np.ndarray:
            values = values[y : y + box_height, x : x + box_width]
            values = values[:, ::-1] if self.flip_horizontal and across else values
            values = values[::-1] if self.flip_vertical and down else values
            return np.ascontiguousarray(np.rot90(values, turns) if self.rotate else values)

        return example.changed(lambda picture: Image.fromarray(on_array(np.asarray(picture))), on_array, on_array)


__all__ = ["Augmentation"]
