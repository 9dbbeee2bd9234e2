"""Tasks that make their own question: the example's picture damaged, the picture itself the answer.

They need nothing but pictures. Numbers that say how bad the damage is are drawn for each pair.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from PIL import Image

from ..errors import UserError
from . import corruptions
from .examples import Example
from .task_base import Range, Task, draw, number_range, one_of, setting_values, whole

# SimLVM's paper names none; Gaussian deviations and factors usual for denoising and exposure.
SIGMA, FACTOR, AMOUNT = (10.0, 50.0), (0.4, 1.6), (0.05, 0.2)
TURNS = {
    "90": Image.Transpose.ROTATE_90,
    "180": Image.Transpose.ROTATE_180,
    "270": Image.Transpose.ROTATE_270,
}


class Restoration(Task):
    """The picture itself is the answer, and its damaged copy the question."""

    @abstractmethod
    def damage(self, picture: Image.Image, rng: np.random.Generator, setting: str) -> Image.Image:
        """The damaged picture, of the same size."""

    def solve(self, example: Example, rng: np.random.Generator, setting: str) -> tuple[Image.Image, Image.Image]:
        return self.damage(example.image, rng, setting), example.image


@dataclass(frozen=True)
class Denoising(Restoration):
    """Noise is taken away.

    Args:
        kind: "gaussian", "poisson" or "salt-and-pepper".
        sigma: Standard deviation in units of 1/255, a number or a range; of Poisson noise at mid-grey.
        amount: Share of pixels that salt and pepper hit, a number or a range.
    """

    name: ClassVar[str] = "denoising"

    kind: Annotated[str, one_of("gaussian", "poisson", "salt-and-pepper")] = "gaussian"
    sigma: Annotated[Range | None, number_range(0.1, 255)] = None
    amount: Annotated[Range | None, number_range(0, 1)] = None

    def __post_init__(self) -> None:
        unused, needed = ("sigma", "amount") if self.kind == "salt-and-pepper" else ("amount", "sigma")
        if getattr(self, unused) is not None:
            raise UserError(f"{unused} says nothing about {self.kind} noise: give {needed} instead.")

    def damage(self, picture: Image.Image, rng: np.random.Generator, setting: str) -> Image.Image:
        if self.kind == "salt-and-pepper":
            return corruptions.salt_and_pepper(picture, draw(rng, self.amount or AMOUNT), rng)
        add = corruptions.gaussian_noise if self.kind == "gaussian" else corruptions.poisson_noise
        return add(picture, draw(rng, self.sigma or SIGMA), rng)


@dataclass(frozen=True)
class Brightness(Restoration):
    """Pictures too dark or too bright are put right.

    Args:
        factor: What the value V of HSV is multiplied by, a number or a range.
    """

    name: ClassVar[str] = "brightness"

    factor: Annotated[Range, number_range(0, 10)] = FACTOR

    def damage(self, picture: Image.Image, rng: np.random.Generator, setting: str) -> Image.Image:
        return corruptions.scale_value(picture, draw(rng, self.factor))


@dataclass(frozen=True)
class Contrast(Restoration):
    """Pictures too flat or too harsh are put right.

    Args:
        factor: What distances from the mean grey are multiplied by, a number or a range.
    """

    name: ClassVar[str] = "contrast"

    factor: Annotated[Range, number_range(0, 10)] = FACTOR

    def damage(self, picture: Image.Image, rng: np.random.Generator, setting: str) -> Image.Image:
        return corruptions.scale_contrast(picture, draw(rng, self.factor))


@dataclass(frozen=True)
class Deblurring(Restoration):
    """Gaussian blur is taken away.

    Args:
        width: Of the kernel, pixels for a shorter side of 128, a number or a range.
    """

    name: ClassVar[str] = "deblurring"

    width: Annotated[Range, number_range(1, 127)] = (5.0, 11.0)

    def damage(self, picture: Image.Image, rng: np.random.Generator, setting: str) -> Image.Image:
        return corruptions.gaussian_blur(picture, draw(rng, self.width))


@dataclass(frozen=True)
class Deraining(Restoration):
    """Synthetic rain is taken away.

    Args:
        angle: Of the streaks, degrees from upright, a number or a range.
        length: Of the longest streak, pixels for a shorter side of 128, a number or a range.
        density: Streaks for each 1000 pixels, a number or a range.
    """

    name: ClassVar[str] = "deraining"

    angle: Annotated[Range, number_range(-80, 80)] = (-20.0, 20.0)
    length: Annotated[Range, number_range(1, 128)] = (8.0, 20.0)
    density: Annotated[Range, number_range(0, 100)] = (2.0, 6.0)

    def damage(self, picture: Image.Image, rng: np.random.Generator, setting: str) -> Image.Image:
        angle, length, density = (draw(rng, interval) for interval in (self.angle, self.length, self.density))
        return corruptions.rain(picture, angle, length, density, rng)


@dataclass(frozen=True)
class Inpainting(Restoration):
    """A black square is filled.

    Args:
        side: Of the square, as a share of the picture's shorter side, a number or a range; LVM's by default.
    """

    name: ClassVar[str] = "inpainting"

    side: Annotated[Range, number_range(0.01, 1)] = (0.1, 0.5)

    def damage(self, picture: Image.Image, rng: np.random.Generator, setting: str) -> Image.Image:
        return corruptions.square_hole(picture, draw(rng, self.side), rng)


@dataclass(frozen=True)
class SuperResolution(Restoration):
    """A small picture, enlarged again, becomes sharp.

    Args:
        scale: How many times smaller each side was.
    """

    name: ClassVar[str] = "super_resolution"

    scale: Annotated[int, whole(2, 32)] = 4

    def damage(self, picture: Image.Image, rng: np.random.Generator, setting: str) -> Image.Image:
        return corruptions.lower_resolution(picture, self.scale)


@dataclass(frozen=True)
class Colourisation(Restoration):
    """Grey (0.299 red, 0.587 green, 0.114 blue) becomes colour."""

    name: ClassVar[str] = "colourisation"

    def damage(self, picture: Image.Image, rng: np.random.Generator, setting: str) -> Image.Image:
        return picture.convert("L").convert("RGB")


@dataclass(frozen=True)
class Rotation(Restoration):
    """A turned picture is put upright.

    A picture that is not square is stretched to its old sides after a quarter turn, as the processor would.

    Args:
        degrees: Counter-clockwise: 90, 180, 270; "any": one of these, drawn for each sentence.
    """

    name: ClassVar[str] = "rotation"

    degrees: Annotated[str, one_of("any", *TURNS)] = "any"

    def setting(self, rng: np.random.Generator, example: Example | None = None) -> str:
        """Gives "degrees=ANGLE"."""
        drawn = list(TURNS)[rng.integers(len(TURNS))] if self.degrees == "any" else self.degrees
        return f"degrees={drawn}"

    def damage(self, picture: Image.Image, rng: np.random.Generator, setting: str) -> Image.Image:
        turned = picture.transpose(TURNS[setting_values(setting)["degrees"]])
        return turned if turned.size == picture.size else turned.resize(picture.size, Image.Resampling.BICUBIC)


@dataclass(frozen=True)
class Edges(Task):
    """The answer is the picture's map of edges (`corruptions.sobel_edges`)."""

    name: ClassVar[str] = "edges"

    def solve(self, example: Example, rng: np.random.Generator, setting: str) -> tuple[Image.Image, Image.Image]:
        return example.image, corruptions.sobel_edges(example.image)


@dataclass(frozen=True)
class UserPairs(Task):
    """Question and answer are both given."""

    name: ClassVar[str] = "pairs"
    data_decides: ClassVar[bool] = True

    @property
    def needs(self) -> tuple[str, ...]:
        return ("target",)

    def solve(self, example: Example, rng: np.random.Generator, setting: str) -> tuple[Image.Image, Image.Image]:
        assert example.target is not None  # it is needed
        return example.image, example.target


RESTORATIONS = (
    *(Denoising, Brightness, Contrast, Deblurring, Deraining, Inpainting, SuperResolution, Colourisation),
    *(Rotation, Edges, UserPairs),
)
__all__ = [
    "RESTORATIONS",
    "Denoising",
    "Brightness",
    "Contrast",
    "Deblurring",
    "Deraining",
    "Inpainting",
    "SuperResolution",
    "Colourisation",
    "Rotation",
    "Edges",
    "UserPairs",
]
