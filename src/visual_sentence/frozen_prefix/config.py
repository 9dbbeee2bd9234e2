"""The settings of a run: one dataclass, one sentence per field; the command line is made from it."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from ..errors import UserError
from ..training.config import dashed, says


@dataclass
class FrozenTuningConfig:
    """Everything that a run depends on, except for the models, the data and the machine.

    Raises:
        UserError: If a value makes no sense.
    """

    output: str = field(default="", metadata=says("Folder for checkpoints, logs and the model.", changeable=True))
    resume: str | None = field(
        default=None,
        metadata=says(
            "Continue from a checkpoint: 'latest' of the output folder, or the checkpoint's folder.", changeable=True
        ),
    )
    seed: int = field(default=0, metadata=says("Of everything random."))
    batch_size: int = field(default=32, metadata=says("Pictures per process and step."))
    max_steps: int = field(default=1000, metadata=says("Steps of the optimizer."))
    max_minutes: float | None = field(
        default=None,
        metadata=says("Training time after which the run saves and ends, resumed parts included.", changeable=True),
    )
    learning_rate: float = field(default=1e-3, metadata=says("Highest learning rate of Adam."))
    warmup_steps: int = field(default=0, metadata=says("Steps over which the learning rate rises linearly from 0."))
    schedule: Literal["cosine", "constant"] = field(
        default="cosine", metadata=says("After the warm-up: half a cosine down to 0, or the same rate throughout.")
    )
    max_gradient_norm: float = field(
        default=1.0, metadata=says("Longer gradients are scaled down to this norm; 0 leaves them.")
    )
    mixed_precision: Literal["no", "bf16"] = field(
        default="no", metadata=says("Number format inside of forward passes.")
    )
    log_every: int = field(default=10, metadata=says("Steps between lines of the log.", changeable=True))
    checkpoint_every: int = field(
        default=100, metadata=says("Steps between checkpoints; 0 for one at the end only.", changeable=True)
    )
    keep_checkpoints: int = field(default=2, metadata=says("Checkpoints that are kept, the newest.", changeable=True))
    tracker: Literal["tensorboard", "trackio", "wandb", "none"] = field(
        default="tensorboard", metadata=says("Where curves are sent to beside log.jsonl.", changeable=True)
    )

    def __post_init__(self):
        if not self.output:
            raise UserError("There is no place to write to: give --output, a folder.")
        for name in ("batch_size", "max_steps", "log_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise UserError(f"{dashed(name)} is {getattr(self, name)}, but has to be at least 1.")
        if not self.learning_rate > 0:
            raise UserError(f"--learning-rate is {self.learning_rate}, but has to be above 0.")
        for name in ("seed", "warmup_steps", "max_gradient_norm", "checkpoint_every"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{dashed(name)} is {getattr(self, name)}, but must not be below 0.")
        if self.warmup_steps >= self.max_steps:
            raise UserError(
                f"The warm-up takes {self.warmup_steps} steps and the whole run {self.max_steps}: make it shorter."
            )

    @property
    def folder(self) -> Path:
        """The output folder."""
        return Path(self.output).expanduser()

    def fixed(self) -> dict[str, Any]:
        """The settings that a resumed run has to share with the run that it continues, as JSON values."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self) if not entry.metadata["changeable"]}
