"""A cell's numbers: what was measured, how sure it is, and of how much."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..sentence_completion.measurements import interval


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


def half_width(value: float, half: float | None) -> list[float] | None:
    """The interval around a value."""
    return None if half is None else [value - half, value + half]


__all__ = ["cell", "half_width", "mean_cell"]
