"""A cell's numbers: what was measured, how sure it is, and of how much."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..sentence_completion.measurements import interval

Z = 1.959964  # of a normal distribution, 2.5 % lie beyond


def cell(value: float | None, ci95: Sequence[float] | None, n: int, **record: Any) -> dict[str, Any]:
    """A cell as it is filed.

    Args:
        value: The mean.
        ci95: Its 95 % interval [low, high]; None where there is none.
        n: Of how many queries, pictures or episodes.
        **record: What else belongs to it, under other names than these: models, data, seeds.
    """
    return {"value": value, "ci95": None if ci95 is None else list(ci95), "n": n, **record}


def mean_cell(values: Sequence[float], seed: int, scale: float = 1.0, **record: Any) -> dict[str, Any]:
    """The cell of a mean over independent pictures.

    Args:
        values: One for each picture.
        seed: Of the bootstrap that gives the interval.
        scale: What values are multiplied with, 100 for percents.
        **record: As for `cell`.
    """
    found = np.asarray(values, dtype=np.float64) * scale
    names = [str(place) for place in range(len(found))]
    return cell(float(found.mean()), interval(found, names, seed), len(found), **record)


def share_cell(share: float, n: int, **record: Any) -> dict[str, Any]:
    """The cell of a share of n answers, in percent, with Wilson's interval (1927), which stays within 0 and 100.

    Args:
        share: In [0, 1].
        n: Answers.
        **record: As for `cell`.
    """
    spread = Z * Z / n
    middle = (share + spread / 2) / (1 + spread)
    half = Z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return cell(100 * share, [100 * (middle - half), 100 * (middle + half)], n, **record)


__all__ = ["cell", "mean_cell", "share_cell"]
