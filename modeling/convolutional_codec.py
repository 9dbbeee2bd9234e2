"""Convolutional encoder and decoder of an image: diffusers' VQGAN blocks behind an interface of our own.

Sources: VQGAN, Esser et al. 2021 (https://arxiv.org/abs/2012.09841), appendix; V2L Tokenizer, Zhu et al. 2024
(https://arxiv.org/abs/2403.07874), appendix A, for the cross-attention on the global words. Level 0.
"""

import importlib
import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init

# Pixels that are encoded or decoded together on a CPU without gradients: the largest activations then stay in its
# caches, which saves about a tenth of the time.
CPU_PIXELS = 2 * 128 * 128
CROSS_ATTENTIONS = ("paper", "paper-appendix", "published-code")


def diffusers_part(module: str, name: str):
    """A class of diffusers, imported only when a model with a convolutional half is built.

    The Hub's code loader would make every import that it sees compulsory, also for who uses the global words only.

    Raises:
        ImportError: If diffusers is not installed.
    """
    try:
        return getattr(importlib.import_module(f"diffusers.models.{module}"), name)
    except ImportError as error:
        raise ImportError(
            "This model's convolutional encoder and decoder are built of diffusers' blocks, but diffusers cannot be "
            f"imported ({error}): pip install diffusers."
        ) from error


