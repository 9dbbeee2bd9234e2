"""All that a run changes as it goes, as values that a checkpoint can hold, and back."""

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from diffusers.training_utils import EMAModel
from torch import nn
from torch.optim import Optimizer

from ..errors import UserError
from .checkpoints import Checkpoint
from .monitor import CodebookMonitor
from .schedule import Schedule

DISCRIMINATOR, AVERAGE = "discriminator.", "average."


@dataclass
class RunState:
    """The parts of a run that have a state.

    Args:
        model: The model that is trained, outside of any wrapper.
        discriminator: The discriminator, outside of any wrapper; None without one.
        optimizers: The model's, then the discriminator's if there is one.
        rates: Their highest learning rates.
        schedule: How these change.
        average: The moving average of the model's trained parameters; None without one.
        monitor: Watches the codebook.
        step: Finished steps.
        seconds: Training time.
        position: Where a stream stands; None for a table, where the step says it.
        sums: Sum and count of each term since the last line of the log.
        final_terms: What the last line of the log said.
    """

    model: nn.Module
    discriminator: nn.Module | None
    optimizers: list[Optimizer]
    rates: list[float]
    schedule: Schedule
    average: EMAModel | None
    monitor: CodebookMonitor
    step: int = 0
    seconds: float = 0.0
    position: dict[str, Any] | None = None
    sums: dict[str, list[float]] = field(default_factory=dict)
    final_terms: dict[str, float] = field(default_factory=dict)

    @property
    def learning_rate(self) -> float:
        """The model's in the last step that was taken."""
        return self.rates[0] * self.schedule.factor(max(0, self.step - 1))

    def tensors(self) -> dict[str, torch.Tensor]:
        """The discriminator's tensors and the averaged parameters, by names."""
        found = {}
        if self.discriminator is not None:
            found |= {DISCRIMINATOR + name: tensor for name, tensor in self.discriminator.state_dict().items()}
        if self.average is not None:
            found |= {f"{AVERAGE}{place}": tensor for place, tensor in enumerate(self.average.shadow_params)}
        return found

    def collect(self, accelerator: Accelerator) -> dict[str, Any]:
        """Everything that is no weight. All processes have to call it."""
        average = {} if self.average is None else dict(self.average.state_dict())
        average.pop("shadow_params", None)
        return {
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": None if accelerator.scaler is None else accelerator.scaler.state_dict(),
            "average": average,
            "monitor": self.monitor.state_dict(),
            "position": self.position,
            "sums": self.sums,
            "final_terms": self.final_terms,
            "seconds": self.seconds,
            "random": gather_object([random_state()]),
        }

    def restore(self, checkpoint: Checkpoint, accelerator: Accelerator) -> None:
        """Takes over a checkpoint.

        Raises:
            UserError: If it lacks a tensor or has one of another shape.
        """
        state, progress = checkpoint.state, checkpoint.progress
        self._load(self.model, checkpoint.model, checkpoint)
        if self.discriminator is not None:
            own = {
                name.removeprefix(DISCRIMINATOR): tensor
                for name, tensor in checkpoint.tensors.items()
                if name.startswith(DISCRIMINATOR)
            }
            self._load(self.discriminator, own, checkpoint)
        if self.average is not None:
            self.average.load_state_dict(state["average"])
            with torch.no_grad():
                for place, tensor in enumerate(self.average.shadow_params):
                    tensor.copy_(checkpoint.tensors[f"{AVERAGE}{place}"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        if accelerator.scaler is not None:
            accelerator.scaler.load_state_dict(state["scaler"])
        self.monitor.load_state_dict(state["monitor"])
        self.step, self.seconds, self.position = progress["step"], state["seconds"], state["position"]
        self.sums, self.final_terms = state["sums"], state["final_terms"]
        set_random_state(state["random"][accelerator.process_index])

    @staticmethod
    def _load(module: nn.Module, tensors: dict[str, torch.Tensor], checkpoint: Checkpoint) -> None:
        try:
            module.load_state_dict(tensors)
        except RuntimeError as error:  # names missing, superfluous and ill-shaped tensors over several lines
            raise UserError(f"{checkpoint.path} does not fit this model ({error}): check --config.") from error


def random_state() -> dict[str, Any]:
    """The state of this process's random number generators, as tensors and numbers."""
    state: Any = np.random.get_state()
    name, keys, *rest = state
    return {
        "python": random.getstate(),
        "numpy": [name, keys.tolist(), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Puts this process's random number generators into a state."""
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


__all__ = ["RunState"]
