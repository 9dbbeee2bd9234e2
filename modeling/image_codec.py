"""What both image models do between pixels and tokens: encode, quantize, decode, and the losses of the way. Level 2."""

import os
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from .convolutional_codec import (
    ConvolutionalDecoder,
    ConvolutionalEncoder,
    check_pixel_values,
    reconstruction_loss,
    reset_codec_parameters,
)
from .vector_quantization import VectorQuantizer, VectorQuantizerOutput


@dataclass
class ImageCodecOutput(ModelOutput):
    """What the way from B images to tokens and back gives; `encode` fills `latents` only.

    Args:
        loss: Scalar float32, reconstruction, codebook and commitment term with the config's weights.
        reconstruction_loss: Scalar float32, mean absolute or squared difference of pixels in [-1, 1].
        codebook_loss: Scalar float32, unweighted.
        commitment_loss: Scalar float32, unweighted.
        codebook_usage: Scalar in (0, 1], share of the codebook that this batch uses.
        codebook_perplexity: Scalar in [1, K].
        pixel_values: [B, C, H, W], the reconstruction in about [-1, 1], not clipped.
        latents: [B, D, h, w], what was quantized.
    """

    loss: torch.Tensor | None = None
    reconstruction_loss: torch.Tensor | None = None
    codebook_loss: torch.Tensor | None = None
    commitment_loss: torch.Tensor | None = None
    codebook_usage: torch.Tensor | None = None
    codebook_perplexity: torch.Tensor | None = None
    pixel_values: torch.Tensor | None = None
    latents: torch.Tensor | None = None


