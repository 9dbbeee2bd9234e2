"""What a reader of one kind of source hands on: tensors, tables and the model that they go into."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import PretrainedConfig, PreTrainedModel, ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor

from ..errors import UserError
from .tables import Rule

Config = TypeVar("Config", bound=PretrainedConfig)


@dataclass(frozen=True)
class Options:
    """What the user may say beside source and result.

    Args:
        config: The source's configuration file, where it is not found beside the weights.
        image_size: Side in pixels of the images that the result is meant for, where the source's is not known or not
            wanted.
        local_only: Leave V2L's image tower out.
        encoder: Where to take V2L's image tower from.
        global_words: File of the words of V2L's global codebook.
        language_model: The language model whose vocabulary V2L's tokens are words of.
        vqgan: The image tokenizer of LVM or DeLVM.
    """

    config: Path | None = None
    image_size: int | None = None
    local_only: bool = False
    encoder: str | None = None
    global_words: Path | None = None
    language_model: str | None = None
    vqgan: str | None = None


@dataclass(frozen=True)
class Plan:
    """A source that has been read, and where its tensors go.

    Args:
        weights: The file that was read, or the index over several.
        tensors: Its tensors.
        model: Ours, new.
        processor: Makes what the model takes.
        rules: Which tensor is which.
        left_out: What names may begin with that has no place in the model, and why.
        elsewhere: What our names begin with that `finish` fills.
        finish: Called when the tensors are in place, for what does not come from them.
        settings: What the source's own configuration says.
        notes: What a user of the result should know.
        parts: The files under the index, where there is one.
    """

    weights: Path
    tensors: Mapping[str, torch.Tensor]
    model: PreTrainedModel
    processor: BaseImageProcessor | ProcessorMixin
    rules: Sequence[Rule]
    left_out: Mapping[str, str]
    elsewhere: tuple[str, ...] = ()
    finish: Callable[[Any], None] = lambda model: None
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    parts: tuple[Path, ...] = ()


def checked_config(config_class: type[Config], source: Path, **values: Any) -> Config:
    """Builds a configuration of ours from a source's values.

    Args:
        config_class: Which.
        source: The file that the values come from, for messages.

    Raises:
        UserError: If the values contradict each other.
    """
    try:
        return config_class(**values)
    except ValueError as error:
        raise UserError(f"{source}: {error}") from error


__all__ = ["Options", "Plan", "checked_config"]
