"""The learning rate of each step, a function of the step alone."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """A linear warm-up, then half a cosine down to 0, or no change.

    Args:
        warmup: Steps of the warm-up; the last of them has the full rate.
        total: Steps of the run; None for one that only the time ends, which knows no cosine.
        is_cosine: Whether the rate falls after the warm-up.
    """

    warmup: int
    total: int | None
    is_cosine: bool

    def factor(self, step: int) -> float:
        """What the highest rate is multiplied by in a step, from 0, in [0, 1]."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if not self.is_cosine or self.total is None:
            return 1.0
        progress = (step - self.warmup) / (self.total - self.warmup)
        return (1 + math.cos(math.pi * progress)) / 2


__all__ = ["Schedule"]
