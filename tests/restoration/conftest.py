"""A tiny V2L model whose local words are a tiny language model's: 16 pixels to 4 x 4 tokens."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from visual_sentence.language import LanguageModel, entry_texts
from visual_sentence.modeling import LocalVocabulary, V2LConfig, V2LImageProcessor, V2LModel
from visual_sentence.reconstruction import ImageCodec
from visual_sentence.restoration import PictureRestorer

SIZES = {"image_size": 16, "block_out_channels": [8, 8, 16], "layers_per_block": 1, "norm_num_groups": 4}
VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
CLIP = {
    "model_type": "clip",
    "projection_dim": 16,
    "text_config": {**VISION, "vocab_size": 99, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1},
    "vision_config": {**VISION, "image_size": 32, "patch_size": 16},
}


@pytest.fixture
def language_model(llama, bpe_tokenizer) -> LanguageModel:
    return LanguageModel(llama, bpe_tokenizer, "tiny-llama")


@pytest.fixture
def make_codec(bpe_tokenizer, vocabulary):
    """Builds a V2L model with the tokenizer's entries as codes, with or without global tokens."""

    def make(cross_attention: str | None = None) -> ImageCodec:
        torch.manual_seed(0)
        tower = {"encoder_type": None} if cross_attention is None else {"encoder_config": CLIP}
        texts = entry_texts(bpe_tokenizer)
        config = V2LConfig(
            **tower,
            **SIZES,
            embedding_dim=16,
            num_words=12,
            num_global_tokens=3,
            local_codebook_size=len(texts),
            local_embedding_dim=8,
            local_projector=False,
            latent_channels=8,
            cross_attention=cross_attention,
            cross_attention_heads=2,
        )
        model = V2LModel(config).eval()
        if cross_attention is not None:
            model.load_codebook(torch.nn.functional.normalize(torch.randn(12, 16)), torch.zeros(16), vocabulary)
        with torch.no_grad():  # a random encoder alone would write all pictures with the same codes
            latents = model.encode_pixels(torch.rand(40, 3, 16, 16) * 2 - 1).permute(0, 2, 3, 1).flatten(0, 2)
            model.local_quantizer.codebook.copy_(latents[torch.randperm(len(latents))[: len(texts)]])
        model.set_local_vocabulary(LocalVocabulary(texts, "tiny-llama"))
        return ImageCodec(model, V2LImageProcessor(local_size=16, global_size=32), "tiny-v2l")

    return make


@pytest.fixture
def restorer(make_codec, language_model) -> PictureRestorer:
    return PictureRestorer(make_codec(), language_model)


@pytest.fixture
def noise() -> list[Image.Image]:
    """Nine pictures of 24 x 20 pixels, of different colours and different roughness."""
    generator = np.random.default_rng(3)
    found = []
    for roughness in range(9):
        values = generator.integers(0, 256, 3) + generator.normal(0, 10 + 10 * roughness, (20, 24, 3))
        found.append(Image.fromarray(values.clip(0, 255).astype(np.uint8)))
    return found


@pytest.fixture
def noise_files(noise, tmp_path) -> list[Path]:
    """The same as files."""
    folder = tmp_path / "noise"
    folder.mkdir()
    for index, picture in enumerate(noise):
        picture.save(folder / f"{index}.png")
    return sorted(folder.iterdir())
