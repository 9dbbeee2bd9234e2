"""Configuration of the VQGAN: an image as entries of a learned codebook.

Sources: VQGAN, Esser et al. 2021 (https://arxiv.org/abs/2012.09841); the default sizes are those of the image model
that LVM (https://arxiv.org/abs/2312.00785) uses and diffusers knows as amused-512's: 256 tokens an image of 256
pixels, 8192 entries of 64 dimensions. Level 1.
"""

from collections.abc import Sequence

from transformers import PretrainedConfig

from .convolutional_codec import CodecSizes, check_codec_sizes

CODEBOOKS = ("learned", "simvq")
VALUE_RANGES = ("symmetric", "unit")


class VQGANConfig(CodecSizes, PretrainedConfig):
    """Describes a `VQGANModel`.

    Args:
        image_size: Side of the images in pixels; others of a multiple of the downsampling factor work too.
        num_channels: C of the images.
        block_out_channels: Channels of each level; f = P * 2 ** (levels - 1) pixels become one token, per side.
        patch_size: P; the encoder reads, and the decoder writes, squares of P x P pixels as channels of one place. 1 is
            the papers' way; 2 trains several times faster on a CPU, as the largest level has a quarter of the places.
        layers_per_block: Residual blocks of an encoder's level; the decoder has one more.
        latent_channels: Z, between encoder and quantizer.
        codebook_size: K.
        codebook_dim: D, width of the entries.
        codebook: "learned" (VQ-VAE) or "simvq": a frozen random codebook behind one trained linear layer.
        quantizer_gradient: "straight-through" or "rotation".
        normalize_latents: Whether latents are scaled to length 1 before the look-up.
        codebook_loss_weight: Weight of the term that moves the codebook.
        commitment_loss_weight: Weight of the term that moves the encoder, the paper's beta. taming-transformers and
            diffusers' `VQModel` have these two the other way round: 0.25 and 1.0.
        reconstruction_loss: "l1" or "l2".
        mid_block_attention: Whether there is self-attention at the smallest resolution.
        attention_levels: Levels with self-attention behind each residual block.
        norm_num_groups: Groups of the normalisation.
        value_range: What the weights were trained on, "symmetric" for [-1, 1] or "unit" for [0, 1]; the model
            converts, `pixel_values` are [-1, 1] always.

    Raises:
        ValueError: If a value contradicts another; the message names both.
    """

    model_type = "vqgan"

    def __init__(
        self,
        image_size: int = 256,
        num_channels: int = 3,
        block_out_channels: Sequence[int] = (128, 256, 256, 512, 768),
        layers_per_block: int = 2,
        latent_channels: int = 64,
        codebook_size: int = 8192,
        codebook_dim: int = 64,
        codebook: str = "learned",
        quantizer_gradient: str = "straight-through",
        normalize_latents: bool = False,
        codebook_loss_weight: float = 1.0,
        commitment_loss_weight: float = 0.25,
        reconstruction_loss: str = "l1",
        mid_block_attention: bool = False,
        attention_levels: Sequence[int] = (),
        norm_num_groups: int = 32,
        value_range: str = "symmetric",
        patch_size: int = 1,
        **kwargs,
    ):
        check_codec_sizes(image_size, patch_size, block_out_channels, norm_num_groups, reconstruction_loss)
        if codebook not in CODEBOOKS:
            raise ValueError(f"codebook must be one of {', '.join(CODEBOOKS)}, got {codebook!r}.")
        if value_range not in VALUE_RANGES:
            raise ValueError(f"value_range must be one of {', '.join(VALUE_RANGES)}, got {value_range!r}.")
        beyond = [level for level in attention_levels if not 0 <= level < len(block_out_channels)]
        if beyond:
            raise ValueError(
                f"attention_levels names level {beyond[0]}, but block_out_channels has {len(block_out_channels)}."
            )
        self.image_size = image_size
        self.num_channels = num_channels
        self.block_out_channels = list(block_out_channels)
        self.patch_size = patch_size
        self.layers_per_block = layers_per_block
        self.latent_channels = latent_channels
        self.codebook_size = codebook_size
        self.codebook_dim = codebook_dim
        self.codebook = codebook
        self.quantizer_gradient = quantizer_gradient
        self.normalize_latents = normalize_latents
        self.codebook_loss_weight = codebook_loss_weight
        self.commitment_loss_weight = commitment_loss_weight
        self.reconstruction_loss = reconstruction_loss
        self.mid_block_attention = mid_block_attention
        self.attention_levels = list(attention_levels)
        self.norm_num_groups = norm_num_groups
        self.value_range = value_range
        super().__init__(**kwargs)


__all__ = ["VQGANConfig"]