class ConvolutionalEncoder(nn.Module):
    """Image to latents: a stack of residual blocks, each level but the last halving height and width.

    Args:
        num_channels: C of the images.
        block_out_channels: Channels of each level; P * 2 ** (levels - 1) pixels become one latent, per side.
        layers_per_block: Residual blocks of a level.
        latent_channels: Z.
        norm_num_groups: Groups of the normalisation; divides all channels.
        mid_block_attention: Whether there is self-attention at the smallest resolution.
        attention_levels: Levels with self-attention behind each residual block.
        patch_size: P; squares of P x P pixels enter as P * P * C channels of one place, so that the costliest level
            has P * P times fewer places.
    """

    def __init__(
        self,
        num_channels: int,
        block_out_channels: Sequence[int],
        layers_per_block: int,
        latent_channels: int,
        norm_num_groups: int,
        mid_block_attention: bool,
        attention_levels: Sequence[int] = (),
        patch_size: int = 1,
    ):
        super().__init__()
        self.patch_size = patch_size
        levels = range(len(block_out_channels))
        blocks = ("AttnDownEncoderBlock2D" if level in attention_levels else "DownEncoderBlock2D" for level in levels)
        self.net = diffusers_part("autoencoders.vae", "Encoder")(
            in_channels=num_channels * patch_size**2,
            out_channels=latent_channels,
            down_block_types=tuple(blocks),
            block_out_channels=tuple(block_out_channels),
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
            double_z=False,
            mid_block_add_attention=mid_block_attention,
        )

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Latents [B, Z, h, w] of images [B, C, H, W]."""
        # convolutions and group norms are faster on a CPU with the channels innermost
        patches = F.pixel_unshuffle(pixel_values, self.patch_size) if self.patch_size > 1 else pixel_values
        patches = patches.contiguous(memory_format=torch.channels_last)
        parts = patches.split(images_at_once(patches, patches.shape[2] * patches.shape[3]))
        return torch.cat([self.net(part) for part in parts]) if len(parts) > 1 else self.net(patches)


class ConvolutionalDecoder(nn.Module):
    """Latents to image: the encoder's mirror, with one residual block more per level.

    Args:
        num_channels: C of the images.
        block_out_channels: Channels of each level, as in the encoder.
        layers_per_block: Residual blocks of an encoder's level.
        latent_channels: Z.
        norm_num_groups: Groups of the normalisation.
        mid_block_attention: Whether there is self-attention at the smallest resolution.
        attention_levels: Levels with self-attention, numbered as in the encoder.
        patch_size: P, as in the encoder.
        cross_attention: How the decoder looks at the global words; None where it does not.
        cross_attention_heads: Heads of that layer.
        context_dim: Dg, width of the global words' embeddings.
    """

    def __init__(
        self,
        num_channels: int,
        block_out_channels: Sequence[int],
        layers_per_block: int,
        latent_channels: int,
        norm_num_groups: int,
        mid_block_attention: bool,
        attention_levels: Sequence[int] = (),
        patch_size: int = 1,
        cross_attention: str | None = None,
        cross_attention_heads: int = 8,
        context_dim: int = 768,
    ):
        super().__init__()
        self.patch_size = patch_size
        levels = reversed(range(len(block_out_channels)))
        blocks = ("AttnUpDecoderBlock2D" if level in attention_levels else "UpDecoderBlock2D" for level in levels)
        self.net = diffusers_part("autoencoders.vae", "Decoder")(
            in_channels=latent_channels,
            out_channels=num_channels * patch_size**2,
            up_block_types=tuple(blocks),
            block_out_channels=tuple(block_out_channels),
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
            mid_block_add_attention=mid_block_attention,
        )
        for block in self.net.up_blocks:
            if block.upsamplers is not None:
                block.upsamplers[0] = UpsampleConvolution(block.upsamplers[0].conv)
        self.factor = 2 ** (len(block_out_channels) - 1)
        self.cross_attention = None
        if cross_attention is not None:
            self.cross_attention = WordAttention(
                cross_attention, block_out_channels[-1], context_dim, cross_attention_heads, norm_num_groups
            )

    def forward(self, latents: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """Images [B, C, H, W] of latents [B, Z, h, w], with the global words' embeddings [B, k, Dg] if any.

        Raises:
            ValueError: If latents and words are not of equally many images.
        """
        if context is not None and len(context) != len(latents):
            raise ValueError(
                f"There are global words of {len(context)} images, but local tokens of {len(latents)}: give one row of "
                "global tokens for each image."
            )
        latents = latents.contiguous(memory_format=torch.channels_last)
        at_once = images_at_once(latents, latents.shape[2] * latents.shape[3] * self.factor**2)
        if at_once >= len(latents):
            return self._decode(latents, context)
        parts = latents.split(at_once)
        contexts = [None] * len(parts) if context is None else context.split(at_once)
        return torch.cat([self._decode(part, words) for part, words in zip(parts, contexts, strict=True)])

    def _decode(self, latents: torch.Tensor, context: torch.Tensor | None) -> torch.Tensor:
        net = self.net
        hidden = net.conv_in(latents)
        if self.cross_attention is None or context is None:
            hidden = net.mid_block(hidden)
        else:
            hidden = self._middle(hidden, self.cross_attention, context)
        for block in net.up_blocks:
            hidden = block(hidden)
        pixels = net.conv_out(net.conv_act(net.conv_norm_out(hidden)))
        return F.pixel_shuffle(pixels, self.patch_size) if self.patch_size > 1 else pixels

    def _middle(self, hidden: torch.Tensor, attention: "WordAttention", context: torch.Tensor) -> torch.Tensor:
        """The middle block with the words looked at before or behind its self-attention."""
        middle, before = self.net.mid_block, attention.before_self_attention
        hidden = middle.resnets[0](hidden, None)
        if before:
            hidden = attention(hidden, context)
        if middle.attentions[0] is not None:
            hidden = middle.attentions[0](hidden)
        if not before:
            hidden = attention(hidden, context)
        return middle.resnets[1](hidden, None)


class UpsampleConvolution(nn.Module):
    """Doubles height and width by repetition and convolves with a 3 x 3 kernel, in place of diffusers' `Upsample2D`.

    Each pixel of the doubled image sees only 2 x 2 different ones, so on a CPU without gradients four 2 x 2 kernels,
    sums of the 3 x 3 kernel's taps, are applied to the small image instead: 4/9 of the multiplications, the same
    result up to rounding.

    Args:
        conv: The convolution; kernel 3, padding 1.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = conv

    def forward(self, hidden: torch.Tensor, *args) -> torch.Tensor:
        """[B, C, h, w] -> [B, C', 2 h, 2 w]; further arguments, which diffusers passes, are not used."""
        if torch.is_grad_enabled() or hidden.device.type != "cpu":
            return self.conv(F.interpolate(hidden, scale_factor=2.0, mode="nearest"))
        batch, _, height, width = hidden.shape
        doubled = hidden.new_empty(batch, self.conv.out_channels, 2 * height, 2 * width)
        doubled = doubled.contiguous(memory_format=torch.channels_last)
        for row, by_row in enumerate(_half_kernels(self.conv.weight.float(), 2)):
            for column, kernel in enumerate(_half_kernels(by_row, 3)):
                padded = F.pad(hidden, (1 - column, column, 1 - row, row))
                doubled[:, :, row::2, column::2] = F.conv2d(padded, kernel.to(hidden.dtype), self.conv.bias)
        return doubled


