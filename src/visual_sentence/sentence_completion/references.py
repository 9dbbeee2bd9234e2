"""Answers that ask no model: what a completion has to beat. None looks at the true answer."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..data.task_base import Pair

# Side of the small pictures by which the nearest input is found.
SMALL = 32


def copied_input(query: Pair) -> Image.Image:
    """The query itself."""
    return query.input


def copied_last_target(pairs: Sequence[Pair]) -> Image.Image:
    """The answer that stands last before the query."""
    return pairs[-1].target


def nearest_target(pairs: Sequence[Pair], query: Image.Image) -> Image.Image:
    """The answer of the pair whose input is nearest to the query.

    Nearest by the mean squared difference of RGB, both stretched to 32 x 32; of equally near ones the first.

    Args:
        pairs: At least one.
        query: The query's picture.
    """
    wanted = _small(query)
    distances = [float(np.square(_small(pair.input) - wanted).mean()) for pair in pairs]
    return pairs[distances.index(min(distances))].target


def _small(picture: Image.Image) -> np.ndarray:
    """[32, 32, 3] float64, each pixel the mean of what it covers."""
    return np.asarray(picture.convert("RGB").resize((SMALL, SMALL), Image.Resampling.BOX), dtype=np.float64)
