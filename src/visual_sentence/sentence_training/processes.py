"""How processes that were launched together share a model: copies, shards (FSDP2) or DeepSpeed; on the CPU too."""

import os

import torch
from accelerate import Accelerator
from accelerate.state import PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin, InitProcessGroupKwargs, KwargsHandler

from ..errors import UserError
from ..modeling import SimLVMForVisualSentence
from ..training.preparation import is_set, make_accelerator, precision_here, release_accelerator
from .config import SentenceTrainingConfig

COPIES = "copies"
SHARING = {DistributedType.FSDP: "fsdp2", DistributedType.DEEPSPEED: "deepspeed"}


def join_processes(config: SentenceTrainingConfig) -> Accelerator:
    """Joins the processes that were launched together, as `scripts/accelerate/` describes them.

    Raises:
        UserError: If the machine cannot compute in that precision, or what was launched is not supported.
    """
    accelerator = _join_deepspeed(config) if is_set("ACCELERATE_USE_DEEPSPEED") else make_accelerator(config)
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != accelerator.num_processes:  # each would believe that it is alone, and write what the others write
        raise UserError(
            f"{launched} processes were launched, but {accelerator.num_processes} found each other on "
            f"{accelerator.device}: without a GPU, set ACCELERATE_USE_CPU=true in the environment."
        )
    accelerator.gradient_accumulation_steps = config.gradient_accumulation
    if is_set("ACCELERATE_USE_FSDP"):
        if os.environ.get("FSDP_VERSION") != "2":
            raise UserError("FSDP's version 1 is not supported: take scripts/accelerate/fsdp2.yaml.")
        if accelerator.distributed_type == DistributedType.MULTI_CPU:
            _shard_on_cpu(accelerator)
    return accelerator


def share_model(
    accelerator: Accelerator, model: SimLVMForVisualSentence, optimizer: torch.optim.Optimizer
) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """Model and optimizer as the processes have them; FSDP2 cuts the model into its layers, of whatever kind."""
    if accelerator.distributed_type == DistributedType.FSDP:
        kinds = {type(part).__name__ for part in model.language_model.modules()}
        layers = {*(model._no_split_modules or ()), *(model.language_model._no_split_modules or ())}
        plugin = accelerator.state.fsdp_plugin
        assert plugin is not None  # as these are FSDP's processes
        plugin.transformer_cls_names_to_wrap = sorted(kinds & layers)
    return accelerator.prepare(model, optimizer)


def part_processes(accelerator: Accelerator) -> None:
    """Ends what `join_processes` began, so that another run can follow in this interpreter."""
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        accelerator.free_memory()  # its engine says goodbye to the other processes, which have to be there for it
        accelerator.end_training()
    else:
        release_accelerator(accelerator)


def sharing(accelerator: Accelerator) -> str:
    """How the processes share a model, which decides what an optimizer's state looks like."""
    return SHARING.get(accelerator.distributed_type, COPIES)


def _shard_on_cpu(accelerator: Accelerator) -> None:
    """Lets FSDP2 shard where there is no GPU; Accelerate would make copies there without a word."""
    plugin = FullyShardedDataParallelPlugin()
    if accelerator.mixed_precision != "no":
        plugin.set_mixed_precision(accelerator.mixed_precision)
    accelerator.state.fsdp_plugin = plugin
    accelerator.state.distributed_type = DistributedType.FSDP
    PartialState._shared_state["distributed_type"] = DistributedType.FSDP


def _join_deepspeed(config: SentenceTrainingConfig) -> Accelerator:
    """With what a run's settings decide put into DeepSpeed's own."""
    if config.mixed_precision == "fp16":
        raise UserError("--mixed-precision fp16 is not supported under DeepSpeed: give bf16.")
    handlers: list[KwargsHandler] = [] if torch.cuda.is_available() else [InitProcessGroupKwargs(backend="gloo")]
    try:
        accelerator = Accelerator(
            mixed_precision=precision_here(config.mixed_precision),
            log_with=None if config.tracker == "none" else config.tracker,
            project_dir=config.folder,
            gradient_accumulation_steps=config.gradient_accumulation,
            kwargs_handlers=handlers,
        )
    except (ValueError, ImportError) as error:
        raise UserError(f"DeepSpeed does not start on this machine: {str(error).splitlines()[0]}") from error
    plugin = accelerator.state.deepspeed_plugin
    assert plugin is not None  # as DeepSpeed was asked for
    settings = plugin.deepspeed_config
    if settings["zero_optimization"]["stage"] == 3:
        raise UserError("DeepSpeed's ZeRO stage 3 is not supported: take stage 2, or scripts/accelerate/fsdp2.yaml.")
    settings["train_micro_batch_size_per_gpu"] = config.batch_size
    settings["gradient_accumulation_steps"] = config.gradient_accumulation
    settings["gradient_clipping"] = config.max_gradient_norm
    return accelerator
