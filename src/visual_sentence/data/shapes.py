"""Coloured shapes on grey: solved examples without end, without a file.

A shape's colour can be told from its grey value: the eight colours differ in luminance by 15 and more from each other
and from every background, so that colourisation has one right answer, and brightness has a reference in the
background.
"""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from ..errors import UserError
from .examples import Example, ExampleSource

# In order of class index: 0 is the background.
KINDS = ("background", "circle", "square", "triangle", "star", "ring")
# In order of luminance: 37, 62, 84, 103, 121, 142, 158, 220.
COLOURS = (
    *((20, 20, 170), (110, 20, 150), (220, 25, 30), (225, 30, 160)),
    *((30, 180, 60), (245, 115, 15), (40, 205, 225), (255, 240, 30)),
)
# What a background's grey values lie in, texture included.
BACKGROUND = (178, 204)
DEFAULT_COUNT = 10_000
# Radii at a side of 64 pixels.
RADII = (8.0, 18.0)
SUPERSAMPLING = 4


class Shapes(ExampleSource):
    """Pictures of one to four shapes, which may overlap, with a mask of all and the kind of each.

    Example i depends on (`seed`, i) and the size only, so `shapes[:4000]` and `shapes[4000:]` are two splits of one
    set, and one that is longer begins with the shorter.

    Args:
        count: How many there are.
        size: Side S of the square pictures in pixels. Shapes and texture scale with it.
        seed: Seed. Sets of two seeds have nothing in common.
        places: Which examples of the endless row these are; the first `count` by default.

    Raises:
        UserError: If the size is too small to tell shapes apart, or there are no examples.
    """

    def __init__(
        self, count: int = DEFAULT_COUNT, size: int = 64, seed: int = 0, places: Sequence[int] | None = None
    ) -> None:
        if size < 16:
            raise UserError(f"Shapes of {size} pixels cannot be told apart: take a size of 16 or more.")
        self.size, self.seed = size, seed
        self.places = range(count) if places is None else places
        self.name = "shapes"
        if not self.places:
            raise UserError(f"shapes holds nothing (count={count}): ask for one example or more.")

    def __len__(self) -> int:
        return len(self.places)

    def source_of(self, index: int) -> str:
        """Every example is a source of its own."""
        return f"shapes-{self.seed}-{self.places[index]}"

    def example(self, index: int) -> Example:
        """Draws one example."""
        generator = np.random.default_rng([self.seed, self.places[index]])
        pixels = _background(generator, self.size)
        labels = np.zeros((self.size, self.size), np.int64)
        colours = generator.permutation(len(COLOURS))
        for place in range(int(generator.integers(1, 5))):
            kind = int(generator.integers(1, len(KINDS)))
            coverage = _coverage(generator, KINDS[kind], self.size)
            colour = np.array(COLOURS[colours[place]], np.float64)
            pixels += coverage[..., None] * (colour - pixels)
            labels[coverage >= 0.5] = kind
        image = Image.fromarray(np.rint(pixels).astype(np.uint8))
        return Example(image, self.source_of(index), mask=labels > 0, label_map=labels)


def _background(generator: np.random.Generator, size: int) -> np.ndarray:
    """[S, S, 3] float64: a grey gradient with a soft texture, within `BACKGROUND`."""
    angle = generator.uniform(0, 2 * math.pi)
    steps = np.linspace(-1, 1, size)
    slope = (math.cos(angle) * steps[None, :] + math.sin(angle) * steps[:, None]) / math.sqrt(2)
    coarse = generator.uniform(-1, 1, (8, 8)).astype(np.float32)
    texture = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BILINEAR))
    grey = generator.uniform(188, 194) + generator.uniform(2, 7) * slope + 2.5 * texture
    return np.repeat(np.clip(grey, *BACKGROUND)[..., None], 3, axis=2)


def _coverage(generator: np.random.Generator, kind: str, size: int) -> np.ndarray:
    """[S, S] float64 in [0, 1]: how much of each pixel one shape of random size, place and rotation covers."""
    radius = generator.uniform(*RADII) * size / 64
    turn = generator.uniform(0, 2 * math.pi)
    x, y = generator.uniform(0.8 * radius, size - 0.8 * radius, 2)  # a little may stick out
    canvas = Image.new("L", (size * SUPERSAMPLING,) * 2)
    draw = ImageDraw.Draw(canvas)
    if kind in ("circle", "ring"):
        draw.ellipse(_box(x, y, radius), fill=255)
        if kind == "ring":
            draw.ellipse(_box(x, y, 0.5 * radius), fill=0)
    else:
        draw.polygon(_corners(kind, x, y, radius, turn), fill=255)
    return np.asarray(canvas.reduce(SUPERSAMPLING), np.float64) / 255


def _box(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    left, top, right, bottom = (SUPERSAMPLING * edge for edge in (x - radius, y - radius, x + radius, y + radius))
    return left, top, right, bottom


def _corners(kind: str, x: float, y: float, radius: float, turn: float) -> list[tuple[float, float]]:
    """The corners of a polygon on its circle; a star's inner ones at 0.45 of the radius."""
    distances = {"square": [1.0] * 4, "triangle": [1.0] * 3, "star": [1.0, 0.45] * 5}[kind]
    corners = []
    for place, distance in enumerate(distances):
        angle = turn + 2 * math.pi * place / len(distances)
        reach = SUPERSAMPLING * radius * distance
        corners.append((SUPERSAMPLING * x + reach * math.cos(angle), SUPERSAMPLING * y + reach * math.sin(angle)))
    return corners


__all__ = ["COLOURS", "KINDS", "Shapes"]
