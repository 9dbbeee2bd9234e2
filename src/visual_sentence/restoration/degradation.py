"""The five corruptions of a picture (V2L Tokenizer, section 4.3 and its published code).

A picture is first made the model's view of R x R pixels in 8 bits; what is degraded is that view, in 8 bits again, so
that what is shown, what is written to a file and what becomes tokens are the same.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.nn import functional as F

from ..errors import UserError
from ..modeling.image_processing_v2l import Picture, to_rgb
from .tasks import HOLE_TASKS, check_task, hole_of, seeded

GREY = (128, 128, 128)
# albumentations' GaussianBlur(blur_limit=(5, 11)), which the published code uses, draws an integer from 5 to 11 and
# makes even ones odd by adding one.
BLUR_WIDTHS, BLUR_WEIGHTS = (5, 7, 9, 11), (1.0, 2.0, 2.0, 2.0)
# The side of the views that these widths are meant for.
PUBLISHED_SIDE = 128
DEFAULT_SHIFT = 0.125


@dataclass(frozen=True)
class View:
    """What a model sees of a picture.

    Args:
        picture: R x R pixels: the picture's shorter side resized to R, the centre cut out.
        far_end: The same with the right or lower end cut out; equal to `picture` where the picture is square.
    """

    picture: Image.Image
    far_end: Image.Image


def view_of(picture: Picture, side: int) -> View:
    """Resizes and crops a picture as the image processors do.

    Args:
        picture: PIL picture, array or tensor as `to_rgb` takes it.
        side: R in pixels.
    """
    picture = to_rgb(picture)
    size = (side, side)
    resample = Image.Resampling.BICUBIC
    return View(ImageOps.fit(picture, size, resample), ImageOps.fit(picture, size, resample, centering=(1.0, 1.0)))


@dataclass(frozen=True)
class Degradation:
    """Degrades views for one task.

    - inpainting, outpainting: the pixels of the hole in the token map are painted grey.
    - deblurring: a Gaussian blur of random width k, 5, 7, 9 or 11 pixels of 128, with the deviation of OpenCV's rule,
      0.3 ((k - 1) / 2 - 1) + 0.8, both in proportion to R; borders are mirrored without the border pixel.
    - rotation: by 90 degrees, counter-clockwise.
    - shift: content moves to the left and up by a share of the side, and what it frees is filled with its mirror image.
      The published code instead cuts out the far end of a picture that is not square: `shift=None`.

    Args:
        task: One of `TASKS`.
        shift: Share of the side, above 0 and at most 0.5; None for the far end, which is the view itself for a square
            picture.
        seed: Of the blur's width, which also depends on the view's pixels.

    Raises:
        UserError: If there is no such task or the share is another.
    """

    task: str
    shift: float | None = DEFAULT_SHIFT
    seed: int = 0

    def __post_init__(self) -> None:
        check_task(self.task)
        if self.shift is not None and not 0 < self.shift <= 0.5:
            raise UserError(f"A shift by {self.shift} of the side is not possible: give a share above 0, up to 0.5.")

    def apply(self, view: View, grid: tuple[int, int]) -> Image.Image:
        """The degraded picture.

        Args:
            view: What the model sees.
            grid: (h, w) of its map of tokens; the view's side is a multiple of both.
        """
        picture = view.picture
        if self.task in HOLE_TASKS:
            return paint_hole(picture, self.task, grid)
        if self.task == "deblurring":
            return blur(picture, *self._blur_of(picture))
        if self.task == "rotation":
            return picture.transpose(Image.Transpose.ROTATE_90)
        return view.far_end if self.shift is None else shift(picture, round(self.shift * picture.width))

    def _blur_of(self, picture: Image.Image) -> tuple[int, float]:
        """Width and deviation in pixels, drawn for this picture."""
        generator = seeded(self.seed, "blur", picture.tobytes())
        drawn = torch.multinomial(torch.tensor(BLUR_WEIGHTS), 1, generator=generator).item()
        return scaled_blur(BLUR_WIDTHS[int(drawn)], picture.width)


def scaled_blur(width: int, side: int) -> tuple[int, float]:
    """Width and deviation of a blur on views of R pixels.

    Args:
        width: k, odd, pixels of 128.
        side: R.

    Returns:
        The nearest odd width, at least 3, and the deviation; for R = 128 both as published.
    """
    scale = side / PUBLISHED_SIDE
    sigma = 0.3 * ((width - 1) * 0.5 - 1) + 0.8
    return max(3, 2 * math.floor(width * scale / 2) + 1), sigma * scale


def blur(picture: Image.Image, width: int, sigma: float) -> Image.Image:
    """Gaussian blur with mirrored borders (the border pixel itself is not repeated).

    Args:
        picture: RGB, each side longer than half the width.
        width: Odd, in pixels.
        sigma: Standard deviation in pixels.
    """
    offsets = torch.arange(width, dtype=torch.float64) - width // 2
    kernel = torch.exp(-0.5 * (offsets / sigma).square())
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    pixels = torch.from_numpy(np.array(picture)).double().permute(2, 0, 1)[:, None]  # [3, 1, H, W]
    half = width // 2
    padded = F.pad(pixels, (half, half, half, half), mode="reflect")
    blurred = F.conv2d(F.conv2d(padded, kernel), kernel.transpose(2, 3))
    return Image.fromarray(blurred[:, 0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy())


def shift(picture: Image.Image, pixels: int) -> Image.Image:
    """Moves content to the left and up, and fills what it frees with the mirror image of what stands beside it.

    Args:
        picture: RGB, each side at least 2 `pixels` long.
        pixels: How far.
    """
    padded = np.pad(np.asarray(picture), ((0, pixels), (0, pixels), (0, 0)), mode="symmetric")
    return Image.fromarray(np.ascontiguousarray(padded[pixels:, pixels:]))


def paint_hole(picture: Image.Image, task: str, grid: tuple[int, int]) -> Image.Image:
    """Paints the pixels of a task's hole grey.

    Args:
        picture: RGB.
        task: "inpainting" or "outpainting".
        grid: (h, w) of the map of tokens.
    """
    height, width = grid
    rows, columns = hole_of(task, height, width).nonzero(as_tuple=True)
    cell_height, cell_width = picture.height // height, picture.width // width
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    scales: Sequence[int] = (cell_width, cell_height, cell_width, cell_height)
    painted = picture.copy()
    left, top, right, bottom = (int(edge) * scale for edge, scale in zip(box, scales, strict=True))
    painted.paste(GREY, (left, top, right, bottom))
    return painted
