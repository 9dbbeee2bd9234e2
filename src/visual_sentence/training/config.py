"""The settings of a training run: one dataclass, one sentence per field, and the presets.

Knows no model and no data; the command line is made from the dataclass (`options.py`).
"""

from dataclasses import Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from ..errors import UserError

CHANGEABLE = "changeable"
HELP = "help"


def says(sentence: str, changeable: bool = False) -> dict[str, Any]:
    """What belongs to a field of the settings.

    Args:
        sentence: What it does.
        changeable: Whether a resumed run may have another value than the run that it continues.
    """
    return {HELP: sentence, CHANGEABLE: changeable}


@dataclass
class TrainingConfig:
    """Everything that a run depends on, except for the model and the machine.

    Raises:
        UserError: If values contradict each other or lie outside of what makes sense.
    """

    data: list[str] = field(
        default_factory=list,
        metadata=says(
            "Pictures to train on, one or several of: a folder, Parquet files, a folder of `save_to_disk`, "
            "WebDataset archives (pattern*.tar), a Hub id; with [start:stop:step] behind it only those."
        ),
    )
    output: str = field(
        default="", metadata=says("Folder for checkpoints, samples, logs and the trained model.", changeable=True)
    )
    resume: str | None = field(
        default=None,
        metadata=says(
            "Continue from a checkpoint: 'latest' of the output folder, or the checkpoint's folder.", changeable=True
        ),
    )
    split: str = field(default="train", metadata=says("Split of a Hub data set or a saved one."))
    column: str | None = field(
        default=None, metadata=says("Column that holds the pictures; the first that does by default.")
    )
    streaming: bool = field(
        default=False, metadata=says("Read the data in its order instead of by row; a Hub data set is not stored.")
    )
    shuffle_block: int = field(default=1024, metadata=says("Pictures of a stream that are shuffled among themselves."))
    skip_bad: bool = field(
        default=False, metadata=says("Name and leave out unreadable pictures instead of stopping at the first.")
    )
    cache_in_memory: Literal["auto", "always", "never"] = field(
        default="auto",
        metadata=says(
            "Decode every picture once and keep it as 8-bit pixels; auto does so below 1 GB.", changeable=True
        ),
    )
    num_workers: int = field(
        default=0, metadata=says("Processes that read pictures beside the training.", changeable=True)
    )
    random_crop: bool = field(
        default=True, metadata=says("Cut the square out of a picture at random instead of from its centre.")
    )
    crop_scale: float = field(
        default=1.0, metadata=says("Side of that square as a share of the picture's shorter side.")
    )
    random_flip: bool = field(default=True, metadata=says("Mirror every other picture, at random."))

    seed: int = field(default=0, metadata=says("Of everything random."))
    batch_size: int = field(default=32, metadata=says("Pictures per process and forward pass."))
    gradient_accumulation: int = field(default=1, metadata=says("Forward passes per step."))
    max_steps: int | None = field(default=None, metadata=says("Steps of the optimizer; give this or epochs."))
    epochs: float | None = field(default=None, metadata=says("Passes through the data; give this or max_steps."))
    max_minutes: float | None = field(
        default=None,
        metadata=says("Training time after which the run saves and ends, resumed parts included.", changeable=True),
    )

    unquantized_steps: int = field(
        default=0,
        metadata=says(
            "First steps in which the decoder is given the latents themselves; then the codes are moved to where the "
            "latents lie, and quantization begins with most of the codebook in use."
        ),
    )

    optimizer: Literal["adam", "adamw"] = field(
        default="adamw", metadata=says("Adam with L2 regularisation or with decoupled weight decay.")
    )
    learning_rate: float = field(default=3e-4, metadata=says("Highest learning rate."))
    discriminator_learning_rate: float | None = field(
        default=None, metadata=says("The discriminator's; the same by default.")
    )
    adam_beta1: float = field(default=0.9, metadata=says("Decay of Adam's mean of gradients."))
    adam_beta2: float = field(default=0.99, metadata=says("Decay of Adam's mean of squared gradients."))
    adam_epsilon: float = field(default=1e-8, metadata=says("Added to Adam's denominator."))
    weight_decay: float = field(default=0.0, metadata=says("Of all weights of model and discriminator."))
    schedule: Literal["cosine", "constant"] = field(
        default="cosine",
        metadata=says("After the warm-up: half a cosine down to 0 at the last step, or the same rate throughout."),
    )
    warmup_steps: int | None = field(
        default=None, metadata=says("Steps over which the learning rate rises linearly from 0.")
    )
    warmup_epochs: float | None = field(default=None, metadata=says("The same in epochs."))
    max_gradient_norm: float = field(
        default=0.0, metadata=says("Longer gradients are scaled down to this norm; 0 leaves them.")
    )
    mixed_precision: Literal["no", "bf16", "fp16", "auto"] = field(
        default="no",
        metadata=says("Number format inside of forward passes; auto takes bf16 where this machine is faster with it."),
    )
    ema_decay: float = field(
        default=0.0,
        metadata=says(
            "Decay of the moving average of weights that is saved as the model, after a warm-up; 0 for none."
        ),
    )
    compile: bool = field(default=False, metadata=says("Compile the model with torch.compile.", changeable=True))
    channels_last: bool = field(
        default=True, metadata=says("Store images with their channels last, which convolutions like.")
    )

    perceptual_weight: float = field(
        default=1.0, metadata=says("Weight of the perceptual loss, the paper's lambda 1; 0 for none.")
    )
    perceptual: Literal["auto", "lpips", "offline-tower", "none"] = field(
        default="auto",
        metadata=says("Which perceptual loss; auto takes LPIPS where its weights are at hand, else the offline tower."),
    )
    adversarial_weight: float = field(
        default=0.0, metadata=says("Weight of the adversarial loss, the paper's lambda 2; 0 for none.")
    )
    adversarial_adaptive: bool = field(
        default=True,
        metadata=says(
            "Multiply that weight by the ratio of gradients at the decoder's last layer (VQGAN, equation 7)."
        ),
    )
    adversarial_start: int = field(default=0, metadata=says("Step at which adversarial loss and discriminator begin."))
    discriminator_width: int = field(default=64, metadata=says("Channels of the discriminator's first layer."))
    discriminator_layers: int = field(default=2, metadata=says("Layers of the discriminator that halve the image."))
    discriminator_norm: Literal["batch", "group", "none"] = field(
        default="batch", metadata=says("The discriminator's normalisation; group makes it independent of the batch.")
    )

    checkpoint_every: int = field(
        default=500, metadata=says("Steps between checkpoints; 0 for one at the end only.", changeable=True)
    )
    keep_checkpoints: int = field(default=2, metadata=says("Checkpoints that are kept, the newest.", changeable=True))
    sample_every: int = field(
        default=500, metadata=says("Steps between pictures of reconstructions; 0 for none.", changeable=True)
    )
    num_samples: int = field(default=8, metadata=says("Pictures in each of these.", changeable=True))
    log_every: int = field(
        default=50, metadata=says("Steps between lines of the log, each of which is a mean over them.", changeable=True)
    )
    tracker: Literal["tensorboard", "trackio", "wandb", "none"] = field(
        default="tensorboard", metadata=says("Where curves and samples are sent to beside log.jsonl.", changeable=True)
    )
    collapse_threshold: float = field(
        default=0.1,
        metadata=says("Share of the codebook in use below which the run warns of a collapse.", changeable=True),
    )
    collapse_window: int = field(default=100, metadata=says("Last steps over which codes count as in use."))

    def __post_init__(self):
        self._check_choices()
        self._check_ranges()
        if not self.data:
            raise UserError("There is no data to train on: give --data, e.g. a folder of pictures.")
        if not self.output:
            raise UserError("There is no place to write to: give --output, a folder.")
        for one, other in EITHER_OR:
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise UserError(f"{dashed(one)} and {dashed(other)} say the same in two ways: give one of them.")
        if self.max_steps is None and self.epochs is None:
            if self.max_minutes is None:
                raise UserError("Nothing says when to stop: give --max-steps, --epochs or --max-minutes.")
            if self.schedule != "constant":
                raise UserError(
                    "The cosine schedule has to know the last step, which --max-minutes alone does not tell: give "
                    "--max-steps or --epochs too, or --schedule constant."
                )

    def _check_choices(self) -> None:
        for entry in fields(self):
            choices = getattr(entry.type, "__args__", ()) if _is_choice(entry) else ()
            value = getattr(self, entry.name)
            if choices and value not in choices:
                raise UserError(f"{dashed(entry.name)} is {value!r}: choose one of {', '.join(choices)}.")

    def _check_ranges(self) -> None:
        for name in AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise UserError(f"{dashed(name)} is {getattr(self, name)}, but has to be at least 1.")
        for name in NOT_NEGATIVE:
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise UserError(f"{dashed(name)} is {value}, but must not be below 0.")
        for name in POSITIVE:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"{dashed(name)} is {value}, but has to be above 0.")
        for name in SHARES:
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{dashed(name)} is {getattr(self, name)}, but has to lie in [0, 1).")
        if not 0 < self.crop_scale <= 1:
            raise UserError(f"--crop-scale is {self.crop_scale}, but is a share above 0 and up to 1.")

    @property
    def folder(self) -> Path:
        """The output folder."""
        return Path(self.output).expanduser()

    @property
    def norm(self) -> str | None:
        """The discriminator's normalisation as `PatchDiscriminator` takes it."""
        return None if self.discriminator_norm == "none" else self.discriminator_norm

    def as_dict(self) -> dict[str, Any]:
        """All settings as JSON values."""
        return asdict(self)

    def fixed(self) -> dict[str, Any]:
        """The settings that a resumed run has to share with the run that it continues, as JSON values."""
        longer = {"max_steps", "epochs"} if self.schedule == "constant" else set()
        elsewhere = {"data"}  # compared by name and count, so that it may be moved
        return {
            entry.name: getattr(self, entry.name)
            for entry in fields(self)
            if not entry.metadata[CHANGEABLE] and entry.name not in longer | elsewhere
        }


EITHER_OR = (("max_steps", "epochs"), ("warmup_steps", "warmup_epochs"))
AT_LEAST_ONE = (
    "batch_size",
    "gradient_accumulation",
    "shuffle_block",
    "discriminator_width",
    "discriminator_layers",
    "keep_checkpoints",
    "num_samples",
    "log_every",
    "collapse_window",
)
NOT_NEGATIVE = (
    "seed",
    "num_workers",
    "unquantized_steps",
    "weight_decay",
    "warmup_steps",
    "warmup_epochs",
    "max_gradient_norm",
    "perceptual_weight",
    "adversarial_weight",
    "adversarial_start",
    "checkpoint_every",
    "sample_every",
)
POSITIVE = ("max_steps", "epochs", "max_minutes", "learning_rate", "discriminator_learning_rate", "adam_epsilon")
SHARES = ("adam_beta1", "adam_beta2", "ema_decay", "collapse_threshold")


def dashed(name: str) -> str:
    """A field's name as an option of the command line."""
    return "--" + name.replace("_", "-")


def _is_choice(entry: Field) -> bool:
    return getattr(entry.type, "__origin__", None) is Literal


__all__ = ["TrainingConfig", "dashed"]
