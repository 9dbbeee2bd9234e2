"""A tiny V2L model whose local tokens are the ids of a tiny language model, and sequences of made-up tokens."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from visual_sentence.language import LanguageModel, entry_texts, load_language_model
from visual_sentence.masked_restoration import ImageSequences
from visual_sentence.modeling import LocalVocabulary, V2LConfig, V2LImageProcessor, V2LModel
from visual_sentence.reconstruction import ImageCodec

SIZES = {"image_size": 16, "block_out_channels": [8, 8, 16], "layers_per_block": 1, "norm_num_groups": 4}
VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
CLIP = {
    "model_type": "clip",
    "projection_dim": 16,
    "text_config": {**VISION, "vocab_size": 99, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1},
    "vision_config": {**VISION, "image_size": 32, "patch_size": 16},
}
CODES = 300


@pytest.fixture
def language_model(llm_folder) -> LanguageModel:
    return load_language_model(str(llm_folder), dtype="float32", device="cpu")


@pytest.fixture
def make_codec(vocabulary, language_model):
    """Builds a V2L model of 16 pixels and 4 x 4 local tokens, with or without an image tower."""

    def make(tower: bool = True, words: list[str] | None = None, seed: int = 0) -> ImageCodec:
        torch.manual_seed(seed)
        config = V2LConfig(
            **({"encoder_config": CLIP} if tower else {"encoder_type": None}),
            **SIZES,
            embedding_dim=16,
            num_words=12,
            num_global_tokens=3,
            local_codebook_size=CODES,
            local_embedding_dim=8,
            local_projector=False,
            latent_channels=8,
        )
        model = V2LModel(config).eval()
        if tower:
            codebook = torch.nn.functional.normalize(torch.randn(12, 16))
            model.load_codebook(codebook, torch.zeros(16), vocabulary)
        with torch.no_grad():  # codes lie where latents do, so that different pictures take different ones
            latents = model.encode_pixels(torch.rand(40, 3, 16, 16) * 2 - 1).permute(0, 2, 3, 1).flatten(0, 2)
            model.local_quantizer.codebook.copy_(latents[torch.randperm(len(latents))[:CODES]])
        texts = entry_texts(language_model.tokenizer)[:CODES] if words is None else words
        model.set_local_vocabulary(LocalVocabulary(texts, "tiny"))
        return ImageCodec(model, V2LImageProcessor(local_size=16, global_size=32), "tiny-v2l")

    return make


@pytest.fixture
def codec_folder(make_codec, tmp_path) -> Path:
    """A saved V2L model with both halves."""
    codec = make_codec()
    codec.model.save_pretrained(tmp_path / "v2l")
    codec.image_processor.save_pretrained(tmp_path / "v2l")
    return tmp_path / "v2l"


@pytest.fixture
def picture_folder(tmp_path) -> Path:
    """Twelve noisy pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    draw = np.random.default_rng(3)
    for index in range(12):
        Image.fromarray(draw.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / f"{index:02d}.png")
    return folder


@pytest.fixture
def sequences() -> ImageSequences:
    """Five pictures of 4 x 4 tokens with prefixes of different lengths."""
    maps = torch.randint(0, CODES, (5, 4, 4), generator=torch.Generator().manual_seed(1))
    return ImageSequences([[0], [0, 5], [0, 7, 9, 11], [0, 5, 6], [0]], maps)
