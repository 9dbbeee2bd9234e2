"""What a run is put together from before its first step: processes, optimizers, schedules, and what it continues."""

import json
import os
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedDataParallelKwargs
from diffusers.training_utils import EMAModel

from ..errors import UserError
from ..language import cpu_dtype
from ..modeling import V2LConfig, V2LModel, VQGANModel
from .checkpoints import Checkpoint, CheckpointFolder
from .config import TrainingConfig
from .monitor import CodebookMonitor
from .objective import Objective, codebook_size_of
from .pictures import PictureSource
from .run_state import RunState
from .schedule import Schedule

# Of a model's config, what says nothing of the network.
NOT_COMPARED = ("_name_or_path", "transformers_version", "auto_map", "dtype", "architectures")
# diffusers' advice for runs of less than a million steps: decay 0.999 is reached at step 10,000
AVERAGE_WARMUP_POWER = 3 / 4


class AcceleratorSettings(Protocol):
    """What any run's settings say of the machine."""

    @property
    def mixed_precision(self) -> str:
        """Number format inside of forward passes."""

    @property
    def tracker(self) -> str:
        """Where curves are sent to, or "none"."""

    @property
    def folder(self) -> Path:
        """The run's folder."""


def make_accelerator(config: AcceleratorSettings) -> Accelerator:
    """Joins the processes that were launched together.

    Raises:
        UserError: If the machine cannot compute in that precision.
    """
    if AcceleratorState._shared_state and PartialState().num_processes == 1:
        AcceleratorState._reset_state()  # of a run that broke off in this interpreter, perhaps in another precision
    try:
        accelerator = Accelerator(
            mixed_precision=precision_here(config.mixed_precision),
            log_with=None if config.tracker == "none" else config.tracker,
            project_dir=config.folder,
            # no buffer changes in training: codebooks are parameters or frozen
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        )
    except (ValueError, ImportError) as error:
        raise UserError(f"--mixed-precision {config.mixed_precision} does not work on this machine: {error}") from error
    if config.mixed_precision == "fp16" and accelerator.scaler is None:  # it would be passed over in silence
        raise UserError(f"--mixed-precision fp16 needs a GPU, this runs on {accelerator.device}: give bf16 or no.")
    return accelerator


def precision_here(wanted: str) -> str:
    """The number format that "auto" stands for on this machine: bf16 where it is the faster one, else no.

    A processor without instructions for it computes bf16 tens of times slower than float32.
    """
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available() and not _is_sent_to_cpu():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return "bf16" if cpu_dtype() is torch.bfloat16 else "no"


def _is_sent_to_cpu() -> bool:
    """Whether the environment tells Accelerate to leave the GPU alone, as launchers and `reproduce --device` do."""
    return is_set("ACCELERATE_USE_CPU") or os.environ.get("ACCELERATE_TORCH_DEVICE", "").startswith("cpu")


def is_set(name: str) -> bool:
    """Whether a switch of accelerate's environment is on."""
    return os.environ.get(name, "false").lower() in ("1", "true", "yes")


def release_accelerator(accelerator: Accelerator) -> None:
    """Ends trackers and processes, so that another run can follow in this interpreter."""
    accelerator.end_training()
    accelerator.free_memory()
    if accelerator.num_processes == 1:
        AcceleratorState._reset_state()  # the next run may ask for another precision


def find_checkpoint(config: TrainingConfig, checkpoints: CheckpointFolder) -> Checkpoint | None:
    """The checkpoint to continue from; None for a run from the beginning.

    Raises:
        UserError: If the output folder holds a run that is not to be continued, or the checkpoint is damaged.
    """
    if config.resume:
        path = checkpoints.find(config.resume)
        return None if path is None else checkpoints.read(path)
    if there := checkpoints.latest():
        raise UserError(
            f"{config.output} holds checkpoints of an earlier run (the last is {there.name}): continue it with "
            "--resume latest, or give another --output."
        )
    return None


