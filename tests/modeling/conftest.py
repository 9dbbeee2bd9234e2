"""Tiny models with a convolutional half."""

import pytest
import torch

from visual_sentence.modeling import (
    LocalVocabulary,
    SimLVMConfig,
    SimLVMForVisualSentence,
    SimLVMProcessor,
    V2LConfig,
    V2LModel,
    VQGANConfig,
    VQGANImageProcessor,
    VQGANModel,
)

T, K = 16, 32  # tokens of an image of a tiny SimLVM, entries of its codebook
# 40 ids, of which image tokens take 32; wide weights, so that what the models say differs from place to place
IN_COMMON = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "max_position_embeddings": 160,
    "initializer_range": 0.4,
}
BACKBONES = {
    "llama": {"model_type": "llama", "intermediate_size": 48, "num_hidden_layers": 2, **IN_COMMON},
    "visual_gru": {"model_type": "visual_gru", "num_gru_layers": 2, "num_attention_layers": 2, **IN_COMMON},
}
# every backbone with every embedding; with and without places in the grid, aligned tokens, special ids and an offset
SIMLVMS = {
    "llama-table": {},
    "llama-codebook": {
        "embedding": "codebook",
        "grid_positions": True,
        "aligned_tokens": True,
        "special_token_ids": {"pad": 32, "begin": 33},
    },
    "llama-offset": {
        "aligned_tokens": True,
        "aligned_layers": 2,
        "aligned_width": 8,
        "aligned_followers": True,
        "image_token_offset": 8,
        "special_token_ids": {"pad": 0, "begin": 1, "end": 2},
    },
    "visual_gru-table": {"grid_positions": True, "special_token_ids": {"pad": 39, "begin": 38}},
    "visual_gru-neighbourhood": {"aligned_tokens": True, "aligned_layers": 1, "aligned_width": 8},
    "visual_gru-codebook": {
        "embedding": "codebook",
        "aligned_tokens": True,
        "image_token_offset": 3,
        "special_token_ids": {"pad": 0},
    },
}
CODEC = {"block_out_channels": [8, 16], "layers_per_block": 1, "latent_channels": 4, "norm_num_groups": 4}


def sentence(model: SimLVMForVisualSentence, images: int, rows: int = 1, seed: int = 0) -> torch.Tensor:
    """Ids [rows, begin + images * T] of random images."""
    tokens = torch.randint(0, K, (rows, images * T), generator=torch.Generator().manual_seed(seed))
    ids = tokens + model.config.image_token_offset
    begin = model.config.special_token_ids.get("begin")
    return ids if begin is None else torch.cat([torch.full((rows, 1), begin), ids], 1)


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


@pytest.fixture
def make_simlvm():
    """Builds a tiny SimLVM: 16 px to 4 x 4 tokens of 32 codes, sentences of 8 images."""

    def make(backbone: str = "llama", text: dict | None = None, **options) -> SimLVMForVisualSentence:
        torch.manual_seed(0)
        codec = {**CODEC, "block_out_channels": [8, 16, 16]}
        vqgan = {"image_size": 16, "codebook_size": 32, "codebook_dim": 8, **codec}
        language_model = {**BACKBONES[backbone], **(text or {})}
        config = SimLVMConfig(vq_config=vqgan, text_config=language_model, **{"max_images": 8, **options})
        model = SimLVMForVisualSentence(config).eval()
        with torch.no_grad():  # so that pictures have many tokens, places their vectors, and states differ
            pixels, last = torch.rand(16, 3, 16, 16) * 2 - 1, model.vqgan.quant_conv
            latents = model.vqgan.encode_pixels(pixels)
            last.bias.sub_(latents.mean((0, 2, 3))).div_(latents.std((0, 2, 3)))
            last.weight.div_(latents.std((0, 2, 3))[:, None, None, None])
            model.vqgan.fit_codebook(model.vqgan.encode_pixels(pixels), torch.Generator().manual_seed(0))
            for layer in getattr(model.language_model.base_model, "gru_layers", ()):
                for parameter in layer.gru.parameters():
                    parameter.mul_(5)
            if model.grid_embedding is not None:
                model.grid_embedding.weight.normal_()
            if model.aligned_embedding is not None:
                for parameter in model.aligned_embedding.parameters():
                    parameter.normal_(std=1.0 if parameter.ndim == 2 else 0.15)
        model.take_codes()
        return model

    return make


@pytest.fixture
def make_simlvm_processor():
    """Builds the processor of a tiny SimLVM."""

    def make(model: SimLVMForVisualSentence) -> SimLVMProcessor:
        images = VQGANImageProcessor(local_size=model.config.vq_config.image_size, local_fit="stretch")
        config, converter = model.config, model.converter
        return SimLVMProcessor(images, config.tokens_per_image, config.max_images, converter.pad_id, converter.begin_id)

    return make


@pytest.fixture
def make_variant(make_simlvm):
    """Builds a tiny SimLVM by its name in `SIMLVMS`."""

    def make(variant: str, **options) -> SimLVMForVisualSentence:
        return make_simlvm(variant.partition("-")[0], **{**SIMLVMS[variant], **options})

    return make


@pytest.fixture(params=SIMLVMS)
def simlvm(request, make_variant) -> SimLVMForVisualSentence:
    """Every tiny SimLVM."""
    return make_variant(request.param)
