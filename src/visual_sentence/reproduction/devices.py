"""Where trainings run: Accelerate chooses, and is told here."""

from collections.abc import Generator
from contextlib import contextmanager

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import patch_environment


@contextmanager
def training_on(device: str | None) -> Generator[None, None, None]:
    """Has everything that Accelerate places in the block placed on a device.

    Accelerate asks its environment once for an interpreter, so what it found before is forgotten, before the block and
    behind it; but not in processes that were launched together, which have a device each.

    Args:
        device: Such as "cpu" or "cuda:1"; None for Accelerate's own choice, the first accelerator.
    """
    if device is None or (PartialState._shared_state and PartialState().num_processes > 1):
        yield
        return
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        with patch_environment(ACCELERATE_TORCH_DEVICE=device):
            yield
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


__all__ = ["training_on"]