def fixed_settings(
    config: TrainingConfig, model: VQGANModel | V2LModel, source: PictureSource, processes: int
) -> dict[str, Any]:
    """What has to be equal in a resumed run, as JSON values."""
    network = {f"model.{name}": value for name, value in model.config.to_dict().items() if name not in NOT_COMPARED}
    data = {"data": source.names, "pictures": source.counts, "processes": processes}
    return json.loads(json.dumps({**config.fixed(), **network, **data}))  # as they come back from a file


def require_same_settings(checkpoint: Checkpoint, wanted: dict[str, Any]) -> None:
    """Compares settings with those of the run that is continued.

    Raises:
        UserError: If some differ.
    """
    found = checkpoint.progress["settings"]
    different = [
        f"{name} was {found.get(name)!r} and is now {wanted.get(name)!r}"
        for name in sorted({*found, *wanted})
        if found.get(name) != wanted.get(name)
    ]
    if different:
        raise UserError(
            f"{checkpoint.path} is of a run with other settings ({'; '.join(different)[:500]}): give the same ones, or "
            "start anew in another --output."
        )


def require_movable_codes(config: TrainingConfig, model: VQGANModel | V2LModel) -> None:
    """Refuses unquantized steps for a codebook that cannot be moved to the latents behind them.

    Raises:
        UserError: If it is frozen and has no projector.
    """
    if config.unquantized_steps == 0 or not isinstance(model.config, V2LConfig):
        return
    if not model.config.local_projector and not model.config.local_codebook_trainable:
        raise UserError(
            "The local codebook is frozen and has no projector, so it cannot be moved to where the latents lie: give "
            "--unquantized-steps 0, or --set local_projector=true."
        )


def count_steps(config: TrainingConfig, per_epoch: int | None) -> tuple[int | None, int]:
    """Steps of the whole run and of its warm-up.

    Args:
        config: The settings.
        per_epoch: Steps of an epoch; None for a stream.

    Returns:
        Both; None for the first where only the time ends the run.

    Raises:
        UserError: If the warm-up takes the whole run, or epochs are asked of a stream.
    """
    total, warmup = config.max_steps, config.warmup_steps or 0
    if per_epoch is not None:
        total = total if config.epochs is None else max(1, round(config.epochs * per_epoch))
        warmup = warmup if config.warmup_epochs is None else round(config.warmup_epochs * per_epoch)
    elif config.epochs is not None or config.warmup_epochs is not None:
        raise UserError(
            "The length of a stream is not known, so epochs say nothing: give --max-steps and --warmup-steps."
        )
    if total is not None and warmup >= total:
        raise UserError(f"The warm-up takes {warmup} steps and the whole run {total}: make the warm-up shorter.")
    if total is not None and config.unquantized_steps >= total:
        raise UserError(
            f"--unquantized-steps is {config.unquantized_steps} and the whole run {total} steps, so nothing would be "
            "quantized: make it smaller."
        )
    return total, warmup


def make_state(
    config: TrainingConfig, objective: Objective, total: int | None, warmup: int, device: torch.device
) -> RunState:
    """Optimizers, schedule, moving average and monitor of a run at its beginning."""
    model, judge = objective.model, objective.judge
    parameters = model.trainable_parameters()
    chosen = {id(parameter) for parameter in parameters}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
    groups = [(parameters, config.learning_rate)]
    if judge is not None:
        groups.append((list(judge.parameters()), config.discriminator_learning_rate or config.learning_rate))
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    common = {
        "betas": (config.adam_beta1, config.adam_beta2),
        "eps": config.adam_epsilon,
        "weight_decay": config.weight_decay,
    }
    optimizers: list[torch.optim.Optimizer] = [kind(group, lr=rate, **common) for group, rate in groups]
    average = None
    if config.ema_decay > 0:
        average = EMAModel(
            parameters, decay=config.ema_decay, use_ema_warmup=True, power=AVERAGE_WARMUP_POWER, foreach=True
        )
    return RunState(
        model=model,
        discriminator=None if judge is None else judge.discriminator,
        optimizers=optimizers,
        schedule=Schedule(warmup, total, config.schedule == "cosine"),
        rates=[rate for _, rate in groups],
        average=average,
        monitor=CodebookMonitor(codebook_size_of(model), config.collapse_window, config.collapse_threshold, device),
    )
