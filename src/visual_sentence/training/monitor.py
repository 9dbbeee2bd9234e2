"""Watches over the codebook: says when only a small part of it is still in use.

A codebook collapses when few entries attract all latents, the others get no gradient and never come back. The loss
shows it late; the share of entries in use shows it at once.
"""

from typing import Any

import torch
from torch import distributed

NEVER = -(2**40)


class CodebookMonitor:
    """Keeps for every code the step at which it was used last.

    Args:
        codebook_size: K.
        window: Last steps over which codes count as in use.
        threshold: Share below which it warns.
        device: Where tokens come from.
    """

    def __init__(self, codebook_size: int, window: int, threshold: float, device: torch.device | str = "cpu"):
        self.window, self.threshold = window, threshold
        self.last_used = torch.full((codebook_size,), NEVER, dtype=torch.int64, device=device)
        self.first = self.steps = 0
        self.tokens_per_step = 0
        self.best = 0.0
        self.has_warned = False

    def update(self, tokens: torch.Tensor, step: int) -> None:
        """Notes the tokens [B, h, w] of one batch; several batches of a step count together."""
        if step != self.steps:
            self.first = self.first or step
            self.steps, self.tokens_per_step = step, 0
        self.tokens_per_step += tokens.numel()
        self.last_used[tokens.flatten()] = step

    def usage(self) -> float:
        """Share of the codebook that any process used in the window, in [0, 1]. All processes have to call it."""
        last_used = self.last_used
        if distributed.is_available() and distributed.is_initialized():
            last_used = last_used.clone()
            distributed.all_reduce(last_used, op=distributed.ReduceOp.MAX)
        return (last_used > self.steps - self.window).float().mean().item()

    def warning(self, usage: float, processes: int = 1) -> str | None:
        """One line, once in a run, if the codebook is collapsing.

        Args:
            usage: What `usage` gave.
            processes: How many train together.
        """
        if self.steps - self.first + 1 < self.window or self.has_warned:
            return None
        # where a window holds fewer tokens than there are codes, not all codes can be in use
        possible = min(1.0, self.window * self.tokens_per_step * processes / len(self.last_used))
        share = usage / possible
        self.best = max(self.best, share)
        if share >= self.threshold and share >= self.best / 2:
            return None
        self.has_warned = True
        fell = f"below {self.threshold:.1%}" if share < self.threshold else f"from {self.best:.1%}"
        return (
            f"step {self.steps}: codebook use fell to {share:.1%} ({fell}) over the last {self.window} steps, so the "
            "codebook may be collapsing: try --set quantizer_gradient=rotation, a simvq codebook, a lower "
            "--learning-rate or a longer warm-up"
        )

    def state_dict(self) -> dict[str, Any]:
        """The state as tensors and numbers."""
        return {
            "last_used": self.last_used,
            "first": self.first,
            "steps": self.steps,
            "tokens_per_step": self.tokens_per_step,
            "best": self.best,
            "has_warned": self.has_warned,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.last_used.copy_(state["last_used"])
        self.first, self.steps, self.tokens_per_step = state["first"], state["steps"], state["tokens_per_step"]
        self.best, self.has_warned = state["best"], state["has_warned"]


__all__ = ["CodebookMonitor"]
