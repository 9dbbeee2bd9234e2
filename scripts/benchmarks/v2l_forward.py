"""Encoding and decoding by the V2L model against the same layers written out plainly."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional as F

from visual_sentence.modeling import V2LConfig, V2LModel

from .common import Measurement, timed

TOLERANCE = 1e-3


@torch.no_grad()
def run(
    config: V2LConfig | None = None,
    images: int = 8,
    *,
    rounds: int = 3,
    setting: dict[str, Any] | None = None,
) -> Measurement:
    """Measures encode + decode of a model of random weights both ways.

    Args:
        config: Local half only; the paper's sizes by default: 128 px, f8, 32,000 x 768.
        images: B.
        rounds: How often both ways are measured in turn; the fastest of each counts.
        setting: Further facts for the report.

    Returns:
        Seconds of both. The result is the same where all tokens are equal and no pixel differs by more than 1e-3.
    """
    config = config or V2LConfig(encoder_type=None, local_codebook_size=32_000)
    torch.manual_seed(0)
    model = V2LModel(config).eval()  # timed as users run it
    model.local_quantizer.codebook.copy_(F.normalize(model.local_quantizer.codebook, dim=1))
    pixel_values = torch.rand(images, 3, config.image_size, config.image_size) * 2 - 1
    state = model.state_dict()

    def ours() -> tuple[torch.Tensor, torch.Tensor]:
        tokens = model.encode(pixel_values).local_tokens
        return tokens, model.decode(tokens)

    ours_s = reference_s = float("inf")
    for _ in range(rounds):
        (tokens, pixels), seconds = timed(ours)
        ours_s = min(ours_s, seconds)
        (plain_tokens, plain_pixels), seconds = timed(lambda: plain(state, config, pixel_values))
        reference_s = min(reference_s, seconds)
    return Measurement(
        name="v2l-forward",
        setting={
            "images": images,
            "image_size": config.image_size,
            "codebook": list(model.local_quantizer.codebook.shape),
            "dtype": "float32",
            "fastest_of_rounds": rounds,
            "tolerance": TOLERANCE,
            "threads": torch.get_num_threads(),
            "reference": "plain layers, codebook projected in each call",
            **(setting or {}),
        },
        ours_s=ours_s,
        reference_s=reference_s,
        same_result=bool(torch.equal(tokens, plain_tokens)) and bool((pixels - plain_pixels).abs().max() <= TOLERANCE),
    )


def plain(
    state: Mapping[str, torch.Tensor], config: V2LConfig, pixel_values: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The model's layers one after another in torch's functions, as the published code has them.

    Args:
        state: The model's weights.
        config: The model's sizes.
        pixel_values: [B, 3, H, W] in [-1, 1].

    Returns:
        Tokens [B, h, w] and images [B, 3, H, W].
    """

    def conv(x, name, stride=1, padding=1):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride, padding)

    def norm(x, name):
        return F.group_norm(x, config.norm_num_groups, state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    def linear(x, name):
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def block(x, name):
        h = conv(F.silu(norm(x, f"{name}.norm1")), f"{name}.conv1")
        h = conv(F.silu(norm(h, f"{name}.norm2")), f"{name}.conv2")
        shortcut = f"{name}.conv_shortcut"
        return h + (conv(x, shortcut, padding=0) if f"{shortcut}.weight" in state else x)

    def attention(x, name):
        h = norm(x, f"{name}.group_norm").flatten(2).transpose(1, 2)
        q, k, v = (linear(h, f"{name}.to_{part}") for part in "qkv")
        h = torch.softmax(q @ k.transpose(1, 2) * q.shape[-1] ** -0.5, dim=-1) @ v
        return x + linear(h, f"{name}.to_out.0").transpose(1, 2).reshape(x.shape)

    def middle(x, name):
        x = attention(block(x, f"{name}.resnets.0"), f"{name}.attentions.0")
        return block(x, f"{name}.resnets.1")

    levels = range(len(config.block_out_channels))
    h = conv(pixel_values, "encoder.net.conv_in")
    for level in levels:
        name = f"encoder.net.down_blocks.{level}"
        for index in range(config.layers_per_block):
            h = block(h, f"{name}.resnets.{index}")
        if level < levels[-1]:
            h = conv(F.pad(h, (0, 1, 0, 1)), f"{name}.downsamplers.0.conv", stride=2, padding=0)
    h = middle(h, "encoder.net.mid_block")
    h = conv(F.silu(norm(h, "encoder.net.conv_norm_out")), "encoder.net.conv_out")
    latents = F.normalize(conv(h, "quant_conv", padding=0), dim=1)

    codes = linear(state["local_quantizer.codebook"], "local_quantizer.projector")
    rows = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1])
    distances = rows.square().sum(1, keepdim=True) + codes.square().sum(1) - 2 * rows @ codes.T
    tokens = distances.argmin(1).view(len(latents), *latents.shape[2:])

    h = conv(codes[tokens].permute(0, 3, 1, 2).contiguous(), "post_quant_conv", padding=0)
    h = middle(conv(h, "decoder.net.conv_in"), "decoder.net.mid_block")
    for level in levels:
        name = f"decoder.net.up_blocks.{level}"
        for index in range(config.layers_per_block + 1):
            h = block(h, f"{name}.resnets.{index}")
        if level < levels[-1]:
            h = conv(F.interpolate(h, scale_factor=2, mode="nearest"), f"{name}.upsamplers.0.conv")
    return tokens, conv(F.silu(norm(h, "decoder.net.conv_norm_out")), "decoder.net.conv_out")
