"""Configuration of the V2L model: an image as words of a frozen language model.

Source: Zhu, Wei, Lu 2024, "Beyond Text: Frozen Large Language Models in Visual Signal Comprehension"
(https://arxiv.org/abs/2403.07874), section 3.2, 4.1 and appendix A. Level 1.
"""

from collections.abc import Sequence
from typing import Any

from transformers import PretrainedConfig

from .convolutional_codec import CodecSizes, check_codec_sizes

ENCODER_TYPES = ("transformers", "open_clip", "conse")


class V2LConfig(CodecSizes, PretrainedConfig):
    """Describes a `V2LModel`. The defaults are the paper's sizes where it names them.

    Args:
        encoder_type: Which kind of joint image-text encoder the frozen image tower comes from: "transformers" (any
            model with `get_image_features`), "open_clip" (any open_clip architecture) or "conse"; None for a model
            without an image tower.
        encoder_config: The tower's own configuration: for "transformers" and "conse" a dict with `model_type`, for
            "open_clip" the architecture's model configuration.
        encoder_name: Where the encoder was loaded from, for the record.
        embedding_dim: D, width of the joint space and of the global codebook (768 for CLIP ViT-L/14).
        num_words: Entries of the global codebook (the paper's 11,908).
        num_global_tokens: k, global tokens of an image by default (the paper's K_g: 5 and 21).
        language_model: Reference of the language model whose vocabulary the words come from.
        image_size: Side of the local branch's view in pixels (paper, section 4.1: 128).
        local_codebook_size: K, entries of the local codebook, one for each of the language model's; None for a model
            without the local half.
        local_embedding_dim: E, width of the local codebook as it is stored (768 for CLIP ViT-L/14).
        local_latent_dim: D, width that the projector gives it; E by default, and always E without a projector.
        local_projector: Whether the local codebook passes a trained linear layer (table 6: "projected").
        local_codebook_trainable: Whether the local codebook itself is trained (never in the paper).
        quantizer_gradient: "straight-through" (paper, appendix B) or "rotation".
        normalize_latents: Whether latents are scaled to length 1 before the look-up (published code: yes).
        codebook_loss_weight: Weight of the term that moves projector or codebook.
        commitment_loss_weight: Weight of the term that moves the encoder. The paper's beta of 0.3 is this one; the
            published code has 0.33 on the codebook term and 1 here.
        reconstruction_loss: "l2" (paper) or "l1" (published code).
        block_out_channels: Channels of each level (paper, appendix A); P * 2 ** (levels - 1) pixels become one
            local token, per side.
        patch_size: P; encoder and decoder see squares of P x P pixels as channels of one place (paper: 1).
        layers_per_block: Residual blocks of an encoder's level; the decoder has one more.
        latent_channels: Z, between encoder and quantizer.
        norm_num_groups: Groups of the normalisation.
        mid_block_attention: Whether there is self-attention at the smallest resolution.
        cross_attention: How the decoder looks at the global words: "paper", "paper-appendix", "published-code" (see
            `WordAttention`), or None where it does not (table 3, 256 tokens instead of 277). Without an image tower it
            takes global tokens found elsewhere.
        cross_attention_heads: Heads of that layer.

    Raises:
        ValueError: If a value contradicts another; the message names both.
    """

    model_type = "v2l"

    def __init__(
        self,
        encoder_type: str | None = "transformers",
        encoder_config: dict | None = None,
        encoder_name: str | None = None,
        embedding_dim: int = 768,
        num_words: int = 11908,
        num_global_tokens: int = 5,
        language_model: str | None = None,
        image_size: int = 128,
        local_codebook_size: int | None = None,
        local_embedding_dim: int = 768,
        local_latent_dim: int | None = None,
        local_projector: bool = True,
        local_codebook_trainable: bool = False,
        quantizer_gradient: str = "straight-through",
        normalize_latents: bool = True,
        codebook_loss_weight: float = 1.0,
        commitment_loss_weight: float = 0.3,
        reconstruction_loss: str = "l2",
        block_out_channels: Sequence[int] = (128, 256, 256, 512),
        layers_per_block: int = 2,
        latent_channels: int = 256,
        norm_num_groups: int = 32,
        mid_block_attention: bool = True,
        cross_attention: str | None = None,
        cross_attention_heads: int = 8,
        patch_size: int = 1,
        **kwargs,
    ):
        kwargs.pop("downsampling_factor", None)  # configs of version 0.1 name it; it follows from the levels
        if encoder_type is not None and encoder_type not in ENCODER_TYPES:
            raise ValueError(f"encoder_type must be one of {', '.join(ENCODER_TYPES)} or None, got {encoder_type!r}.")
        if not 1 <= num_global_tokens <= num_words:
            raise ValueError(
                f"num_global_tokens is {num_global_tokens}, but the codebook has {num_words} words: "
                f"choose a number from 1 to {num_words}."
            )
        check_codec_sizes(image_size, patch_size, block_out_channels, norm_num_groups, reconstruction_loss)
        self.encoder_type = encoder_type
        self.encoder_config = without_paths(encoder_config or {"model_type": "clip"})
        self.encoder_name = encoder_name
        self.embedding_dim = embedding_dim
        self.num_words = num_words
        self.num_global_tokens = num_global_tokens
        self.language_model = language_model
        self.image_size = image_size
        self.local_codebook_size = local_codebook_size
        self.local_embedding_dim = local_embedding_dim
        self.local_latent_dim = local_embedding_dim if local_latent_dim is None else local_latent_dim
        self.local_projector = local_projector
        self.local_codebook_trainable = local_codebook_trainable
        self.quantizer_gradient = quantizer_gradient
        self.normalize_latents = normalize_latents
        self.codebook_loss_weight = codebook_loss_weight
        self.commitment_loss_weight = commitment_loss_weight
        self.reconstruction_loss = reconstruction_loss
        self.block_out_channels = list(block_out_channels)
        self.patch_size = patch_size
        self.layers_per_block = layers_per_block
        self.latent_channels = latent_channels
        self.norm_num_groups = norm_num_groups
        self.mid_block_attention = mid_block_attention
        self.cross_attention = cross_attention
        self.cross_attention_heads = cross_attention_heads
        super().__init__(**kwargs)


def without_paths(config: Any) -> Any:
    """A config without `_name_or_path` at any depth: where a part once lay says nothing to whoever loads the whole."""
    if not isinstance(config, dict):
        return config
    return {name: without_paths(value) for name, value in config.items() if name != "_name_or_path"}


__all__ = ["V2LConfig"]
