"""What chance may do to an example: flips, turns and crops of all that belongs to it, another light on its picture.

DeLVM (section on data augmentation) found that augmenting small sets is worth about as much as new data.
"""

import math
from dataclasses import dataclass, replace

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


@dataclass(frozen=True)
class Light:
    """Another light on an example's picture, of which mask and label map stay true.

    Values in [0, 1] are raised to a power, so that black, white and the order of values stay.

    Args:
        gamma: Lowest and highest power, drawn uniformly in its logarithm; above 1 is darker.
        tint: Each channel's power is multiplied by exp(u), u drawn from [-tint, tint]: another colour of light or of
            stain.

    Raises:
        UserError: If the powers are none.
    """

    gamma: tuple[float, float] = (1.0, 1.0)
    tint: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.gamma
        if not 0 < low <= high or self.tint < 0:
            raise UserError(
                f"gamma={low:g}-{high:g} with tint={self.tint:g} is no light: give powers above 0, such as "
                "gamma=0.6-1.6, and a tint of 0 or more."
            )

    def apply(self, example: Example, rng: np.random.Generator) -> Example:
        """The example in another light.

        Args:
            example: Any. A target that a person gave is lit by the same light, as it may be a picture of the scene.
            rng: Where chance comes from.
        """
        low, high = self.gamma
        power = math.exp(rng.uniform(math.log(low), math.log(high)))
        powers = power * np.exp(rng.uniform(-self.tint, self.tint, 3))
        values = np.arange(256)[:, None] / 255
        table = np.rint(255 * values**powers).astype(np.uint8).T.reshape(-1).tolist()
        return replace(
            example,
            image=example.image.point(table),
            target=None if example.target is None else example.target.point(table),
        )


__all__ = ["Augmentation", "Light"]
