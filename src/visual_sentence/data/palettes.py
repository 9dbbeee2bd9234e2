"""Colours of classes that are far apart, in a fixed order."""

from functools import cache
from itertools import product

import numpy as np

BLACK = (0, 0, 0)
LEVELS = (0, 64, 128, 191, 255)
# The nearest two of them, black included, are 90 apart, of the first eight 179; more would look alike when drawn from
# tokens.
MAX_COLOURS = 24


@cache
def distinct_colours() -> tuple[tuple[int, int, int], ...]:
    """The colours beside black: each the farthest from black and from all before it.

    Taken from the 125 colours of five levels a channel; distances are Euclidean in RGB, ties go to the first in order.

    Returns:
        `MAX_COLOURS` colours.
    """
    candidates = np.array(list(product(LEVELS, repeat=3)), np.float64)
    distances = np.linalg.norm(candidates, axis=1)  # to black
    chosen = []
    for _ in range(MAX_COLOURS):
        farthest = candidates[int(distances.argmax())]
        red, green, blue = (int(value) for value in farthest)
        chosen.append((red, green, blue))
        distances = np.minimum(distances, np.linalg.norm(candidates - farthest, axis=1))
    return tuple(chosen)


def shuffled_colours(number: int) -> tuple[tuple[int, int, int], ...]:
    """The same colours in another order.

    Args:
        number: Which order.
    """
    colours = distinct_colours()
    return tuple(colours[place] for place in np.random.default_rng([24, number]).permutation(len(colours)))


__all__ = ["BLACK", "MAX_COLOURS", "distinct_colours", "shuffled_colours"]
