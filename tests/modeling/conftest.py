"""Tiny models with a convolutional half."""

import pytest
import torch

from visual_sentence.modeling import LocalVocabulary, V2LConfig, V2LModel, VQGANConfig, VQGANModel

CODEC = {"block_out_channels": [8, 16], "layers_per_block": 1, "latent_channels": 4, "norm_num_groups": 4}


@pytest.fixture
def make_vqgan():
    """Builds a tiny VQGAN: 16 px to 8 x 8 tokens of 32 codes."""

    def make(**options) -> VQGANModel:
        torch.manual_seed(0)
        sizes = {"image_size": 16, "codebook_size": 32, "codebook_dim": 8, **CODEC}
        return VQGANModel(VQGANConfig(**{**sizes, **options})).eval()

    return make


@pytest.fixture
def make_local_v2l(vocabulary):
    """Builds a tiny V2L model with a local half of 40 words: 16 px to 8 x 8 tokens; with a tower where one is named."""

    def make(tower: tuple | None = None, **options) -> V2LModel:
        torch.manual_seed(0)
        encoder_type, encoder_config = tower or (None, None)
        sizes = {"image_size": 16, "local_codebook_size": 40, "local_embedding_dim": 6, **CODEC}
        halves = {"encoder_type": encoder_type, "encoder_config": encoder_config, "embedding_dim": 16, "num_words": 12}
        config = V2LConfig(**{**halves, **sizes, "num_global_tokens": 3, **options})
        model = V2LModel(config).eval()
        if tower:
            codebook = torch.nn.functional.normalize(torch.randn(12, 16))
            model.load_codebook(codebook, torch.zeros(16), vocabulary)
        words = LocalVocabulary([f"word{index}" for index in range(40)], "tiny")
        model.load_local_codebook(torch.randn(40, 6), words)
        return model

    return make
