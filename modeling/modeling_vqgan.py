"""The VQGAN of visual sentences: an image becomes a map of learned codes and comes back as an image.

Sources: VQGAN, Esser et al. 2021 (https://arxiv.org/abs/2012.09841); SimLVM, section 3 "VQGAN", for 256 tokens an
image and a codebook of 8192 x 64. Encoder and decoder are diffusers' blocks, the quantizer is this project's. Level 2.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from .configuration_vqgan import VQGANConfig
from .convolutional_codec import (
    ConvolutionalDecoder,
    ConvolutionalEncoder,
    as_token_maps,
    check_pixel_values,
    reconstruction_loss,
    reset_codec_parameters,
)
from .vector_quantization import VectorQuantizer


@dataclass
class VQGANOutput(ModelOutput):
    """What a `VQGANModel` makes of B images; `encode` fills the last two fields only.

    Args:
        loss: Scalar float32, reconstruction, codebook and commitment term with the config's weights.
        reconstruction_loss: Scalar float32, mean absolute or squared difference of pixels in [-1, 1].
        codebook_loss: Scalar float32, unweighted.
        commitment_loss: Scalar float32, unweighted.
        codebook_usage: Scalar in (0, 1], share of the codebook that this batch uses.
        codebook_perplexity: Scalar in [1, K].
        pixel_values: [B, C, H, W], the reconstruction in about [-1, 1], not clipped.
        image_tokens: [B, h, w] int64 in [0, K).
        latents: [B, D, h, w], what was quantized.
    """

    loss: torch.FloatTensor | None = None
    reconstruction_loss: torch.FloatTensor | None = None
    codebook_loss: torch.FloatTensor | None = None
    commitment_loss: torch.FloatTensor | None = None
    codebook_usage: torch.FloatTensor | None = None
    codebook_perplexity: torch.FloatTensor | None = None
    pixel_values: torch.FloatTensor | None = None
    image_tokens: torch.LongTensor | None = None
    latents: torch.FloatTensor | None = None


class VQGANModel(PreTrainedModel):
    """Convolutional encoder, codebook, convolutional decoder.

    Example:
        >>> model = AutoModel.from_pretrained(folder, trust_remote_code=True)
        >>> processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
        >>> tokens = model.encode(**processor(image, return_tensors="pt")).image_tokens
        >>> processor.postprocess(model.decode(tokens))[0].save("again.png")
    """

    config_class = VQGANConfig
    base_model_prefix = "vqgan"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _supports_sdpa = True
    _keep_in_fp32_modules_strict = ["quantizer.codebook", "quantizer.projector"]

    def __init__(self, config: VQGANConfig):
        super().__init__(config)
        sizes = {
            "num_channels": config.num_channels,
            "block_out_channels": config.block_out_channels,
            "layers_per_block": config.layers_per_block,
            "latent_channels": config.latent_channels,
            "norm_num_groups": config.norm_num_groups,
            "mid_block_attention": config.mid_block_attention,
            "attention_levels": config.attention_levels,
        }
        self.encoder = ConvolutionalEncoder(**sizes)
        self.quant_conv = nn.Conv2d(config.latent_channels, config.codebook_dim, 1)
        self.quantizer = VectorQuantizer(
            config.codebook_size,
            config.codebook_dim,
            trainable=config.codebook == "learned",
            projector=config.codebook == "simvq",
            projector_bias=False,
            gradient=config.quantizer_gradient,
        )
        self.post_quant_conv = nn.Conv2d(config.codebook_dim, config.latent_channels, 1)
        self.decoder = ConvolutionalDecoder(**sizes)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, VectorQuantizer):
            module.reset_parameters()
        elif module is not self.quantizer.projector:
            reset_codec_parameters(module)

    @property
    def last_layer(self) -> nn.Parameter:
        """Weight of the decoder's last convolution, by which VQGAN balances its adversarial term (equation 7)."""
        return self.decoder.net.conv_out.weight

    def trainable_parameters(self) -> list[nn.Parameter]:
        """What an optimizer is to move."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    @torch.no_grad()
    def encode(self, pixel_values: torch.Tensor) -> VQGANOutput:
        """Tokens of images.

        Args:
            pixel_values: [B, C, H, W] in [-1, 1]; H and W multiples of the downsampling factor.

        Raises:
            ValueError: If the shape is another.
        """
        latents = self._latents(pixel_values)
        return VQGANOutput(image_tokens=self.quantizer.assign(latents), latents=latents)

    @torch.no_grad()
    def decode(self, image_tokens: torch.Tensor) -> torch.Tensor:
        """Images of tokens.

        Args:
            image_tokens: [B, h, w] int64 in [0, K), or [B, h * w] for the config's grid.

        Returns:
            [B, C, H, W] in about [-1, 1], not clipped.

        Raises:
            ValueError: If the shape is another or a token is outside the codebook.
        """
        tokens = as_token_maps(image_tokens, self.config.grid_size)
        return self._pixels(self.quantizer.lookup(tokens))

    def forward(self, pixel_values: torch.Tensor) -> VQGANOutput:
        """Encodes and decodes images and gives the losses of the way, each by its name.

        Args:
            pixel_values: [B, C, H, W] in [-1, 1].

        Raises:
            ValueError: If the shape is another or the latents are not finite.
        """
        latents = self._latents(pixel_values)
        codes = self.quantizer(latents)
        pixels = self._pixels(codes.quantized)
        reconstruction = reconstruction_loss(self.config.reconstruction_loss, pixels, pixel_values)
        return VQGANOutput(
            loss=reconstruction
            + self.config.codebook_loss_weight * codes.codebook_loss
            + self.config.commitment_loss_weight * codes.commitment_loss,
            reconstruction_loss=reconstruction,
            codebook_loss=codes.codebook_loss,
            commitment_loss=codes.commitment_loss,
            codebook_usage=codes.codebook_usage,
            codebook_perplexity=codes.codebook_perplexity,
            pixel_values=pixels,
            image_tokens=codes.tokens,
            latents=latents,
        )

    def _latents(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Latents [B, D, h, w] as the quantizer takes them."""
        check_pixel_values(pixel_values, self.config.num_channels, self.config.downsampling_factor)
        if self.config.value_range == "unit":
            pixel_values = (pixel_values + 1) / 2
        latents = self.quant_conv(self.encoder(pixel_values.to(self.quant_conv.weight.dtype)))
        return F.normalize(latents.float(), dim=1) if self.config.normalize_latents else latents

    def _pixels(self, quantized: torch.Tensor) -> torch.Tensor:
        """Images [B, C, H, W] of codebook entries [B, D, h, w]."""
        pixels = self.decoder(self.post_quant_conv(quantized.to(self.post_quant_conv.weight.dtype)))
        return pixels * 2 - 1 if self.config.value_range == "unit" else pixels


__all__ = ["VQGANModel", "VQGANOutput"]
