"""Fixtures for all tests: tiny models of every kind, pictures, and whether the real offline models are there."""

import os

# before any library reads them: tests never touch the network
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pytest
import torch
from PIL import Image
from visual_sentence.modeling import V2LConfig, V2LModel, WordVocabulary

import visual_sentence  # noqa: F401  (registers the model types)
from visual_sentence.offline import OFFLINE_PACKAGES

TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 99}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
}
TEXT_IDS = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
TOWERS = {
    "clip": (
        "transformers",
        {"model_type": "clip", "projection_dim": 16, "text_config": {**TEXT, **TEXT_IDS}, "vision_config": VISION},
    ),
    "siglip": (
        "transformers",
        {"model_type": "siglip", "text_config": {**TEXT, **TEXT_IDS}, "vision_config": VISION},
    ),
    "open_clip": (
        "open_clip",
        {
            "embed_dim": 16,
            "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "patch_size": 16, "head_width": 8},
            "text_cfg": {"context_length": 16, "vocab_size": 99, "width": 16, "heads": 2, "layers": 1},
        },
    ),
    "conse": (
        "conse",
        {
            "model_type": "conse",
            "classifier_config": {
                "model_type": "resnet",
                "embedding_size": 8,
                "hidden_sizes": [8, 16],
                "depths": [1, 1],
                "layer_type": "basic",
                "num_labels": 6,
            },
            "embedding_dim": 16,
            "top_labels": 3,
            "label_ids": ["n0", "n1", "n2", "n3", "n4", "n5"],
        },
    ),
}


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def vocabulary() -> WordVocabulary:
    words = ["cat", "cats", "dog", "dogs", "tree", "car", "boat", "sky", "red", "green", "moon", "sun"]
    groups = [0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    token_ids = [[index, index + 100] for index in range(len(words))]
    return WordVocabulary(words, token_ids, ["subword"] * len(words), groups, {"language_model": "tiny"})


@pytest.fixture
def make_v2l(vocabulary):
    """Builds a tiny V2L model with the tower of that name."""

    def make(tower: str = "clip") -> V2LModel:
        torch.manual_seed(0)
        encoder_type, encoder_config = TOWERS[tower]
        config = V2LConfig(encoder_type, encoder_config, embedding_dim=16, num_words=12, num_global_tokens=3)
        model = V2LModel(config).eval()
        model.load_codebook(torch.nn.functional.normalize(torch.randn(12, 16)), torch.zeros(16), vocabulary)
        return model

    return make


@pytest.fixture
def picture() -> Image.Image:
    """A picture of 40 x 60 pixels in which every pixel tells where it is."""
    rows, columns = np.mgrid[0:40, 0:60]
    return Image.fromarray(np.stack([rows * 6, columns * 4, rows + columns], axis=-1).astype(np.uint8))


@pytest.fixture
def pictures() -> list[Image.Image]:
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)) for _ in range(5)]


@pytest.fixture(scope="session")
def offline_models():
    """Skips where the packages with the real weights are not installed."""
    missing = [package.name for package in OFFLINE_PACKAGES if not package.is_installed]
    if missing:
        pytest.skip(f"needs the offline models: {', '.join(missing)} not installed (visual-sentence offline install)")
