"""The source projects' networks, written out once more in plain functions that run on their state dicts.

Nothing here knows our models: a conversion is right if these functions, given the source's tensors, and our model,
given the converted ones, say the same. Layers as the publications define them: VQGAN (Esser et al. 2021), CLIP
(Radford et al. 2021), cross-attention of latent diffusion (Rombach et al. 2022).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch.nn import functional as F

State = dict[str, torch.Tensor]
CLIP_LAYERS = 2


@dataclass(frozen=True)
class Sizes:
    """Everything that the shapes of a VQGAN's tensors follow from."""

    ch: int = 32
    ch_mult: tuple[int, ...] = (1, 2)
    blocks: int = 2
    attention_levels: tuple[int, ...] = ()
    mid_attention: bool = True
    z_channels: int = 16
    embed_dim: int = 8
    n_embed: int = 40

    @property
    def widths(self) -> list[int]:
        return [self.ch * factor for factor in self.ch_mult]


def add_conv(state: State, name: str, inputs: int, outputs: int, kernel: int) -> None:
    state[f"{name}.weight"] = torch.randn(outputs, inputs, kernel, kernel) / math.sqrt(inputs * kernel**2)
    state[f"{name}.bias"] = torch.randn(outputs) * 0.2


def add_norm(state: State, name: str, channels: int) -> None:
    state[f"{name}.weight"] = 1 + torch.randn(channels) * 0.2
    state[f"{name}.bias"] = torch.randn(channels) * 0.2


def add_block(state: State, name: str, inputs: int, outputs: int) -> None:
    add_norm(state, f"{name}.norm1", inputs)
    add_conv(state, f"{name}.conv1", inputs, outputs, 3)
    add_norm(state, f"{name}.norm2", outputs)
    add_conv(state, f"{name}.conv2", outputs, outputs, 3)
    if inputs != outputs:
        add_conv(state, f"{name}.nin_shortcut", inputs, outputs, 1)


def add_attention(state: State, name: str, channels: int) -> None:
    add_norm(state, f"{name}.norm", channels)
    for part in ("q", "k", "v", "proj_out"):
        add_conv(state, f"{name}.{part}", channels, channels, 1)


def add_middle(state: State, name: str, channels: int, with_attention: bool) -> None:
    add_block(state, f"{name}.block_1", channels, channels)
    if with_attention:
        add_attention(state, f"{name}.attn_1", channels)
    add_block(state, f"{name}.block_2", channels, channels)


def vqgan_state(sizes: Sizes) -> State:
    """Random tensors under the names of taming-transformers, which openMUSE shares."""
    state: State = {}
    widths, top = sizes.widths, sizes.widths[-1]
    add_conv(state, "encoder.conv_in", 3, sizes.ch, 3)
    width = sizes.ch
    for level, out in enumerate(widths):
        for block in range(sizes.blocks):
            add_block(state, f"encoder.down.{level}.block.{block}", width, out)
            width = out
            if level in sizes.attention_levels:
                add_attention(state, f"encoder.down.{level}.attn.{block}", out)
        if level != len(widths) - 1:
            add_conv(state, f"encoder.down.{level}.downsample.conv", out, out, 3)
    add_conv(state, "decoder.conv_in", sizes.z_channels, top, 3)
    for level, out in reversed(list(enumerate(widths))):
        for block in range(sizes.blocks + 1):
            add_block(state, f"decoder.up.{level}.block.{block}", width, out)
            width = out
            if level in sizes.attention_levels:
                add_attention(state, f"decoder.up.{level}.attn.{block}", out)
        if level != 0:
            add_conv(state, f"decoder.up.{level}.upsample.conv", out, out, 3)
    for half, end, outputs in (("encoder", top, sizes.z_channels), ("decoder", sizes.ch, 3)):
        add_middle(state, f"{half}.mid", top, sizes.mid_attention)
        add_norm(state, f"{half}.norm_out", end)
        add_conv(state, f"{half}.conv_out", end, outputs, 3)
    add_conv(state, "quant_conv", sizes.z_channels, sizes.embed_dim, 1)
    add_conv(state, "post_quant_conv", sizes.embed_dim, sizes.z_channels, 1)
    state["quantize.embedding.weight"] = torch.randn(sizes.n_embed, sizes.embed_dim)
    return state


