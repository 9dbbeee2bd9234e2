"""The other way: a VQGAN of ours as a folder that diffusers' `VQModel` loads."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import VQModel
from transformers import AutoModel

from ..errors import UserError
from ..modeling import VQGANConfig, VQGANModel
from ..references import LOADING_ERRORS, load_config, resolve, unreachable
from .folders import check_output, new_folder

TARGETS = ("amused",)
SYMMETRIC = (
    "The weights work on images in [-1, 1], while diffusers' aMUSEd pipelines give and take [0, 1]: scale the images "
    "around the model."
)


@torch.no_grad()
def export_checkpoint(reference: str, target: str, output: str | Path) -> dict[str, Any]:
    """Writes a VQGAN of ours in another project's layout; tokens and images stay the same.

    Args:
        reference: A model folder of ours or a Hub id.
        target: "amused", diffusers' `VQModel`.
        output: The new folder; must not exist, or be empty.

    Returns:
        `source`, `to`, `config` (diffusers' own) and `notes`.

    Raises:
        UserError: If there is no such model, it is no VQGAN, or one that the target cannot express.
    """
    if target not in TARGETS:
        raise UserError(f"Unknown target {target!r}: choose one of {', '.join(TARGETS)}.")
    output = Path(output).expanduser()
    check_output(output)
    folder = resolve(reference, "v2l")
    config = load_config(reference, folder)
    if config.model_type != VQGANConfig.model_type:
        raise UserError(f"{reference} is a {config.model_type} model, but only our VQGAN can be written for diffusers.")
    if config.normalize_latents:
        raise UserError(
            f"{reference} scales its latents to length 1 (normalize_latents), which diffusers' VQModel cannot: it "
            "would find other tokens, so nothing was written."
        )
    if config.patch_size > 1:
        raise UserError(
            f"{reference} reads patches of {config.patch_size} pixels as channels (patch_size), which diffusers' "
            "VQModel cannot, so nothing was written."
        )
    try:
        model = AutoModel.from_pretrained(folder).eval()  # compared with what is written, not trained
    except LOADING_ERRORS as error:
        raise unreachable(reference, error) from error
    vq_model = as_vq_model(model)
    with new_folder(output) as aside:
        vq_model.save_pretrained(aside)
    described = json.loads(vq_model.to_json_string())
    notes = [SYMMETRIC] if config.value_range == "symmetric" else []
    return {"source": reference, "to": target, "config": described, "notes": notes}


def as_vq_model(model: VQGANModel) -> Any:
    """The same weights in diffusers' class, a `VQModel`, whose methods its annotations hide.

    Args:
        model: Ours. The entries of a codebook behind a projector are stored as they come out of it.
    """
    config = model.config
    attended = [level in config.attention_levels for level in range(len(config.block_out_channels))]
    vq_model: Any = VQModel(
        in_channels=config.num_channels,
        out_channels=config.num_channels,
        down_block_types=tuple("AttnDownEncoderBlock2D" if has else "DownEncoderBlock2D" for has in attended),
        up_block_types=tuple("AttnUpDecoderBlock2D" if has else "UpDecoderBlock2D" for has in reversed(attended)),
        block_out_channels=tuple(config.block_out_channels),
        layers_per_block=config.layers_per_block,
        latent_channels=config.latent_channels,
        num_vq_embeddings=config.codebook_size,
        vq_embed_dim=config.codebook_dim,
        norm_num_groups=config.norm_num_groups,
        sample_size=config.image_size,
        mid_block_add_attention=config.mid_block_attention,
        lookup_from_codebook=True,
    )
    entries = model.quantizer.lookup(torch.arange(config.codebook_size).view(1, 1, -1))
    state = {name.replace(".net.", ".", 1): tensor for name, tensor in model.state_dict().items()}
    state = {name: tensor for name, tensor in state.items() if not name.startswith("quantizer.")}
    state["quantize.embedding.weight"] = entries[0, :, 0].T.contiguous()
    vq_model.load_state_dict(state)
    return vq_model.eval()  # as `from_pretrained` gives models


__all__ = ["TARGETS", "as_vq_model", "export_checkpoint"]
