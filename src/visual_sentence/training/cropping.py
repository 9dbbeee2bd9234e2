"""From a picture to the square of pixels that is trained on.

What happens to picture i in epoch e is a function of (seed, e, i) and of nothing else. Knows no files.
"""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageOps
from PIL.Image import Resampling

# Ends of long pictures beyond this aspect are cut off; a strip of 1 x 40,000 pixels would fill the memory otherwise.
LARGEST_ASPECT = 4
# Keeps the random numbers of pictures apart from those of orders.
PICTURES, ORDER = 1, 2


@dataclass(frozen=True)
class Cropping:
    """How squares are cut out of pictures.

    Args:
        size: S, side of the square in pixels.
        random_crop: Whether its place is random; the centre otherwise.
        crop_scale: Its side as a share of the picture's shorter side, in (0, 1].
        random_flip: Whether every other picture is mirrored.
        seed: Of both.
    """

    size: int
    random_crop: bool = True
    crop_scale: float = 1.0
    random_flip: bool = True
    seed: int = 0

    def plain(self) -> "Cropping":
        """The same without chance: the whole centre square, as the models' image processors make it."""
        return replace(self, random_crop=False, crop_scale=1.0, random_flip=False)

    @property
    def working_size(self) -> int:
        """Pixels of a prepared picture's shorter side."""
        return max(self.size, round(self.size / self.crop_scale))

    def prepare(self, picture: Image.Image) -> np.ndarray:
        """What all views of a picture have in common, to be done once.

        Args:
            picture: 8-bit RGB.

        Returns:
            [h, w, 3] uint8, the shorter side `working_size` pixels long; a square if the crop is the centre.
        """
        side = self.working_size
        shorter = min(picture.size)
        if self.random_crop:
            width, height = (min(length, shorter * LARGEST_ASPECT) * side / shorter for length in picture.size)
            size = (max(side, round(width)), max(side, round(height)))
        else:
            size = (side, side)
        return np.asarray(ImageOps.fit(picture, size, Resampling.BICUBIC))

    def view(self, pixels: np.ndarray, epoch: int, index: int) -> np.ndarray:
        """The square of one picture in one epoch.

        Args:
            pixels: [h, w, 3] uint8 from `prepare`.
            epoch: e, from 0.
            index: i, the picture's place in the data.

        Returns:
            [S, S, 3] uint8.
        """
        draws = np.random.default_rng((self.seed, PICTURES, epoch, index)).random(3)
        room = [length - self.size for length in pixels.shape[:2]]
        if self.random_crop:
            top, left = (int(draw * (free + 1)) for draw, free in zip(draws, room, strict=False))
        else:
            top, left = (free // 2 for free in room)
        square = pixels[top : top + self.size, left : left + self.size]
        return square[:, ::-1] if self.random_flip and draws[2] < 0.5 else square


def random_order(count: int, seed: int, *numbers: int) -> np.ndarray:
    """A permutation of `range(count)` that is a function of the other arguments."""
    return np.random.default_rng((seed, ORDER, *numbers)).permutation(count)


__all__ = ["Cropping", "random_order"]
