"""The model of a run, and what of it is trained: the whole language model, or LoRA's matrices on it."""

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file

from ..errors import UserError
from ..modeling import SimLVMForVisualSentence
from ..training.checkpoints import MODEL_FILE
from .config import SentenceTrainingConfig

ADAPTER_FOLDER = "adapter"
# A checkpoint's tensors are read back from one file.
SHARD, CHECKPOINT_SHARD = "5GB", "1000GB"


class TunedModel:
    """A SimLVM that is trained.

    Args:
        model: The model; with a rank, LoRA's matrices are put on its language model in place.
        config: Names rank, alpha and layers.

    Raises:
        UserError: If the language model has no layers of those names.
    """

    def __init__(self, model: SimLVMForVisualSentence, config: SentenceTrainingConfig):
        self.model, self.config, self.has_lora = model, config, config.lora_rank > 0
        if self.has_lora:
            model.requires_grad_(False)
            add_lora(model, config)
        self.names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def load(self, tensors: dict[str, torch.Tensor], path: Path) -> None:
        """Takes over a checkpoint's tensors.

        Raises:
            UserError: If they are of another model.
        """
        try:
            found = self.model.load_state_dict(tensors, strict=False)
        except RuntimeError as error:
            raise UserError(
                f"{path} does not fit this model ({str(error).splitlines()[0]}): check --config."
            ) from error
        missing = sorted(set(self.names) & set(found.missing_keys))
        if missing or found.unexpected_keys:
            odd = (missing or found.unexpected_keys)[0]
            raise UserError(f"{path} does not fit this model, e.g. at {odd}: check --config.")

    def save_checkpoint(self, folder: Path, weights: dict[str, torch.Tensor]) -> None:
        """Writes a model folder, or LoRA's matrices alone.

        Args:
            folder: Where.
            weights: All tensors of the model.
        """
        if self.has_lora:
            save_file({name: weights[name] for name in self.names}, folder / MODEL_FILE)
        else:
            self.model.save_pretrained(folder, state_dict=dict(weights), max_shard_size=CHECKPOINT_SHARD)

    def save_model(self, folder: Path, weights: dict[str, torch.Tensor]) -> None:
        """Writes the trained model; LoRA's matrices merged into it, and beside it as an adapter.

        Args:
            folder: Where.
            weights: All tensors of the model.
        """
        if not self.has_lora:
            self.model.save_pretrained(folder, state_dict=dict(weights), max_shard_size=SHARD)
            return
        with torch.device("meta"):  # the run's own may be spread over processes
            whole = SimLVMForVisualSentence(self.model.config)
            adapted = add_lora(whole, self.config)
        whole.load_state_dict(weights, assign=True)
        adapted.save_pretrained(str(folder / ADAPTER_FOLDER))
        whole.language_model = adapted.merge_and_unload()
        whole.save_pretrained(folder, max_shard_size=SHARD)


def add_lora(model: SimLVMForVisualSentence, config: SentenceTrainingConfig) -> PeftModel:
    """Puts LoRA's matrices into the layers of the model's language model.

    Returns:
        What peft makes of the language model; the model goes on calling its own, whose layers have changed.

    Raises:
        UserError: If it has no layers of those names.
    """
    alpha: Any = config.lora_alpha  # peft says int, and divides by the rank
    lora = LoraConfig(r=config.lora_rank, lora_alpha=alpha, target_modules=list(config.lora_targets))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of transformers, at names that peft uses
            return get_peft_model(model.language_model, lora)
    except ValueError as error:
        kinds = (torch.nn.Linear,)
        names = sorted(
            {name.split(".")[-1] for name, part in model.language_model.named_modules() if isinstance(part, kinds)}
        )
        raise UserError(
            f"The language model has no layers called {', '.join(config.lora_targets)} (it has {', '.join(names)}): "
            "name others by --lora-targets."
        ) from error
