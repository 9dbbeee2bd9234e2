"""The settings of a tuning run: one dataclass, one sentence per field; the command line is made from it."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from ..errors import UserError
from ..training.config import dashed, says


@dataclass
class TuningConfig:
    """Everything that a run depends on, except for the models and the machine; the defaults are the paper's.

    Raises:
        UserError: If a value makes no sense.
    """

    output: str = field(default="", metadata=says("Folder for checkpoints, logs and the adapter.", changeable=True))
    resume: str | None = field(
        default=None,
        metadata=says(
            "Continue from a checkpoint: 'latest' of the output folder, or the checkpoint's folder.", changeable=True
        ),
    )
    rank: int = field(default=4, metadata=says("LoRA's r."))
    alpha: float = field(default=32.0, metadata=says("LoRA's alpha; updates are scaled by alpha / r."))
    dropout: float = field(default=0.0, metadata=says("Dropout in front of LoRA's matrices."))
    target_modules: list[str] = field(
        default_factory=lambda: ["q_proj", "k_proj"], metadata=says("Names of the layers that get LoRA's matrices.")
    )
    seed: int = field(default=0, metadata=says("Of everything random."))
    batch_size: int = field(default=8, metadata=says("Pictures per process and forward pass."))
    gradient_accumulation: int = field(default=1, metadata=says("Forward passes per step."))
    max_steps: int = field(default=1000, metadata=says("Steps of the optimizer."))
    max_minutes: float | None = field(
        default=None,
        metadata=says("Training time after which the run saves and ends, resumed parts included.", changeable=True),
    )
    learning_rate: float = field(default=3e-4, metadata=says("Highest learning rate of Adam."))
    warmup_steps: int = field(default=0, metadata=says("Steps over which the learning rate rises linearly from 0."))
    schedule: Literal["cosine", "constant"] = field(
        default="cosine", metadata=says("After the warm-up: half a cosine down to 0, or the same rate throughout.")
    )
    max_gradient_norm: float = field(
        default=1.0, metadata=says("Longer gradients are scaled down to this norm; 0 leaves them.")
    )
    mixed_precision: Literal["no", "bf16", "fp16"] = field(
        default="no", metadata=says("Number format inside of forward passes.")
    )
    merge: bool = field(
        default=False,
        metadata=says("Also write the language model with its adapter merged into it.", changeable=True),
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
        counts = ("rank", "batch_size", "gradient_accumulation", "max_steps", "log_every", "keep_checkpoints")
        for name in counts:
            if getattr(self, name) < 1:
                raise UserError(f"{dashed(name)} is {getattr(self, name)}, but has to be at least 1.")
        for name in ("alpha", "learning_rate"):
            if not getattr(self, name) > 0:
                raise UserError(f"{dashed(name)} is {getattr(self, name)}, but has to be above 0.")
        for name in ("seed", "warmup_steps", "max_gradient_norm", "checkpoint_every", "dropout"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{dashed(name)} is {getattr(self, name)}, but must not be below 0.")
        if self.dropout >= 1:
            raise UserError(f"--dropout is {self.dropout}, but has to lie in [0, 1).")
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
