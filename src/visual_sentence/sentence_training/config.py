"""The settings of a run on visual sentences: one dataclass, one sentence per field, and the presets.

Sources: DeLVM, InternLM/configs/pretrain_300m.py and kd_1b_to_300m.py (https://github.com/ggjy/DeLVM); LVM, README.md
and EasyLM (https://github.com/ytongbai/LVM).
"""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from ..errors import UserError
from ..training.config import dashed, says


@dataclass
class SentenceTrainingConfig:
    """Everything that a run depends on, except for the models and the machine.

    Raises:
        UserError: If a value makes no sense or contradicts another.
    """

    data: list[str] = field(
        default_factory=list,
        metadata=says(
            "What to train on, one or several: TASK:SOURCE?option=value, as docs/visual_sentences_data.md tells, which "
            "is tokenized first; or folders of token shards."
        ),
    )
    output: str = field(
        default="", metadata=says("Folder for tokens, checkpoints, logs and the trained model.", changeable=True)
    )
    resume: str | None = field(
        default=None,
        metadata=says(
            "Continue from a checkpoint: 'latest' of the output folder, or the checkpoint's folder.", changeable=True
        ),
    )
    augment: bool = field(
        default=True, metadata=says("Flip, turn and crop pictures before a task is made of them, while tokenizing.")
    )
    streaming: bool = field(
        default=False, metadata=says("Read shards block by block instead of all into memory; one epoch is one pass.")
    )
    min_pairs: int = field(default=5, metadata=says("Fewest pairs in front of a sentence's query."))
    max_pairs: int = field(
        default=5, metadata=says("Most pairs in front of it; the number is drawn for each sentence.")
    )
    loss_on: Literal["targets", "everything"] = field(
        default="targets",
        metadata=says("Which images' tokens are learned: the answers, all pairs' targets counted in, or all images."),
    )
    answer_noise: float = field(
        default=0.0,
        metadata=says(
            "Highest share of a sentence's learned tokens that the model reads as others of them, so that it looks at "
            "the question more than at what it has written; what it has to say stays. The share is drawn for each row."
        ),
    )
    packing: Literal["none", "separate", "together"] = field(
        default="none",
        metadata=says(
            "Whether sentences share rows of max_images: none pads; separate keeps each to itself (DeLVM); together "
            "lets them see those before (LVM)."
        ),
    )

    seed: int = field(default=0, metadata=says("Of everything random."))
    batch_size: int = field(default=16, metadata=says("Rows per process and forward pass."))
    gradient_accumulation: int = field(default=1, metadata=says("Forward passes per step."))
    max_steps: int = field(default=1000, metadata=says("Steps of the optimizer."))
    max_minutes: float | None = field(
        default=None,
        metadata=says("Training time after which the run saves and ends, resumed parts included.", changeable=True),
    )
    optimizer: Literal["adamw", "muon"] = field(
        default="adamw",
        metadata=says(
            "AdamW for everything; or Muon for the matrices inside of layers and AdamW for tables and vectors."
        ),
    )
    learning_rate: float = field(default=3e-4, metadata=says("Highest learning rate of AdamW."))
    muon_learning_rate: float = field(default=1e-2, metadata=says("Highest learning rate of Muon."))
    final_learning_rate: float = field(default=0.0, metadata=says("The cosine's end, as a share of the highest."))
    adam_beta1: float = field(default=0.9, metadata=says("Decay of AdamW's mean of gradients."))
    adam_beta2: float = field(default=0.95, metadata=says("Decay of AdamW's mean of squared gradients."))
    adam_epsilon: float = field(default=1e-8, metadata=says("Added to AdamW's denominator."))
    weight_decay: float = field(default=0.1, metadata=says("Of all matrices; vectors have none."))
    schedule: Literal["cosine", "constant"] = field(
        default="cosine", metadata=says("After the warm-up: half a cosine, or the same rate throughout.")
    )
    warmup_steps: int = field(default=0, metadata=says("Steps over which the learning rate rises linearly from 0."))
    max_gradient_norm: float = field(
        default=1.0, metadata=says("Longer gradients are scaled down to this norm; 0 leaves them.")
    )
    mixed_precision: Literal["no", "bf16", "fp16", "auto"] = field(
        default="no",
        metadata=says("Number format inside of forward passes; auto takes bf16 where this machine is faster with it."),
    )
    gradient_checkpointing: bool = field(
        default=False,
        metadata=says("Compute activations twice instead of keeping them; Llama backbones only.", changeable=True),
    )

    lora_rank: int = field(
        default=0,
        metadata=says("LoRA's r, to tune a trained model by few weights; 0 trains all of the language model."),
    )
    lora_alpha: float = field(default=32.0, metadata=says("LoRA's alpha; updates are scaled by alpha / r."))
    lora_targets: list[str] = field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj"],
        metadata=says("Names of the layers that get LoRA's matrices."),
    )

    temperature: float = field(default=1.0, metadata=says("Distillation: divides both models' logits."))
    teacher_weight: float = field(
        default=1.0, metadata=says("Distillation: weight of the divergence from the teacher.")
    )
    label_weight: float = field(default=1.0, metadata=says("Distillation: weight of the labels' cross-entropy."))
    reverse_divergence: bool = field(
        default=False, metadata=says("Distillation: the student's divergence from the teacher, instead of the other.")
    )

    log_every: int = field(default=20, metadata=says("Steps between lines of the log.", changeable=True))
    checkpoint_every: int = field(
        default=500, metadata=says("Steps between checkpoints; 0 for one at the end only.", changeable=True)
    )
    keep_checkpoints: int = field(default=2, metadata=says("Checkpoints that are kept, the newest.", changeable=True))
    tracker: Literal["tensorboard", "trackio", "wandb", "none"] = field(
        default="tensorboard", metadata=says("Where curves are sent to beside log.jsonl.", changeable=True)
    )

    def __post_init__(self):
        if not self.data:
            raise UserError(
                "There is no data to train on: give --data, e.g. segmentation:photos.parquet, or a folder of token "
                "shards."
            )
        if not self.output:
            raise UserError("There is no place to write to: give --output, a folder.")
        for name in AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise UserError(f"{dashed(name)} is {getattr(self, name)}, but has to be at least 1.")
        for name in POSITIVE:
            if not getattr(self, name) > 0:
                raise UserError(f"{dashed(name)} is {getattr(self, name)}, but has to be above 0.")
        for name in NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise UserError(f"{dashed(name)} is {getattr(self, name)}, but must not be below 0.")
        for name in ("adam_beta1", "adam_beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{dashed(name)} is {getattr(self, name)}, but has to lie in [0, 1).")
        if not 0 <= self.answer_noise < 1:
            raise UserError(f"--answer-noise is {self.answer_noise}, but is a share in [0, 1).")
        if self.final_learning_rate > 1:
            raise UserError(f"--final-learning-rate is {self.final_learning_rate}, but is a share of the highest rate.")
        if self.min_pairs > self.max_pairs:
            raise UserError(
                f"--min-pairs is {self.min_pairs} and --max-pairs {self.max_pairs}: make the first smaller."
            )
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


