"""Tiny models that write pictures as tokens: a VQGAN and V2L models with a local half, all of random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from visual_sentence.image_io import ImageSource
from visual_sentence.modeling import (
    LocalVocabulary,
    V2LConfig,
    V2LImageProcessor,
    V2LModel,
    VQGANConfig,
    VQGANImageProcessor,
    VQGANModel,
)
from visual_sentence.reconstruction import ImageCodec

SIZES = {"image_size": 16, "block_out_channels": [8, 8, 16], "layers_per_block": 1, "norm_num_groups": 4}
WORDS = [f"word{index}" for index in range(40)]
VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
CLIP = {
    "model_type": "clip",
    "projection_dim": 16,
    "text_config": {**VISION, "vocab_size": 99, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1},
    "vision_config": {**VISION, "image_size": 32, "patch_size": 16},
}


def spread(model) -> None:
    """Makes different pictures take different codes, which a random encoder does not do by itself."""
    quantizer = model.quantizer if hasattr(model, "quantizer") else model.local_quantizer
    with torch.no_grad():
        pixels = torch.rand(16, 3, 16, 16) * 2 - 1
        latents = model.encode_pixels(pixels).permute(0, 2, 3, 1).flatten(0, 2)
        quantizer.codebook.copy_(latents[torch.randperm(len(latents))[: len(quantizer.codebook)]])


@pytest.fixture
def vqgan() -> ImageCodec:
    """A VQGAN of 16 pixels, 4 x 4 tokens, 40 codes."""
    model = VQGANModel(VQGANConfig(**SIZES, latent_channels=8, codebook_size=40, codebook_dim=8)).eval()
    spread(model)
    return ImageCodec(model, VQGANImageProcessor(local_size=16), "tiny-vqgan")


@pytest.fixture
def make_v2l_codec(vocabulary):
    """Builds a V2L model of the same sizes whose codes are the words of `WORDS`, with or without global tokens."""

    def make(cross_attention: str | None = "paper", words: bool = True) -> ImageCodec:
        tower = {"encoder_type": None} if cross_attention is None else {"encoder_config": CLIP}
        config = V2LConfig(
            **tower,
            **SIZES,
            embedding_dim=16,
            num_words=12,
            num_global_tokens=3,
            local_codebook_size=40,
            local_embedding_dim=8,
            local_projector=False,
            latent_channels=8,
            cross_attention=cross_attention,
            cross_attention_heads=2,
        )
        model = V2LModel(config).eval()
        if cross_attention is not None:
            model.load_codebook(torch.nn.functional.normalize(torch.randn(12, 16)), torch.zeros(16), vocabulary)
        spread(model)
        model.set_local_vocabulary(LocalVocabulary(WORDS, "tiny") if words else None)
        return ImageCodec(model, V2LImageProcessor(local_size=16, global_size=32), "tiny-v2l")

    return make


@pytest.fixture
def noise() -> list[Image.Image]:
    """Eleven pictures of 20 x 24 pixels, of different colours and different roughness."""
    generator = np.random.default_rng(3)
    found = []
    for roughness in range(11):
        values = generator.integers(0, 256, 3) + generator.normal(0, 10 * roughness, (20, 24, 3))
        found.append(Image.fromarray(values.clip(0, 255).astype(np.uint8)))
    return found


@pytest.fixture
def source(noise) -> ImageSource:
    return ImageSource("noise", len(noise), lambda: iter(noise))


def save(codec: ImageCodec, folder: Path) -> Path:
    """Saves a codec as a model folder."""
    codec.model.save_pretrained(folder)
    codec.image_processor.save_pretrained(folder)
    return folder


@pytest.fixture
def save_codec(tmp_path):
    """Saves a codec under a name and gives the folder."""
    return lambda codec, name="model": save(codec, tmp_path / name)
