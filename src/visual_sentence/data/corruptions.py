"""Damage to pictures, as functions of numbers: noise, light, blur, rain, holes, few pixels.

Knows no task. All take and give 8-bit RGB of the same size; chance comes from the generator given.
"""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from .task_base import to_picture, to_values

# The side of the pictures that blur widths and rain are meant for.
PUBLISHED_SIDE = 128


def gaussian_noise(picture: Image.Image, sigma: float, rng: np.random.Generator) -> Image.Image:
    """Adds independent normal noise to every value.

    Args:
        picture: 8-bit RGB.
        sigma: Standard deviation in units of 1/255.
        rng: Where the noise comes from.
    """
    values = to_values(picture)
    return to_picture(values + sigma * rng.standard_normal(values.shape))


def poisson_noise(picture: Image.Image, sigma: float, rng: np.random.Generator) -> Image.Image:
    """Counts photons: dark parts are noisy relative to their light, bright ones in total.

    Args:
        picture: 8-bit RGB.
        sigma: Standard deviation at mid-grey (127.5) in units of 1/255; at value v it is sigma sqrt(v / 127.5).
        rng: Where the noise comes from.
    """
    photons = 127.5 / sigma**2  # for each unit of light: the variance of a count is its mean
    return to_picture(rng.poisson(to_values(picture) * photons) / photons)


def salt_and_pepper(picture: Image.Image, amount: float, rng: np.random.Generator) -> Image.Image:
    """Makes pixels white or black.

    Args:
        picture: 8-bit RGB.
        amount: Each pixel's chance in [0, 1] to be hit; half of those become white, half black.
        rng: Where chance comes from.
    """
    values = np.array(picture)
    chance = rng.random(values.shape[:2])
    values[chance < amount] = 0
    values[chance < amount / 2] = 255
    return Image.fromarray(values)


def scale_value(picture: Image.Image, factor: float) -> Image.Image:
    """Multiplies the value V of HSV, hue and saturation kept; V stops at 255.

    Args:
        picture: 8-bit RGB.
        factor: 0 makes it black, 1 changes nothing.
    """
    values = to_values(picture)
    brightest = values.max(axis=2, keepdims=True)
    # V is the largest of the three, and all three grow with it
    return to_picture(values * np.minimum(factor, 255 / np.maximum(brightest, 1)))


def scale_contrast(picture: Image.Image, factor: float) -> Image.Image:
    """Moves every value towards (below 1) or away from (above 1) the picture's mean grey."""
    return ImageEnhance.Contrast(picture).enhance(factor)


def gaussian_blur(picture: Image.Image, width: float) -> Image.Image:
    """Blurs as a Gaussian kernel of a width does, with OpenCV's deviation 0.3 ((k - 1) / 2 - 1) + 0.8.

    Args:
        picture: 8-bit RGB.
        width: k, pixels for a picture whose shorter side is 128; in proportion for others.
    """
    sigma = 0.3 * ((width - 1) * 0.5 - 1) + 0.8
    return picture.filter(ImageFilter.GaussianBlur(sigma * min(picture.size) / PUBLISHED_SIDE))


def rain(picture: Image.Image, angle: float, length: float, density: float, rng: np.random.Generator) -> Image.Image:
    """Draws bright translucent streaks of one direction.

    Args:
        picture: 8-bit RGB.
        angle: Degrees from upright, positive to the right below.
        length: Of a streak, in pixels for a shorter side of 128; each is between half and all of it.
        density: Streaks for each 1000 pixels of a picture of that side.
        rng: Where places, lengths and strengths come from.
    """
    scale = min(picture.size) / PUBLISHED_SIDE
    drops = Image.new("L", picture.size)
    pen = ImageDraw.Draw(drops)
    width, height = picture.size
    reach = length * scale
    for _ in range(round(density * width * height / scale**2 / 1000)):
        x, y = rng.uniform(-reach, width + reach), rng.uniform(-reach, height)
        run = reach * rng.uniform(0.5, 1.0)
        end = (x + run * math.sin(math.radians(angle)), y + run * math.cos(math.radians(angle)))
        pen.line((x, y, *end), fill=int(rng.integers(110, 200)), width=max(1, round(scale)))
    drops = drops.filter(ImageFilter.GaussianBlur(0.4 * scale))
    values, light = to_values(picture), np.asarray(drops, np.float64)[..., None]
    return to_picture(255 - (255 - values) * (255 - light) / 255)


def square_hole(picture: Image.Image, share: float, rng: np.random.Generator) -> Image.Image:
    """Makes a square black.

    Args:
        picture: 8-bit RGB.
        share: Its side as a share of the picture's shorter one, in (0, 1].
        rng: Where its place comes from.
    """
    side = max(1, round(share * min(picture.size)))
    x = int(rng.integers(picture.width - side + 1))
    y = int(rng.integers(picture.height - side + 1))
    holed = picture.copy()
    holed.paste((0, 0, 0), (x, y, x + side, y + side))
    return holed


def lower_resolution(picture: Image.Image, scale: int) -> Image.Image:
    """Makes a picture smaller and large again, both bicubically.

    Args:
        picture: 8-bit RGB.
        scale: How many times smaller each side becomes in between.
    """
    small = (max(1, round(picture.width / scale)), max(1, round(picture.height / scale)))
    return picture.resize(small, Image.Resampling.BICUBIC).resize(picture.size, Image.Resampling.BICUBIC)


def sobel_edges(picture: Image.Image) -> Image.Image:
    """The length of the grey value's Sobel gradient, a quarter of it: a straight step from black to white gives 255.

    Borders are continued by their last pixels.

    Returns:
        8-bit RGB, all channels alike.
    """
    grey = np.pad(np.asarray(picture.convert("L"), np.float64), 1, mode="edge")
    smooth_rows = grey[:-2] + 2 * grey[1:-1] + grey[2:]
    smooth_columns = grey[:, :-2] + 2 * grey[:, 1:-1] + grey[:, 2:]
    across = smooth_rows[:, 2:] - smooth_rows[:, :-2]
    down = smooth_columns[2:] - smooth_columns[:-2]
    length = np.hypot(across, down) / 4
    return to_picture(np.repeat(length[..., None], 3, axis=2))


__all__ = [
    *("gaussian_blur", "gaussian_noise", "lower_resolution", "poisson_noise", "rain", "salt_and_pepper"),
    *("scale_contrast", "scale_value", "sobel_edges", "square_hole"),
]
