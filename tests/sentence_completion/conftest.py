"""Tiny models of random weights that complete visual sentences."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from visual_sentence.modeling import SimLVMConfig, SimLVMForVisualSentence, SimLVMProcessor, VQGANImageProcessor

VQGAN = {
    "image_size": 16,
    "codebook_size": 32,
    "codebook_dim": 8,
    "block_out_channels": [8, 16, 16],
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 4,
}
LLAMA = {
    "model_type": "llama",
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    # Wide weights make confident models, whose choices do not hang on the last digit.
    "initializer_range": 0.5,
}
GRU = {
    "model_type": "visual_gru",
    "vocab_size": 40,
    "hidden_size": 32,
    "num_gru_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.5,
}


@pytest.fixture
def make_simlvm() -> Callable[..., SimLVMForVisualSentence]:
    """Builds a tiny SimLVM: 16 px to 4 x 4 tokens of 32 codes, sentences of up to 8 images."""

    def make(text: str = "llama", **options) -> SimLVMForVisualSentence:
        torch.manual_seed(0)
        fields = {"vq_config": VQGAN, "text_config": {"llama": LLAMA, "visual_gru": GRU}[text], "max_images": 8}
        return SimLVMForVisualSentence(SimLVMConfig(**{**fields, **options})).eval()

    return make


@pytest.fixture
def make_simlvm_processor() -> Callable[..., SimLVMProcessor]:
    """Builds the processor of such a model."""

    def make(fit: str = "stretch", **options) -> SimLVMProcessor:
        image_processor = VQGANImageProcessor(local_size=16, local_fit=fit)
        return SimLVMProcessor(image_processor, **{"tokens_per_image": 16, "max_images": 8, **options})

    return make


@pytest.fixture
def simlvm_folder(make_simlvm, make_simlvm_processor, tmp_path) -> Path:
    """A saved SimLVM of random weights."""
    folder = tmp_path / "simlvm"
    make_simlvm().save_pretrained(folder)
    make_simlvm_processor().save_pretrained(folder)
    return folder


def noise(seed: int, size: tuple[int, int] = (20, 20)) -> Image.Image:
    """A picture of `size` (width, height) that no other seed gives."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def blob(seed: int, size: tuple[int, int] = (20, 20)) -> Image.Image:
    """A black and white mask."""
    return Image.fromarray((np.asarray(noise(seed, size))[..., 0] > 150).astype(np.uint8) * 255).convert("RGB")
