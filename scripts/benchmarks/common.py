"""What every benchmark shares: the object it prints and the stop-watch."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Measurement:
    """The outcome of one benchmark.

    Args:
        name: The benchmark's name on the command line.
        setting: What was run: models, sizes, dtype, threads.
        ours_s: Seconds that our way took.
        reference_s: Seconds that the plain way took on the same work.
        same_result: Whether both gave the same result.
    """

    name: str
    setting: dict[str, Any]
    ours_s: float
    reference_s: float
    same_result: bool

    def as_dict(self) -> dict[str, Any]:
        """The object that is printed: the fields and `ratio`, reference over ours (above 1: ours is faster)."""
        fields = asdict(self)
        same = fields.pop("same_result")
        return {**fields, "ratio": self.reference_s / self.ours_s, "same_result": same}


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """Runs `work` once.

    Returns:
        Its result and the wall-clock seconds it took.
    """
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start
