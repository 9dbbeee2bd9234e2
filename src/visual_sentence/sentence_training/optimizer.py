"""Optimizers of a run: AdamW for everything, or Muon for the matrices inside of layers and AdamW for the rest."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..errors import UserError
from ..language import cpu_dtype
from .config import SentenceTrainingConfig

# A group's highest rate; the schedule scales it.
PEAK = "peak_lr"
# Parameters that are looked up by a token's number: each row is a vector of its own, no linear map.
TABLES = ("embed", "lm_head")


class Float32Muon(torch.optim.Muon):
    """`torch.optim.Muon` with its orthogonalisation in float32 in place of bfloat16.

    For processors without instructions for bfloat16, on which its products take tens of times longer.
    """

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """Moves the matrices that have a gradient; only `adjust_lr_fn` "match_rms_adamw" is known."""
        for group in self.param_groups:
            for matrix in (one for one in group["params"] if one.grad is not None):
                state = self.state[matrix]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(matrix.grad)
                momentum, share = state["momentum_buffer"], group["momentum"]
                momentum.lerp_(matrix.grad, 1 - share)
                update = matrix.grad.lerp(momentum, share) if group["nesterov"] else momentum
                update = orthogonalised(update.float(), group["ns_coefficients"], group["ns_steps"], group["eps"])
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update.to(matrix.dtype), alpha=-group["lr"] * 0.2 * max(matrix.shape) ** 0.5)


def orthogonalised(
    matrix: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> torch.Tensor:
    """A matrix [m, n] with all singular values brought near 1, in its own dtype (Jordan et al. 2024: Newton-Schulz)."""
    linear, cubic, quintic = coefficients
    is_tall = matrix.shape[0] > matrix.shape[1]
    found = matrix.T if is_tall else matrix
    found = found / found.norm().clamp(min=eps)
    for _ in range(steps):
        gram = found @ found.T
        found = torch.addmm(found, torch.addmm(gram, gram, gram, beta=cubic, alpha=quintic), found, beta=linear)
    return found.T if is_tall else found


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon and AdamW as one optimizer, with one state.

    Muon's updates are orthogonalised momenta, scaled to the root mean square of AdamW's.

    Args:
        matrices: For Muon, two-dimensional.
        groups: For AdamW, as AdamW takes them.
        muon: Options of `torch.optim.Muon`.
        adamw: Options of `torch.optim.AdamW`.

    Sources: Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/); Liu et al. 2025
    (https://arxiv.org/abs/2502.16982), section 2.2, for the scale.
    """

    def __init__(
        self,
        matrices: Sequence[nn.Parameter],
        groups: Sequence[dict[str, Any]],
        muon: dict[str, Any],
        adamw: dict[str, Any],
    ):
        matrices = list(matrices)
        is_slow = matrices[0].device.type == "cpu" and cpu_dtype() is torch.float32
        kind = Float32Muon if is_slow else torch.optim.Muon
        self._parts = (
            kind(matrices, adjust_lr_fn="match_rms_adamw", **muon),
            torch.optim.AdamW(list(groups), **adamw),
        )
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._link()

    def _link(self) -> None:
        """Lets both parts work on this optimizer's groups and state."""
        muon, adamw = self._parts
        muon.param_groups, adamw.param_groups = self.param_groups[:1], self.param_groups[1:]
        muon.state = adamw.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As `torch.optim.Optimizer.load_state_dict`."""
        super().load_state_dict(state_dict)
        self._link()

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """Moves all parameters that have a gradient."""
        for part in self._parts:
            part.step()


def make_optimizer(
    config: SentenceTrainingConfig, named: Sequence[tuple[str, nn.Parameter]], is_shared: bool
) -> torch.optim.Optimizer:
    """The optimizer that the settings ask for; vectors have no weight decay.

    Args:
        config: The settings.
        named: What is trained, with its names.
        is_shared: Whether processes hold parts of the parameters, which Muon cannot orthogonalise.

    Raises:
        UserError: If Muon is asked for where it cannot be, or finds nothing to move.
    """
    adamw = {
        "lr": config.learning_rate,
        "betas": (config.adam_beta1, config.adam_beta2),
        "eps": config.adam_epsilon,
    }
    decay = {"weight_decay": config.weight_decay}
    inside = {name for name, one in named if one.ndim == 2 and not any(table in name for table in TABLES)}
    is_muon = config.optimizer == "muon"
    if is_muon and is_shared:
        raise UserError(
            "--optimizer muon needs whole matrices, but FSDP2 or DeepSpeed cuts them: give --optimizer adamw, or "
            "launch with copies (scripts/accelerate/multi_gpu.yaml)."
        )
    if is_muon and not inside:
        raise UserError("--optimizer muon finds no matrix to move in what is trained: give --optimizer adamw.")
    rest = [one for name, one in named if one.ndim > 1 and not (is_muon and name in inside)]
    vectors = [one for _, one in named if one.ndim <= 1]
    groups = [{"params": rest, **decay}, {"params": vectors, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if is_muon:
        matrices = [one for name, one in named if name in inside]
        found = MuonWithAdamW(matrices, groups, {"lr": config.muon_learning_rate, **decay}, adamw)
    else:
        found = torch.optim.AdamW(groups, **adamw)
    for group in found.param_groups:
        group[PEAK] = group["lr"]
    return found


__all__ = ["PEAK", "MuonWithAdamW", "make_optimizer"]