class ImageCodecModel(PreTrainedModel):
    """A model with a convolutional encoder, a vector quantizer and a convolutional decoder.

    A subclass calls `build_codec` before `post_init` and says by `codec_quantizer` where its quantizer is.
    """

    encoder: ConvolutionalEncoder
    quant_conv: nn.Conv2d
    post_quant_conv: nn.Conv2d
    decoder: ConvolutionalDecoder

    def build_codec(self, num_channels: int, latent_dim: int, **decoder_options) -> None:
        """Makes the convolutional parts.

        Args:
            num_channels: C of the images.
            latent_dim: D, width of what is quantized.
            **decoder_options: Further arguments of `ConvolutionalDecoder`.
        """
        config = self.config
        sizes = {
            "num_channels": num_channels,
            "block_out_channels": config.block_out_channels,
            "patch_size": config.patch_size,
            "layers_per_block": config.layers_per_block,
            "latent_channels": config.latent_channels,
            "norm_num_groups": config.norm_num_groups,
            "mid_block_attention": config.mid_block_attention,
            "attention_levels": getattr(config, "attention_levels", ()),
        }
        self.num_channels = num_channels
        self.encoder = ConvolutionalEncoder(**sizes)
        self.quant_conv = nn.Conv2d(config.latent_channels, latent_dim, 1)
        self.post_quant_conv = nn.Conv2d(latent_dim, config.latent_channels, 1)
        self.decoder = ConvolutionalDecoder(**sizes, **decoder_options)
        # told apart from layers of other parts, which keep their own way of starting
        for part in (self.encoder, self.quant_conv, self.post_quant_conv, self.decoder):
            for module in part.modules():
                vars(module)["is_codec_module"] = True

    @property
    def codec_quantizer(self) -> VectorQuantizer:
        """The quantizer between encoder and decoder."""
        raise NotImplementedError  # the two models keep it under names of their own, which checkpoints know

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, VectorQuantizer):
            module.reset_parameters()  # its projector too
        elif getattr(module, "is_codec_module", False):
            reset_codec_parameters(module)
        elif not getattr(module, "is_projector", False):
            super()._init_weights(module)

    @property
    def last_layer(self) -> nn.Parameter:
        """Weight of the decoder's last convolution, by which VQGAN balances its adversarial term (equation 7)."""
        return self.decoder.net.conv_out.weight

    def trainable_parameters(self) -> list[nn.Parameter]:
        """What an optimizer is to move."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def save_pretrained(self, save_directory: str | os.PathLike, *args, **kwargs):
        """As `PreTrainedModel.save_pretrained`.

        What a folder said of its pipelines is not taken along: their code is not written here, and the loader leaves
        classes there that cannot be written at all.
        """
        self.config.__dict__.pop("custom_pipelines", None)
        super().save_pretrained(save_directory, *args, **kwargs)

    def fit_codebook(self, latents: torch.Tensor, generator: torch.Generator | None = None) -> None:
        """Moves the codes to where latents [B, D, h, w] lie; see `VectorQuantizer.fit_to`.

        Raises:
            ValueError: If the codebook is frozen and has no projector.
        """
        self.codec_quantizer.fit_to(latents, generator)

    def encode_pixels(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Latents [B, D, h, w] of images [B, C, H, W] in [-1, 1], as the quantizer takes them.

        Raises:
            ValueError: If the shape is another.
        """
        check_pixel_values(pixel_values, self.num_channels, self.config.downsampling_factor)
        if self.has_unit_range:
            pixel_values = (pixel_values + 1) / 2
        latents = self.quant_conv(self.encoder(pixel_values.to(self.quant_conv.weight.dtype)))
        return F.normalize(latents.float(), dim=1) if self.config.normalize_latents else latents

    def decode_codes(self, codes: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """Images [B, C, H, W] in about [-1, 1] of codes [B, D, h, w], with words' embeddings [B, k, Dg] if any."""
        pixels = self.decoder(self.post_quant_conv(codes.to(self.post_quant_conv.weight.dtype)), context)
        return pixels * 2 - 1 if self.has_unit_range else pixels

    @property
    def has_unit_range(self) -> bool:
        """Whether the weights were trained on pixels in [0, 1]."""
        return getattr(self.config, "value_range", "symmetric") == "unit"

    def draw(
        self, codes: VectorQuantizerOutput, context: torch.Tensor | None, pixel_values: torch.Tensor
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Images of quantized latents on the way that is trained; a subclass may take another than `decode_codes`.

        Args:
            codes: What the quantizer made of the latents.
            context: [B, k, Dg] for the decoder's cross-attention, or None.
            pixel_values: [B, C, H, W], what the images are to be like.

        Returns:
            Images [B, C, H, W], and weighted terms to add to the loss, scalars.
        """
        return self.decode_codes(codes.quantized, context), []

    def reconstruct(
        self, pixel_values: torch.Tensor, context: torch.Tensor | None, quantize: bool
    ) -> dict[str, torch.Tensor]:
        """Encodes and decodes images.

        Args:
            pixel_values: [B, C, H, W] in [-1, 1].
            context: [B, k, Dg] for the decoder's cross-attention, or None.
            quantize: Whether the decoder is given the codes, or the latents themselves.

        Returns:
            The fields of `ImageCodecOutput`, and `tokens` [B, h, w].
        """
        config, latents = self.config, self.encode_pixels(pixel_values)
        codes = self.codec_quantizer(latents)
        if quantize:
            pixels, terms = self.draw(codes, context, pixel_values)
        else:
            pixels, terms = self.decode_codes(latents, context), []
        reconstruction = reconstruction_loss(config.reconstruction_loss, pixels, pixel_values)
        of_codes = (
            config.codebook_loss_weight * codes.codebook_loss + config.commitment_loss_weight * codes.commitment_loss
        )
        return {
            # not left out but weighed with 0, so that all parameters have a gradient in all processes
            "loss": sum(terms, reconstruction + quantize * of_codes),
            "reconstruction_loss": reconstruction,
            "codebook_loss": codes.codebook_loss,
            "commitment_loss": codes.commitment_loss,
            "codebook_usage": codes.codebook_usage,
            "codebook_perplexity": codes.codebook_perplexity,
            "pixel_values": pixels,
            "tokens": codes.tokens,
            "latents": latents,
        }


__all__ = ["ImageCodecModel", "ImageCodecOutput"]