def _half_kernels(kernel: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Kernels of size 2 along `dim` for even and for odd places, of a kernel of size 3."""
    before, middle, behind = kernel.unbind(dim)
    return torch.stack([before, middle + behind], dim), torch.stack([before + middle, behind], dim)


def images_at_once(batch: torch.Tensor, pixels: int) -> int:
    """How many images of so many pixels are put through the convolutions together."""
    if torch.is_grad_enabled() or batch.device.type != "cpu":
        return len(batch)
    return max(1, CPU_PIXELS // pixels)


class WordAttention(nn.Module):
    """Cross-attention of an image's positions on its global words.

    Three readings exist. The paper's section 3.2 puts it behind the self-attention ("paper"), its appendix A before
    ("paper-appendix"); both say nothing of norm or residual, so here they have the usual ones, and heads share the
    channels. The published code puts it behind, without norm and without residual: its output replaces what came
    in, and each head has as many dimensions as there are channels ("published-code").

    Args:
        kind: One of the three.
        channels: Channels of the positions.
        context_dim: Dg, width of the words' embeddings.
        heads: Attention heads.
        norm_num_groups: Groups of the normalisation.

    Raises:
        ValueError: If `kind` is unknown or the heads do not divide the channels.
    """

    def __init__(self, kind: str, channels: int, context_dim: int, heads: int, norm_num_groups: int):
        super().__init__()
        if kind not in CROSS_ATTENTIONS:
            raise ValueError(f"cross_attention must be one of {', '.join(CROSS_ATTENTIONS)} or None, got {kind!r}.")
        if kind != "published-code" and channels % heads:
            raise ValueError(f"cross_attention_heads {heads} does not divide the decoder's {channels} channels.")
        self.before_self_attention = kind == "paper-appendix"
        self.is_residual = kind != "published-code"
        self.norm = nn.GroupNorm(norm_num_groups, channels, eps=1e-6) if self.is_residual else None
        self.attention = diffusers_part("attention_processor", "Attention")(
            query_dim=channels,
            cross_attention_dim=context_dim,
            heads=heads,
            dim_head=channels // heads if self.is_residual else channels,
        )

    def forward(self, hidden: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Positions [B, C, h, w] that have looked at words [B, k, Dg]."""
        batch, channels, height, width = hidden.shape
        query = hidden if self.norm is None else self.norm(hidden)
        query = query.flatten(2).transpose(1, 2)
        found = self.attention(query, encoder_hidden_states=context.to(query.dtype))
        found = found.transpose(1, 2).reshape(batch, channels, height, width)
        return hidden + found if self.is_residual else found


def reset_codec_parameters(module: nn.Module) -> None:
    """PyTorch's own random start, through transformers' guarded setters, in place of transformers' normal(0, 0.02)."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        init.kaiming_uniform_(module.weight, a=math.sqrt(5))
        if module.bias is not None:
            bound = module.weight[0].numel() ** -0.5
            init.uniform_(module.bias, -bound, bound)
    elif isinstance(module, nn.GroupNorm):
        init.ones_(module.weight)
        init.zeros_(module.bias)


def reconstruction_loss(kind: str, pixel_values: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Scalar float32: mean absolute ("l1") or squared ("l2") difference of images [B, C, H, W]."""
    loss = F.l1_loss if kind == "l1" else F.mse_loss
    return loss(pixel_values.float(), target.float())


class CodecSizes:
    """What follows from a config's `image_size`, `patch_size` and `block_out_channels`."""

    image_size: int
    patch_size: int
    block_out_channels: Sequence[int]

    @property
    def downsampling_factor(self) -> int:
        """f, pixels per side of one token."""
        return self.patch_size * 2 ** (len(self.block_out_channels) - 1)

    @property
    def grid_size(self) -> tuple[int, int]:
        """(h, w), the map of tokens of an image of `image_size`."""
        side = self.image_size // self.downsampling_factor
        return side, side

    @property
    def image_seq_length(self) -> int:
        """h * w, the tokens of an image."""
        return self.grid_size[0] * self.grid_size[1]


def check_codec_sizes(
    image_size: int, patch_size: int, block_out_channels: Sequence[int], norm_num_groups: int, reconstruction: str
) -> None:
    """Refuses sizes that contradict one another.

    Raises:
        ValueError: If patches have no pixels, the image has no whole number of latents, the groups do not divide the
            channels, or the reconstruction loss is unknown.
    """
    if patch_size < 1:
        raise ValueError(f"patch_size is a number of pixels, at least 1, got {patch_size}.")
    factor = patch_size * 2 ** (len(block_out_channels) - 1)
    if image_size % factor:
        patches = f" over patches of {patch_size} pixels" if patch_size > 1 else ""
        raise ValueError(
            f"image_size {image_size} is not a multiple of the downsampling factor {factor} of "
            f"{len(block_out_channels)} levels{patches}: the tokens would not cover the image."
        )
    odd = [channels for channels in block_out_channels if channels % norm_num_groups]
    if odd:
        raise ValueError(f"norm_num_groups {norm_num_groups} does not divide block_out_channels {odd[0]}.")
    if reconstruction not in ("l1", "l2"):
        raise ValueError(f"reconstruction_loss must be l1 or l2, got {reconstruction!r}.")


def check_pixel_values(pixel_values: torch.Tensor, num_channels: int, factor: int) -> None:
    """Refuses what is no batch of images.

    Raises:
        ValueError: If the shape is not [B, C, H, W] with H and W multiples of `factor`.
    """
    shape = tuple(pixel_values.shape)
    if len(shape) != 4 or shape[1] != num_channels or shape[2] % factor or shape[3] % factor or 0 in shape:
        raise ValueError(
            f"pixel_values must be (batch, {num_channels}, height, width) with height and width multiples of {factor}, "
            f"got {shape}: pass the images through the model's image processor."
        )


def as_token_maps(tokens: torch.Tensor, grid_size: tuple[int, int]) -> torch.Tensor:
    """Tokens [B, h, w], or [B, h * w] of the given grid, as maps [B, h, w].

    Raises:
        ValueError: If they are neither.
    """
    if tokens.ndim == 2 and tokens.shape[1] == grid_size[0] * grid_size[1]:
        return tokens.view(-1, *grid_size)
    if tokens.ndim != 3:
        height, width = grid_size
        raise ValueError(
            f"Cannot decode tokens of shape {tuple(tokens.shape)}: an image has {height * width} of them, as "
            f"(batch, {height}, {width}) or (batch, {height * width})."
        )
    return tokens


__all__ = ["ConvolutionalDecoder", "ConvolutionalEncoder"]
