"""Weights and optimizer state of a run, whole, however its processes share them."""

from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn

MOMENTS, WEIGHT = ("exp_avg", "exp_avg_sq"), "weight"


class ShardedState:
    """Whole states of a prepared model and optimizer.

    Args:
        accelerator: Knows how they are shared.
        model: As it was prepared.
        optimizer: AdamW, as it was prepared.
        untouched: Tensors of the model that nothing may change, from before it was prepared.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        untouched: dict[str, torch.Tensor],
    ):
        self.accelerator, self.wrapped = accelerator, model
        self.optimizer: Any = optimizer  # with another one inside, where processes share the model
        self.kind, self.untouched = accelerator.distributed_type, untouched

    def model(self) -> dict[str, torch.Tensor]:
        """The model's tensors on the CPU. All processes have to call it; the first is given them."""
        found = self.accelerator.get_state_dict(self.wrapped)
        found = {name: tensor.detach().cpu().contiguous() for name, tensor in (found or {}).items()}
        if self.kind == DistributedType.DEEPSPEED:  # which rounds a model to the precision that it computes in
            found |= {name: self._full(parameter) for name, parameter in self._trained()} | self.untouched
        return found

    def optimizer_state(self) -> dict[str, Any]:
        """The optimizer's state. All processes have to call it."""
        if self.kind == DistributedType.DEEPSPEED:
            return self._deepspeed_state()
        if self.kind == DistributedType.FSDP:
            from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

            options = StateDictOptions(full_state_dict=True, cpu_offload=True)
            return get_optimizer_state_dict(self.wrapped, self.optimizer.optimizer, options=options)
        return self.optimizer.state_dict()

    def load_optimizer(self, state: dict[str, Any]) -> None:
        """Takes over a state that `optimizer_state` gave. All processes have to call it."""
        if self.kind == DistributedType.DEEPSPEED:
            self._load_deepspeed(state)
        elif self.kind == DistributedType.FSDP:
            from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

            options = StateDictOptions(full_state_dict=True)
            set_optimizer_state_dict(self.wrapped, self.optimizer.optimizer, state, options=options)
        else:
            self.optimizer.load_state_dict(state)

    def _deepspeed_state(self) -> dict[str, Any]:
        """Each parameter's moments and its full-precision copy, by names; and how many steps AdamW has counted."""
        self._link()
        found = {
            name: {key: self._full(parameter, key) for key in (*MOMENTS, WEIGHT)} for name, parameter in self._trained()
        }
        steps = max(float(state["step"]) for state in self._states())
        return {"parameters": found, "steps": steps}

    def _load_deepspeed(self, state: dict[str, Any]) -> None:
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        self._link()
        for name, parameter in self._trained():
            saved = {key: tensor.to(parameter.device) for key, tensor in state["parameters"][name].items()}
            for key in MOMENTS:
                safe_set_full_optimizer_state(parameter, saved[key], key)
            safe_set_full_fp32_param(parameter, saved[WEIGHT])
        for own in self._states():
            own["step"].fill_(state["steps"])

    def _full(self, parameter: nn.Parameter, key: str = WEIGHT) -> torch.Tensor:
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        if key == WEIGHT:
            return safe_get_full_fp32_param(parameter).cpu()
        return safe_get_full_optimizer_state(parameter, key).cpu()

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        named = self.accelerator.unwrap_model(self.wrapped).named_parameters()
        return [(name, parameter) for name, parameter in named if parameter.requires_grad]

    def _states(self) -> list[dict[str, Any]]:
        """AdamW's states of this process's part of each group, as AdamW itself begins them."""
        zero = self.optimizer.optimizer
        for part in zero.single_partition_of_fp32_groups:
            if not zero.optimizer.state[part]:
                moments = {key: torch.zeros_like(part) for key in MOMENTS}
                zero.optimizer.state[part].update({"step": torch.zeros(()), **moments})
        return [zero.optimizer.state[part] for part in zero.single_partition_of_fp32_groups]

    def _link(self) -> None:
        """Tells parameters where their states lie; DeepSpeed does so once its first group has stepped, too early."""
        from deepspeed.utils import lazy_init_hp_params_optimizer_state

        self._states()
        zero = self.optimizer.optimizer
        for group, part in zip(zero.bit16_groups, zero.single_partition_of_fp32_groups, strict=True):
            lazy_init_hp_params_optimizer_state(group, part, zero.optimizer.state)
