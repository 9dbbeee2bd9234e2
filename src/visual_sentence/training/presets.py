"""Named settings: what the V2L Tokenizer's paper says, what its published code does, and what suits a laptop.

Sources: Zhu, Wei, Lu 2024 (https://arxiv.org/abs/2403.07874), sections 3.2 and 4.1; https://github.com/zh460045050/
V2L-Tokenizer at commit 80e50ac: Run.sh, step4_training_v2l_tokenizer.py, models/models_v2l.py.
"""

from dataclasses import dataclass, field
from typing import Any

from ..errors import UserError
from .config import EITHER_OR, TrainingConfig


@dataclass(frozen=True)
class Preset:
    """Settings under one name.

    Args:
        training: Fields of `TrainingConfig`.
        model: Fields of the model's config; those that a model does not have are passed over.
        needs_global_words: Fields among them that only a model with an image tower can have.
    """

    training: dict[str, Any]
    model: dict[str, Any] = field(default_factory=dict)
    needs_global_words: tuple[str, ...] = ("cross_attention",)


# Batch 8 a process is Run.sh's; the paper names 32 GPUs and no batch. Where the paper is silent (betas, epsilon,
# discriminator), the published code's value stands in both.
COMMON = {
    "optimizer": "adam",
    "adam_beta1": 0.5,
    "adam_beta2": 0.9,
    "adam_epsilon": 1e-7,
    "weight_decay": 0.0,
    "batch_size": 8,
    "epochs": 100.0,
    "warmup_epochs": 5.0,
    "schedule": "cosine",
    "max_gradient_norm": 0.0,
    "mixed_precision": "no",
    "ema_decay": 0.0,
    "random_crop": False,
    "crop_scale": 1.0,
    "random_flip": False,
    "discriminator_width": 64,
    "discriminator_layers": 2,
    "discriminator_norm": "batch",
}
PRESETS = {
    "paper": Preset(
        training={
            **COMMON,
            "learning_rate": 5e-4,
            "perceptual_weight": 1.0,
            "adversarial_weight": 0.1,
            "adversarial_adaptive": False,
            "adversarial_start": 0,
        },
        model={
            "reconstruction_loss": "l2",
            "codebook_loss_weight": 1.0,
            "commitment_loss_weight": 0.3,
            "cross_attention": "paper",
        },
    ),
    "published-code": Preset(
        training={
            **COMMON,
            "learning_rate": 4.5e-4,
            "perceptual_weight": 0.1,
            "adversarial_weight": 0.75,
            "adversarial_adaptive": True,
            "adversarial_start": 10_000,
        },
        model={
            "reconstruction_loss": "l1",
            "codebook_loss_weight": 0.33,
            "commitment_loss_weight": 1.0,
            "cross_attention": "published-code",
        },
    ),
    "small": Preset(
        training={
            "optimizer": "adamw",
            "learning_rate": 1e-3,
            "adam_beta1": 0.9,
            "adam_beta2": 0.99,
            "weight_decay": 1e-4,
            "batch_size": 16,
            "epochs": 1.0,
            "warmup_steps": 50,
            "unquantized_steps": 100,
            "mixed_precision": "auto",
            "schedule": "cosine",
            "max_gradient_norm": 1.0,
            "ema_decay": 0.995,
            "perceptual_weight": 0.0,
            "adversarial_weight": 0.0,
        }
    ),
}


def find_preset(name: str | None) -> Preset:
    """A preset by its name; an empty one for None.

    Raises:
        UserError: If there is none of that name.
    """
    if name is None:
        return Preset({})
    if name not in PRESETS:
        raise UserError(f"There is no preset {name!r}: choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]


def make_training_config(preset: str | None, given: dict[str, Any]) -> TrainingConfig:
    """Settings of a preset, overridden by what the user gave.

    Args:
        preset: Its name, or None.
        given: Fields of `TrainingConfig`. One of a pair that says the same in two ways (steps and epochs) overrides
            the other.

    Raises:
        UserError: If the preset is unknown or the settings contradict each other.
    """
    settings = dict(find_preset(preset).training)
    for pair in EITHER_OR:
        if any(given.get(name) is not None for name in pair):
            for name in pair:
                settings.pop(name, None)
    return TrainingConfig(**{**settings, **given})


__all__ = ["PRESETS", "Preset", "find_preset", "make_training_config"]