AT_LEAST_ONE = ("batch_size", "gradient_accumulation", "max_steps", "log_every", "keep_checkpoints")
POSITIVE = ("learning_rate", "muon_learning_rate", "adam_epsilon", "lora_alpha", "temperature")
NOT_NEGATIVE = (
    "seed",
    "min_pairs",
    "warmup_steps",
    "max_gradient_norm",
    "weight_decay",
    "final_learning_rate",
    "lora_rank",
    "checkpoint_every",
    "teacher_weight",
    "label_weight",
)
# 262,144 tokens a step, as 8 processes of 16 rows of 8 images; the rates are of that.
DELVM = {
    "max_steps": 40_000,
    "batch_size": 16,
    "learning_rate": 1.5e-4,
    "final_learning_rate": 0.1,
    "adam_beta1": 0.9,
    "adam_beta2": 0.95,
    "adam_epsilon": 1e-8,
    "weight_decay": 0.1,
    "warmup_steps": 224,
    "max_gradient_norm": 1.0,
    "loss_on": "everything",
    "packing": "separate",
    "min_pairs": 3,
    "max_pairs": 3,
    "mixed_precision": "bf16",
    "checkpoint_every": 10_000,
}
LVM = {
    "max_steps": 400_000,
    "batch_size": 32,
    "gradient_accumulation": 4,
    "learning_rate": 1.5e-4,
    "final_learning_rate": 0.2,
    "weight_decay": 0.1,
    "warmup_steps": 8000,
    "loss_on": "everything",
    "packing": "together",
    "min_pairs": 7,
    "max_pairs": 7,
    "mixed_precision": "bf16",
    "checkpoint_every": 1000,
}
SMALL = {
    "max_steps": 1000,
    "batch_size": 4,
    "optimizer": "muon",
    "learning_rate": 3e-3,
    "muon_learning_rate": 1e-2,
    "warmup_steps": 50,
    "min_pairs": 5,
    "max_pairs": 5,
    "mixed_precision": "auto",
    "checkpoint_every": 100,
}
PRESETS = {"small": SMALL, "delvm": DELVM, "lvm": LVM}


def make_config(preset: str | None, given: dict[str, Any]) -> SentenceTrainingConfig:
    """Settings of a preset, with those that were given before its own.

    Raises:
        UserError: If a value makes no sense or contradicts another.
    """
    values: dict[str, Any] = {**PRESETS.get(preset or "", {}), **given}
    return SentenceTrainingConfig(**values)
