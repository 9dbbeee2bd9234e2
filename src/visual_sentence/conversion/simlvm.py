"""What published models of visual sentences have in common: a Llama over image tokens, and the VQGAN of the tokens."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig
from transformers.initialization import no_init_weights

from ..errors import UserError
from ..modeling import SimLVMConfig, SimLVMForVisualSentence, SimLVMProcessor, VQGANImageProcessor
from .folders import locate
from .plan import Options, Plan, checked_config
from .settings import Settings
from .sharded import HUB_FILES, read_weights
from .tables import Rule
from .vqgan_source import open_vqgan

RULES = (Rule("language_model.{rest}", "{rest}"),)
ROTARY = "computed from the configuration: rotary positions"


def find_model(reference: str, options: Options) -> tuple[Path, Settings]:
    """The folder of a language model, and what its configuration says.

    Args:
        reference: The folder, its file of weights, or a Hub id.
        options: `config` matters.

    Raises:
        UserError: If there is nothing.
    """
    path = locate(reference, HUB_FILES)
    folder = path.parent if path.is_file() else path
    return path, Settings.read(options.config or folder / "config.json")


def simlvm_plan(
    path: Path,
    settings: Settings,
    options: Options,
    *,
    text: Mapping[str, Any],
    num_specials: Sequence[int],
    layout: str,
    local_fit: str,
) -> Plan:
    """Builds the model that a source's tensors go into.

    Args:
        path: The language model's folder or file.
        settings: What its configuration says.
        options: `vqgan` matters.
        text: Fields of `LlamaConfig`.
        num_specials: The least and the most ids behind the codebook's.
        layout: How the source lays out its vocabulary, for messages.
        local_fit: How pictures become squares; see `VQGANImageProcessor`.

    Raises:
        UserError: If the VQGAN is not that of the vocabulary, or values contradict each other.
    """
    assert options.vqgan is not None  # `convert_checkpoint` asks for it
    vqgan = open_vqgan(options.vqgan)
    vocabulary, size = settings.integer("vocab_size"), vqgan.config.codebook_size
    least, most = num_specials
    if not size + least <= vocabulary <= size + most:
        raise UserError(
            f"{settings.path} says vocab_size {vocabulary}, but the VQGAN {options.vqgan} has a codebook of {size}, "
            f"and {layout}: its tokens would mean other things, so give the VQGAN that the model was trained with."
        )
    files, tensors = read_weights(path)
    longest = settings.integer("max_position_embeddings", default=2048)
    specials = {"pad": size} if vocabulary > size else {}
    config = checked_config(
        SimLVMConfig,
        settings.path,
        vq_config=vqgan.config,
        text_config=checked_config(LlamaConfig, settings.path, **text),
        special_token_ids=specials,
        max_images=longest // vqgan.config.image_seq_length,
    )
    images = VQGANImageProcessor(local_size=vqgan.config.image_size, local_fit=local_fit)
    pad = config.make_converter().pad_id
    layers = range(config.text_config.num_hidden_layers)
    return Plan(
        weights=files[0],
        tensors=tensors,
        model=_empty_model(config, tensors),
        processor=SimLVMProcessor(images, config.tokens_per_image, config.max_images, pad),
        rules=RULES,
        left_out={f"model.layers.{layer}.self_attn.rotary_emb.": ROTARY for layer in layers},
        elsewhere=("vqgan.",),
        finish=lambda model: model.take_vqgan(vqgan),
        settings=settings.values,
        parts=tuple(files[1:]),
        notes=(
            f"The image tokenizer is {Path(options.vqgan).name}. No file says which one the language model was trained "
            "with, and another of the same size would go unnoticed: complete a picture and look at it.",
        ),
    )


def _empty_model(config: SimLVMConfig, tensors: Mapping[str, torch.Tensor]) -> SimLVMForVisualSentence:
    """The model with nothing in it: the language model in the source's precision, the VQGAN in single."""
    kinds = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    with no_init_weights():  # seven billion draws would take minutes
        model = SimLVMForVisualSentence._from_config(config, dtype=kinds.pop() if len(kinds) == 1 else torch.float32)
    model.vqgan.float()
    return model.eval()


__all__ = ["find_model", "simlvm_plan"]
