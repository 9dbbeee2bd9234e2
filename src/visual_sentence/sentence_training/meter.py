"""Where a run's time goes: tokens a second, the data's share of it, the share of what the machine can do."""

import time
from typing import Any

from torch import nn

from ..modeling import SimLVMForVisualSentence, flops_per_token


class Meter:
    """Means of a run's terms since they were last read, and where its time went.

    Args:
        seconds: Training time so far.
        flops: Floating-point operations of a token.
        peak: Of all processes, a second.
    """

    def __init__(self, seconds: float, flops: float, peak: float):
        self.start, self.flops, self.peak = seconds, flops, peak
        self._clear()

    def _clear(self) -> None:
        self.sums: dict[str, float] = {}
        self.steps, self.tokens, self.waited = 0, 0, 0.0

    def loading(self) -> "Meter":
        """Counts what is done inside as waiting for data."""
        return self

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.waited += time.monotonic() - self._began

    def add(self, terms: dict[str, float], tokens: int) -> None:
        """Takes one step's terms."""
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.steps += 1
        self.tokens += tokens

    def read(self, seconds: float) -> dict[str, float]:
        """Means, tokens per second, share of time that data took, and model FLOPs utilisation; then begins anew.

        Args:
            seconds: Training time so far.
        """
        passed = max(seconds - self.start, 1e-9)
        found = {name: value / self.steps for name, value in self.sums.items()}
        found |= {
            "tokens_per_second": self.tokens / passed,
            "loader_share": self.waited / passed,
            "flops_utilization": self.tokens * self.flops / passed / self.peak,
        }
        self.start = seconds
        self._clear()
        return found

    def state_dict(self, seconds: float) -> dict[str, Any]:
        """What a checkpoint between two lines of the log has to hold.

        Args:
            seconds: Training time so far.
        """
        counts = {"steps": self.steps, "tokens": self.tokens, "waited": self.waited}
        return {"sums": dict(self.sums), "passed": seconds - self.start, **counts}

    def load_state_dict(self, state: dict[str, Any], seconds: float) -> None:
        """Goes on where `state_dict` was called.

        Args:
            state: What it gave.
            seconds: Training time so far.
        """
        self.sums, self.steps = dict(state["sums"]), state["steps"]
        self.tokens, self.waited, self.start = state["tokens"], state["waited"], seconds - state["passed"]


def training_flops(model: SimLVMForVisualSentence, length: int) -> float:
    """Floating-point operations of training on one token, without gradients of weights that are frozen (2 of 6 each).

    Args:
        model: The model.
        length: L, tokens of a row.
    """
    table = model.get_input_embeddings()
    skipped = {id(table.weight)} if isinstance(table, nn.Embedding) else set()  # looked up, not multiplied
    frozen = sum(
        parameter.numel()
        for parameter in model.language_model.parameters()
        if not parameter.requires_grad and id(parameter) not in skipped
    )
    return flops_per_token(model, length) - 2.0 * frozen


__all__ = ["Meter", "training_flops"]
