"""The VQGAN of visual sentences: an image becomes a map of learned codes and comes back as an image.

Sources: VQGAN, Esser et al. 2021 (https://arxiv.org/abs/2012.09841); SimLVM, section 3 "VQGAN", for 256 tokens an
image and a codebook of 8192 x 64. Encoder and decoder are diffusers' blocks, the quantizer is this project's. Level 3.
"""

from dataclasses import dataclass

import torch

from .configuration_vqgan import VQGANConfig
from .convolutional_codec import as_token_maps
from .image_codec import ImageCodecModel, ImageCodecOutput
from .vector_quantization import GIVEN, VectorQuantizer


@dataclass
class VQGANOutput(ImageCodecOutput):
    """What a `VQGANModel` makes of B images: the fields of `ImageCodecOutput`, and the tokens.

    Args:
        image_tokens: [B, h, w] int64 in [0, K).
    """

    image_tokens: torch.Tensor = GIVEN


class VQGANModel(ImageCodecModel):
    """Convolutional encoder, codebook, convolutional decoder.

    Example:
        >>> model = AutoModel.from_pretrained(folder, trust_remote_code=True)
        >>> processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
        >>> tokens = model.encode(**processor(image, return_tensors="pt")).image_tokens
        >>> processor.postprocess(model.decode(tokens))[0].save("again.png")
    """

    config: VQGANConfig
    config_class = VQGANConfig
    base_model_prefix = "vqgan"
    main_input_name = "pixel_values"
    input_modalities = ["image"]
    _supports_sdpa = True
    _keep_in_fp32_modules_strict = ["quantizer.codebook", "quantizer.projector"]

    def __init__(self, config: VQGANConfig):
        super().__init__(config)
        self.build_codec(config.num_channels, config.codebook_dim)
        self.quantizer = VectorQuantizer(
            config.codebook_size,
            config.codebook_dim,
            trainable=config.codebook == "learned",
            projector=config.codebook == "simvq",
            projector_bias=False,
            gradient=config.quantizer_gradient,
        )
        self.post_init()

    @property
    def codec_quantizer(self) -> VectorQuantizer:
        return self.quantizer

    @torch.no_grad()
    def encode(self, pixel_values: torch.Tensor) -> VQGANOutput:
        """Tokens of images.

        Args:
            pixel_values: [B, C, H, W] in [-1, 1]; H and W multiples of the downsampling factor.

        Raises:
            ValueError: If the shape is another.
        """
        latents = self.encode_pixels(pixel_values)
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
        return self.decode_codes(self.quantizer.lookup(tokens))

    def forward(self, pixel_values: torch.Tensor, quantize: bool = True) -> VQGANOutput:
        """Encodes and decodes images and gives the losses of the way, each by its name.

        Args:
            pixel_values: [B, C, H, W] in [-1, 1].
            quantize: Whether the decoder is given the codes; else it is given the latents themselves, and `loss` is
                the reconstruction alone, for the first steps of a training run.

        Raises:
            ValueError: If the shape is another or the latents are not finite.
        """
        found = self.reconstruct(pixel_values, None, quantize)
        return VQGANOutput(image_tokens=found.pop("tokens"), **found)


__all__ = ["VQGANModel", "VQGANOutput"]