def conv(state: State, name: str, x: torch.Tensor, stride: int = 1, padding: int = 1) -> torch.Tensor:
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride, padding)


def norm(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    """Group normalisation with 32 groups and eps 1e-6, by its definition."""
    grouped = x.reshape(x.shape[0], 32, -1)
    centred = grouped - grouped.mean(-1, keepdim=True)
    scaled = (centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()).reshape(x.shape)
    return scaled * state[f"{name}.weight"][:, None, None] + state[f"{name}.bias"][:, None, None]


def swish(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(x)


def residual_block(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    h = conv(state, f"{name}.conv1", swish(norm(state, f"{name}.norm1", x)))
    h = conv(state, f"{name}.conv2", swish(norm(state, f"{name}.norm2", h)))
    return h + (conv(state, f"{name}.nin_shortcut", x, padding=0) if f"{name}.nin_shortcut.weight" in state else x)


def attention(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    """One head over all pixels."""
    h = norm(state, f"{name}.norm", x)
    q, k, v = (conv(state, f"{name}.{part}", h, padding=0).flatten(2) for part in "qkv")  # [B, C, N]
    weights = torch.softmax(torch.einsum("bci,bcj->bij", q, k) / math.sqrt(x.shape[1]), dim=-1)
    return x + conv(state, f"{name}.proj_out", torch.einsum("bij,bcj->bci", weights, v).reshape(x.shape), padding=0)


def middle(state: State, name: str, x: torch.Tensor, between: Callable = lambda h: h) -> torch.Tensor:
    h = residual_block(state, f"{name}.block_1", x)
    if f"{name}.attn_1.q.weight" in state:
        h = attention(state, f"{name}.attn_1", h)
    return residual_block(state, f"{name}.block_2", between(h))


def blocks_of_level(state: State, name: str, x: torch.Tensor, count: int) -> torch.Tensor:
    for index in range(count):
        x = residual_block(state, f"{name}.block.{index}", x)
        if f"{name}.attn.{index}.q.weight" in state:
            x = attention(state, f"{name}.attn.{index}", x)
    return x


def encode(state: State, sizes: Sizes, pixels: torch.Tensor) -> torch.Tensor:
    """Pixels [B, 3, H, W] in the source's own range to latents [B, E, h, w], before any normalisation."""
    h = conv(state, "encoder.conv_in", pixels)
    for level in range(len(sizes.ch_mult)):
        h = blocks_of_level(state, f"encoder.down.{level}", h, sizes.blocks)
        if level != len(sizes.ch_mult) - 1:
            h = conv(state, f"encoder.down.{level}.downsample.conv", F.pad(h, (0, 1, 0, 1)), stride=2, padding=0)
    h = middle(state, "encoder.mid", h)
    h = conv(state, "encoder.conv_out", swish(norm(state, "encoder.norm_out", h)))
    return conv(state, "quant_conv", h, padding=0)


def decode(state: State, sizes: Sizes, quantized: torch.Tensor, between: Callable = lambda h: h) -> torch.Tensor:
    """Codebook entries [B, E, h, w] to pixels [B, 3, H, W] in the source's own range."""
    h = conv(state, "decoder.conv_in", conv(state, "post_quant_conv", quantized, padding=0))
    h = middle(state, "decoder.mid", h, between)
    for level in reversed(range(len(sizes.ch_mult))):
        h = blocks_of_level(state, f"decoder.up.{level}", h, sizes.blocks + 1)
        if level != 0:
            h = h.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
            h = conv(state, f"decoder.up.{level}.upsample.conv", h)
    return conv(state, "decoder.conv_out", swish(norm(state, "decoder.norm_out", h)))


def nearest(latents: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    """Tokens [B, h, w] of latents [B, E, h, w] by the differences themselves."""
    differences = latents.permute(0, 2, 3, 1).unsqueeze(3) - codebook
    return differences.square().sum(-1).argmin(-1)


def look_up(tokens: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    return codebook[tokens].permute(0, 3, 1, 2)


@dataclass(frozen=True)
class SourceVQGAN:
    """A VQGAN in the names and the value range of its source.

    Args:
        state: Its tensors.
        sizes: Its sizes.
        unit: Whether it works on [0, 1] instead of [-1, 1].
    """

    state: State
    sizes: Sizes
    unit: bool = False

    def tokens(self, pixel_values: torch.Tensor) -> torch.Tensor:
        pixels = (pixel_values + 1) / 2 if self.unit else pixel_values
        return nearest(encode(self.state, self.sizes, pixels), self.state["quantize.embedding.weight"])

    def image(self, tokens: torch.Tensor) -> torch.Tensor:
        pixels = decode(self.state, self.sizes, look_up(tokens, self.state["quantize.embedding.weight"]))
        return pixels * 2 - 1 if self.unit else pixels


@pytest.fixture
def make_vqgan() -> Callable[..., SourceVQGAN]:
    """Builds a source VQGAN of random weights; keywords are those of `Sizes`."""

    def make(unit: bool = False, **sizes: object) -> SourceVQGAN:
        chosen = replace(Sizes(), **sizes)
        return SourceVQGAN(vqgan_state(chosen), chosen, unit)

    return make


@dataclass(frozen=True)
class SourceV2L:
    """A V2L Tokenizer in the names of its source, whose codebooks are 768 wide.

    Args:
        state: Its tensors.
        sizes: Those of its convolutional half.
        heads: Of the cross-attention, each as wide as the decoder's middle.
    """

    state: State
    sizes: Sizes
    heads: int

    def local_codebook(self) -> torch.Tensor:
        weight, bias = self.state["codebook_projection.weight"], self.state["codebook_projection.bias"]
        return torch.einsum("ke,de->kd", self.state["tok_embeddings.weight"], weight) + bias

    def local_tokens(self, pixel_values: torch.Tensor) -> torch.Tensor:
        latents = encode(self.state, self.sizes, pixel_values)
        return nearest(latents / latents.square().sum(1, keepdim=True).sqrt(), self.local_codebook())

    def global_tokens(self, global_pixel_values: torch.Tensor, count: int) -> torch.Tensor:
        features = clip_features(self.state, global_pixel_values)
        features = features / features.square().sum(-1, keepdim=True).sqrt()
        distances = (features[:, None] - self.state["tok_embeddings_global.weight"]).square().sum(-1)
        return distances.argsort(dim=-1)[:, :count]

    def image(self, local_tokens: torch.Tensor, global_tokens: torch.Tensor) -> torch.Tensor:
        words = self.state["tok_embeddings_global.weight"][global_tokens]

        def look_at_words(h: torch.Tensor) -> torch.Tensor:
            positions = h.flatten(2).transpose(1, 2)
            found = cross_attention(self.state, "decoder.mid.cross_attn_1", positions, words, self.heads)
            return found.transpose(1, 2).reshape(h.shape)  # in place of h, not added to it

        return decode(self.state, self.sizes, look_up(local_tokens, self.local_codebook()), look_at_words)


def linear(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    return x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0)


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    """Heads side by side in the last dimension of [B, N, heads * d], one after the other."""
    width = q.shape[-1] // heads
    parts = zip(*(x.split(width, dim=-1) for x in (q, k, v)), strict=True)
    return torch.cat([torch.softmax(a @ b.transpose(1, 2) / math.sqrt(width), -1) @ c for a, b, c in parts], -1)


def cross_attention(state: State, name: str, x: torch.Tensor, words: torch.Tensor, heads: int) -> torch.Tensor:
    q, k, v = (linear(state, f"{name}.to_{part}", y) for part, y in (("q", x), ("k", words), ("v", words)))
    return linear(state, f"{name}.to_out.0", attend(q, k, v, heads))


def clip_features(state: State, pixels: torch.Tensor) -> torch.Tensor:
    """CLIP's vision transformer [B, 3, S, S] -> [B, D], pre-norm with quick GELU, heads of 64."""

    def layer_norm(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)

    weight = state["global_encoder.conv1.weight"]
    patches = F.conv2d(pixels, weight, stride=weight.shape[-1]).flatten(2).transpose(1, 2)
    start = state["global_encoder.class_embedding"].expand(len(pixels), 1, -1)
    x = torch.cat([start, patches], dim=1) + state["global_encoder.positional_embedding"]
    x = layer_norm("global_encoder.ln_pre", x)
    for index in range(CLIP_LAYERS):
        name = f"global_encoder.transformer.resblocks.{index}"
        joint = layer_norm(f"{name}.ln_1", x) @ state[f"{name}.attn.in_proj_weight"].T
        q, k, v = (joint + state[f"{name}.attn.in_proj_bias"]).chunk(3, dim=-1)
        x = x + linear(state, f"{name}.attn.out_proj", attend(q, k, v, x.shape[-1] // 64))
        h = linear(state, f"{name}.mlp.c_fc", layer_norm(f"{name}.ln_2", x))
        x = x + linear(state, f"{name}.mlp.c_proj", h * torch.sigmoid(1.702 * h))
    return layer_norm("global_encoder.ln_post", x[:, 0]) @ state["global_encoder.proj"]


def add_linear(state: State, name: str, inputs: int, outputs: int, bias: bool = True) -> None:
    state[f"{name}.weight"] = torch.randn(outputs, inputs) / math.sqrt(inputs)
    if bias:
        state[f"{name}.bias"] = torch.randn(outputs) * 0.2


def clip_state(width: int = 128, outputs: int = 768, patch: int = 8, image_size: int = 16) -> State:
    state = {
        "global_encoder.class_embedding": torch.randn(width),
        "global_encoder.positional_embedding": torch.randn((image_size // patch) ** 2 + 1, width),
        "global_encoder.conv1.weight": torch.randn(width, 3, patch, patch) / math.sqrt(3 * patch**2),
        "global_encoder.proj": torch.randn(width, outputs) / math.sqrt(width),
    }
    for name in (
        "ln_pre",
        "ln_post",
        *(f"transformer.resblocks.{i}.ln_{n}" for i in range(CLIP_LAYERS) for n in (1, 2)),
    ):
        add_norm(state, f"global_encoder.{name}", width)
    for index in range(CLIP_LAYERS):
        name = f"global_encoder.transformer.resblocks.{index}"
        state[f"{name}.attn.in_proj_weight"] = torch.randn(3 * width, width) * 2 / math.sqrt(width)
        state[f"{name}.attn.in_proj_bias"] = torch.randn(3 * width) * 0.2
        add_linear(state, f"{name}.attn.out_proj", width, width)
        add_linear(state, f"{name}.mlp.c_fc", width, 4 * width)
        add_linear(state, f"{name}.mlp.c_proj", 4 * width, width)
    return state


@pytest.fixture
def source_v2l() -> SourceV2L:
    """A V2L Tokenizer of random weights: 300 subwords, 30 words, images of 16 pixels."""
    sizes, heads = Sizes(embed_dim=768), 8
    state = {name: tensor for name, tensor in vqgan_state(sizes).items() if not name.startswith("quantize.")}
    state["tok_embeddings.weight"] = F.normalize(torch.randn(300, 768), dim=-1)
    state["tok_embeddings_global.weight"] = F.normalize(torch.randn(30, 768), dim=-1) * 0.7
    add_linear(state, "codebook_projection", 768, 768)
    state["codebook_projection.bias"] *= 0.02  # or the entry nearest to zero would be nearest to everything
    middle_width = sizes.widths[-1]
    for name, inputs in (("to_q", middle_width), ("to_k", 768), ("to_v", 768)):
        add_linear(state, f"decoder.mid.cross_attn_1.{name}", inputs, heads * middle_width, bias=False)
    for name in ("to_k", "to_v"):  # the words are short; so flat an output is no test, since norms blow up its rounding
        state[f"decoder.mid.cross_attn_1.{name}.weight"] *= math.sqrt(768)
    add_linear(state, "decoder.mid.cross_attn_1.to_out.0", heads * middle_width, middle_width)
    return SourceV2L({**state, **clip_state()}, sizes, heads)


@pytest.fixture
def pixel_values() -> torch.Tensor:
    return torch.rand(2, 3, 16, 16) * 2 - 1
