"""A smaller copy of a model folder, to be published: what was trained apart is put together, the rest in 16 bits.

What decides which tokens a picture is written as stays in 32 bits, but for a frozen codebook of words, whose vectors
lie far enough apart.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoProcessor

from ..errors import UserError
from ..modeling import SimLVMConfig, V2LConfig
from ..references import LOADING_ERRORS, load_config, resolve, unreachable
from .folders import check_output, new_folder

WEIGHTS = "model.safetensors"
# By model, the beginnings of the names of tensors that stay as they are.
EXACT = {
    V2LConfig.model_type: ("encoder.", "quant_conv.", "global_quantizer.image_center"),
    SimLVMConfig.model_type: ("vqgan.encoder.", "vqgan.quant_conv.", "vqgan.quantizer.", "aligned_embedding.codes"),
}
# Embeddings of length about 1: 10 bits of their fraction instead of 7.
FINE = ("global_quantizer.codebook", "local_quantizer.codebook")


@torch.no_grad()
def compact_model(reference: str, output: str | Path) -> dict[str, Any]:
    """Writes a copy that loads as the model did and is about half as large.

    A V2L model's frozen local codebook [K, E] and its projector become one codebook [K, D]. Tensors that are not named
    in `EXACT` are rounded to bfloat16, codebooks of words to float16; the copy is computed with in float32, as before.

    Args:
        reference: A folder or a Hub id of a V2L model or a SimLVM.
        output: The new folder; must not exist, or be empty.

    Returns:
        `source`, `folded` (whether a projector was), `bytes_before` and `bytes_after` of the weights.

    Raises:
        UserError: If there is no such model, or it is of another kind.
    """
    output = Path(output).expanduser()
    check_output(output)
    folder = resolve(reference, "v2l")
    config = load_config(reference, folder)
    if config.model_type not in EXACT:
        raise UserError(
            f"{reference} is a {config.model_type} model, but a smaller copy is made of a V2L model or a SimLVM: a "
            "VQGAN's weights decide on its tokens and stay as they are."
        )
    try:
        model = AutoModel.from_pretrained(folder, dtype=torch.float32)
        processor = AutoProcessor.from_pretrained(folder)
    except LOADING_ERRORS as error:
        raise unreachable(reference, error) from error
    before = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    of_words = getattr(model.config, "local_codebook_size", None) is not None
    folded = of_words and model.config.local_projector and not model.config.local_codebook_trainable
    if folded:
        model.fold_projector()
    with new_folder(output) as aside:
        model.save_pretrained(aside)
        processor.save_pretrained(aside)
        tensors = {
            name: tensor.to(_dtype(config.model_type, name, tensor))
            for name, tensor in load_file(aside / WEIGHTS).items()
        }
        save_file(tensors, aside / WEIGHTS, metadata={"format": "pt"})
        _compute_in_float32(aside / "config.json")
    after = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    return {"source": reference, "folded": folded, "bytes_before": before, "bytes_after": after}


def _dtype(kind: str, name: str, tensor: torch.Tensor) -> torch.dtype:
    """How a tensor is stored."""
    if not tensor.is_floating_point() or name.startswith(EXACT[kind]):
        return tensor.dtype
    return torch.float16 if name.startswith(FINE) else torch.bfloat16


def _compute_in_float32(path: Path) -> None:
    """Says in a config file what the loader would otherwise read off the tensors."""
    fields = json.loads(path.read_text(encoding="utf-8"))
    fields["dtype"] = "float32"
    path.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


__all__ = ["compact_model"]
