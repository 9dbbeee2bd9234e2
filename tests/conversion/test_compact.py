"""Smaller copies: half of the bytes, the same tokens, and nothing is lost on the way to a folder."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor

from visual_sentence.conversion import compact_model
from visual_sentence.errors import UserError
from visual_sentence.modeling import (
    LocalVocabulary,
    SimLVMConfig,
    SimLVMForVisualSentence,
    SimLVMProcessor,
    V2LConfig,
    V2LImageProcessor,
    V2LModel,
    V2LProcessor,
    VQGANConfig,
    VQGANImageProcessor,
    VQGANModel,
)

SIZES = {"image_size": 16, "block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4}


@pytest.fixture
def v2l(tmp_path) -> V2LModel:
    torch.manual_seed(0)
    config = V2LConfig(
        encoder_type=None,
        **SIZES,
        local_codebook_size=40,
        local_embedding_dim=24,
        local_latent_dim=6,
        latent_channels=8,
    )
    model = V2LModel(config).eval()
    words = LocalVocabulary([f"word{index}" for index in range(40)], "tiny")
    model.load_local_codebook(torch.randn(40, 24), words)
    with torch.no_grad():
        model.fit_codebook(model.encode_pixels(torch.rand(16, 3, 16, 16) * 2 - 1))
    model.save_pretrained(tmp_path / "v2l")
    V2LProcessor(V2LImageProcessor(local_size=16, do_global_view=False)).save_pretrained(tmp_path / "v2l")
    return model


@pytest.fixture
def simlvm(tmp_path) -> SimLVMForVisualSentence:
    torch.manual_seed(0)
    text = {"model_type": "llama", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    model = SimLVMForVisualSentence(
        SimLVMConfig(
            VQGANConfig(**SIZES, latent_channels=8, codebook_size=32, codebook_dim=6),
            {**text, "num_attention_heads": 2, "max_position_embeddings": 256},
            aligned_tokens=True,
            aligned_layers=1,
            aligned_width=8,
            max_images=4,
        )
    ).eval()
    model.take_codes()
    model.save_pretrained(tmp_path / "simlvm")
    processor = VQGANImageProcessor(local_size=16, local_fit="stretch")
    SimLVMProcessor(processor, tokens_per_image=64, max_images=4).save_pretrained(tmp_path / "simlvm")
    return model


@torch.no_grad()
def test_a_projector_becomes_part_of_its_codebook(v2l, tmp_path):
    pixels = torch.rand(8, 3, 16, 16) * 2 - 1
    report = compact_model(str(tmp_path / "v2l"), tmp_path / "small")
    assert report["folded"] and report["bytes_after"] < 0.8 * report["bytes_before"]
    small = AutoModel.from_pretrained(tmp_path / "small")
    assert small.config.local_projector is False and small.config.local_embedding_dim == 6
    assert small.local_vocabulary.words == v2l.local_vocabulary.words
    assert {parameter.dtype for parameter in small.parameters()} == {torch.float32}
    tokens = v2l.encode(pixel_values=pixels).local_tokens
    assert tokens.unique().numel() > 8  # otherwise anything is equal
    assert (small.encode(pixel_values=pixels).local_tokens == tokens).float().mean() > 0.99
    torch.testing.assert_close(small.decode(tokens), v2l.decode(tokens), atol=0.05, rtol=0.05)
    stored = load_file(tmp_path / "small" / "model.safetensors")
    assert stored["local_quantizer.codebook"].dtype == torch.float16
    assert stored["quant_conv.weight"].dtype == torch.float32 and torch.equal(
        stored["quant_conv.weight"], v2l.quant_conv.weight
    )


@torch.no_grad()
def test_a_simlvm_keeps_its_tokens_to_the_last_one(simlvm, tmp_path):
    pixels = torch.rand(8, 3, 16, 16) * 2 - 1
    report = compact_model(str(tmp_path / "simlvm"), tmp_path / "small")
    assert not report["folded"] and report["bytes_after"] < 0.8 * report["bytes_before"]
    small = AutoModel.from_pretrained(tmp_path / "small")
    assert torch.equal(small.tokenize(pixels), simlvm.tokenize(pixels))
    ids = simlvm.tokenize(pixels[:3]).flatten()[None]
    torch.testing.assert_close(small(input_ids=ids).logits, simlvm(input_ids=ids).logits, atol=0.03, rtol=0.03)
    assert json.loads((tmp_path / "small" / "config.json").read_text())["dtype"] == "float32"
    assert AutoProcessor.from_pretrained(tmp_path / "small").max_images == 4


def test_what_cannot_be_made_smaller(tmp_path, v2l):
    VQGANModel(VQGANConfig(**SIZES)).save_pretrained(tmp_path / "vqgan")
    with pytest.raises(UserError, match="is a vqgan model"):
        compact_model(str(tmp_path / "vqgan"), tmp_path / "small")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(UserError, match="nothing is overwritten"):
        compact_model(str(tmp_path / "v2l"), tmp_path / "full")
    with pytest.raises(UserError, match="found nothing there"):
        compact_model(str(tmp_path / "nowhere"), tmp_path / "small")
    assert not (tmp_path / "small").exists()
    v2l.config.local_codebook_trainable = True
    with pytest.raises(ValueError, match="trained with its projector"):
        v2l.fold_projector()
