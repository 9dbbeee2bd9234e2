"""Which tensor of ours is which tensor of theirs, as tables.

The left column names tensors of our models, whose encoder and decoder are diffusers'; the right column the source's.
`{half}` is encoder or decoder, `{level}` counts resolutions, `{mirrored}` is a decoder's level counted from the other
end (diffusers numbers them in the order of computation, taming-transformers in the encoder's), `{block}` counts the
blocks of a level or the layers of a tower, `{end}` is weight or bias.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch


def as_it_is(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself."""
    return tensor


def as_linear(tensor: torch.Tensor) -> torch.Tensor:
    """The weight [O, I] of a linear layer that was written as a 1x1 convolution [O, I, 1, 1]."""
    return tensor[:, :, 0, 0] if tensor.ndim == 4 and tensor.shape[2:] == (1, 1) else tensor


def transposed(tensor: torch.Tensor) -> torch.Tensor:
    """The weight [O, I] of a linear layer that was written as a matrix [I, O]."""
    return tensor.T if tensor.ndim == 2 else tensor


def third(index: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Takes query, key or value (0, 1, 2) out of one tensor [3 * D, ...] that holds all three."""

    def take(tensor: torch.Tensor) -> torch.Tensor:
        size = len(tensor) // 3 if tensor.ndim else 0
        return tensor[index * size : (index + 1) * size] if tensor.ndim else tensor

    return take


@dataclass(frozen=True)
class Rule:
    """One line of a table.

    Args:
        ours: Name of our tensor, with placeholders.
        theirs: Name of the source's tensor, with the same placeholders.
        take: Makes our tensor of theirs.
    """

    ours: str
    theirs: str
    take: Callable[[torch.Tensor], torch.Tensor] = as_it_is


Parts = Sequence[tuple[str, str, Callable[[torch.Tensor], torch.Tensor]]]

TAMING_RESIDUAL_BLOCK: Parts = (
    ("norm1", "norm1", as_it_is),
    ("conv1", "conv1", as_it_is),
    ("norm2", "norm2", as_it_is),
    ("conv2", "conv2", as_it_is),
    ("conv_shortcut", "nin_shortcut", as_it_is),
)
TAMING_ATTENTION: Parts = (
    ("group_norm", "norm", as_it_is),
    ("to_q", "q", as_linear),
    ("to_k", "k", as_linear),
    ("to_v", "v", as_linear),
    ("to_out.0", "proj_out", as_linear),
)
# the names that diffusers itself gave these layers before version 0.15
EARLY_DIFFUSERS_ATTENTION: Parts = (
    ("group_norm", "group_norm", as_it_is),
    ("to_q", "query", as_it_is),
    ("to_k", "key", as_it_is),
    ("to_v", "value", as_it_is),
    ("to_out.0", "proj_attn", as_it_is),
)


def layers(ours: str, theirs: str, parts: Parts | None = None) -> tuple[Rule, ...]:
    """Rules for weight and bias of a module, or of each of its parts."""
    if parts is None:
        return (Rule(f"{ours}.{{end}}", f"{theirs}.{{end}}"),)
    return tuple(Rule(f"{ours}.{our}.{{end}}", f"{theirs}.{their}.{{end}}", take) for our, their, take in parts)


# the same in all sources
AROUND_THE_CODEBOOK = (*layers("quant_conv", "quant_conv"), *layers("post_quant_conv", "post_quant_conv"))
LEARNED_CODEBOOK = (Rule("quantizer.codebook", "quantize.embedding.weight"),)

# taming-transformers, taming/modules/diffusionmodules/model.py; openMUSE and the V2L Tokenizer kept its names
TAMING = (
    *layers("{half}.net.conv_in", "{half}.conv_in"),
    *layers(
        "{half}.net.down_blocks.{level}.resnets.{block}", "{half}.down.{level}.block.{block}", TAMING_RESIDUAL_BLOCK
    ),
    *layers("{half}.net.down_blocks.{level}.attentions.{block}", "{half}.down.{level}.attn.{block}", TAMING_ATTENTION),
    *layers("{half}.net.down_blocks.{level}.downsamplers.0.conv", "{half}.down.{level}.downsample.conv"),
    *layers("{half}.net.mid_block.resnets.0", "{half}.mid.block_1", TAMING_RESIDUAL_BLOCK),
    *layers("{half}.net.mid_block.attentions.0", "{half}.mid.attn_1", TAMING_ATTENTION),
    *layers("{half}.net.mid_block.resnets.1", "{half}.mid.block_2", TAMING_RESIDUAL_BLOCK),
    *layers(
        "{half}.net.up_blocks.{level}.resnets.{block}", "{half}.up.{mirrored}.block.{block}", TAMING_RESIDUAL_BLOCK
    ),
    *layers("{half}.net.up_blocks.{level}.attentions.{block}", "{half}.up.{mirrored}.attn.{block}", TAMING_ATTENTION),
    *layers("{half}.net.up_blocks.{level}.upsamplers.0.conv", "{half}.up.{mirrored}.upsample.conv"),
    *layers("{half}.net.conv_norm_out", "{half}.norm_out"),
    *layers("{half}.net.conv_out", "{half}.conv_out"),
    *AROUND_THE_CODEBOOK,
)

# diffusers' VQModel: the very same blocks
DIFFUSERS = (
    Rule("{half}.net.{rest}", "{half}.{rest}"),
    *layers("{half}.net.{rest}.attentions.{block}", "{half}.{rest}.attentions.{block}", EARLY_DIFFUSERS_ATTENTION),
    *AROUND_THE_CODEBOOK,
)

# the V2L Tokenizer, models/models_v2l.py and models/encoder_decoder.py
V2L = (
    *TAMING,
    *layers("decoder.cross_attention.attention.{part}", "decoder.mid.cross_attn_1.{part}"),
    Rule("local_quantizer.codebook", "tok_embeddings.weight"),
    *layers("local_quantizer.projector", "codebook_projection"),
    Rule("global_quantizer.codebook", "tok_embeddings_global.weight"),
)

# OpenAI's CLIP image tower, which the V2L Tokenizer keeps as `global_encoder`; ours is transformers'
CLIP_LAYER = "image_tower.model.vision_model.encoder.layers.{block}"
THEIR_CLIP_LAYER = "global_encoder.transformer.resblocks.{block}"
CLIP = (
    Rule("image_tower.model.vision_model.embeddings.class_embedding", "global_encoder.class_embedding"),
    Rule("image_tower.model.vision_model.embeddings.patch_embedding.weight", "global_encoder.conv1.weight"),
    Rule("image_tower.model.vision_model.embeddings.position_embedding.weight", "global_encoder.positional_embedding"),
    *layers("image_tower.model.vision_model.pre_layrnorm", "global_encoder.ln_pre"),
    *layers(f"{CLIP_LAYER}.layer_norm1", f"{THEIR_CLIP_LAYER}.ln_1"),
    *layers(f"{CLIP_LAYER}.layer_norm2", f"{THEIR_CLIP_LAYER}.ln_2"),
    Rule(f"{CLIP_LAYER}.self_attn.q_proj.{{end}}", f"{THEIR_CLIP_LAYER}.attn.in_proj_{{end}}", third(0)),
    Rule(f"{CLIP_LAYER}.self_attn.k_proj.{{end}}", f"{THEIR_CLIP_LAYER}.attn.in_proj_{{end}}", third(1)),
    Rule(f"{CLIP_LAYER}.self_attn.v_proj.{{end}}", f"{THEIR_CLIP_LAYER}.attn.in_proj_{{end}}", third(2)),
    *layers(f"{CLIP_LAYER}.self_attn.out_proj", f"{THEIR_CLIP_LAYER}.attn.out_proj"),
    *layers(f"{CLIP_LAYER}.mlp.fc1", f"{THEIR_CLIP_LAYER}.mlp.c_fc"),
    *layers(f"{CLIP_LAYER}.mlp.fc2", f"{THEIR_CLIP_LAYER}.mlp.c_proj"),
    *layers("image_tower.model.vision_model.post_layernorm", "global_encoder.ln_post"),
    Rule("image_tower.model.visual_projection.weight", "global_encoder.proj", transposed),
)

__all__ = ["AROUND_THE_CODEBOOK", "CLIP", "DIFFUSERS", "LEARNED_CODEBOOK", "TAMING", "V2L", "Rule"]
