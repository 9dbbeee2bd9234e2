"""Stained tissue: light absorbed by each stain, and a task that makes stains weaker or stronger.

Ruifrok & Johnston, "Quantification of histochemical staining by color deconvolution", 2001: absorbance is linear in the
amounts of stain.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from PIL import Image

from .task_base import Range, draw, number_range, to_picture, to_values
from .tasks_restoration import FACTOR, Restoration

# Rows: haematoxylin, eosin, diaminobenzidine; columns: what each absorbs of red, green, blue.
ABSORBED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
# A millionth of the light counts as no light.
DARKEST = 1e-6


def stain_amounts(picture: Image.Image) -> np.ndarray:
    """How much of each stain lies in each pixel.

    Args:
        picture: 8-bit RGB of tissue on white.

    Returns:
        [H, W, 3] float64: haematoxylin, eosin, the rest; 1 is what darkens its colour to a millionth. Negative where a
        colour is none of these three together.
    """
    light = np.maximum(to_values(picture) / 255, DARKEST)
    return (np.log(light) / np.log(DARKEST)) @ np.linalg.inv(ABSORBED)


def stained(amounts: np.ndarray) -> Image.Image:
    """The picture of given amounts of stain, the inverse of `stain_amounts`."""
    return to_picture(255 * np.exp(np.log(DARKEST) * (amounts @ ABSORBED)))


@dataclass(frozen=True)
class StainBrightness(Restoration):
    """Slides stained too weakly or too strongly are put right.

    Args:
        factor: What the amounts of haematoxylin and eosin are multiplied by, a number or a range.
    """

    name: ClassVar[str] = "stain_brightness"

    factor: Annotated[Range, number_range(0, 10)] = FACTOR

    def damage(self, picture: Image.Image, rng: np.random.Generator, setting: str) -> Image.Image:
        factor = draw(rng, self.factor)
        return stained(stain_amounts(picture) * np.array([factor, factor, 1.0]))


__all__ = ["StainBrightness", "stain_amounts", "stained"]
