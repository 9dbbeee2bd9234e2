"""Models with a local half: made of their parts, saved, and loaded again by the Auto classes."""

import pytest
import torch
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor, AutoTokenizer

from visual_sentence import UserError, build_v2l_model, save_v2l_model
from visual_sentence.codebook import GlobalCodebook
from visual_sentence.codebook.local import LocalCodebook
from visual_sentence.encoders.transformers_encoder import TransformersJointEncoder
from visual_sentence.modeling import LocalVocabulary, V2LImageProcessor

LAYERS = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
CLIP = {
    "model_type": "clip",
    "projection_dim": 16,
    "text_config": {**LAYERS, "vocab_size": 300, "bos_token_id": 1, "eos_token_id": 0, "max_position_embeddings": 16},
    "vision_config": {**LAYERS, "image_size": 32, "patch_size": 16},
}
SMALL = {
    "image_size": 16,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 4,
}


@pytest.fixture
def encoder(llm_folder) -> TransformersJointEncoder:
    model = AutoModel.from_config(AutoConfig.for_model(**CLIP)).eval()
    tokenizer = AutoTokenizer.from_pretrained(llm_folder)
    view = V2LImageProcessor(global_size=32, global_mean=[0.5, 0.5, 0.5])
    return TransformersJointEncoder("tiny-clip", model, tokenizer, view)


@pytest.fixture
def codebook(vocabulary) -> GlobalCodebook:
    return GlobalCodebook(
        vocabulary.words,
        vocabulary.token_ids,
        vocabulary.kinds,
        vocabulary.groups,
        embeddings=torch.nn.functional.normalize(torch.randn(12, 16), dim=-1),
        image_center=torch.zeros(16),
        provenance={"language_model": "tiny-llm"},
    )


@pytest.fixture
def local_codebook() -> LocalCodebook:
    words = LocalVocabulary([f"word{index}" for index in range(20)], "tiny-llm")
    return LocalCodebook(torch.randn(20, 6), words, {"kind": "text"})


def test_local_half_alone(local_codebook):
    model = build_v2l_model(local_codebook=local_codebook, **SMALL)
    config = model.config
    assert (config.local_codebook_size, config.local_embedding_dim, config.language_model) == (20, 6, "tiny-llm")
    assert config.encoder_type is None and model.image_tower is None and not model.training
    assert torch.equal(model.local_quantizer.codebook, local_codebook.embeddings)
    assert model.local_vocabulary == local_codebook.vocabulary
    output = model(pixel_values=torch.rand(2, 3, 16, 16) * 2 - 1)
    assert output.local_tokens.shape == (2, 8, 8) and output.loss.isfinite()
    trained = {id(parameter) for parameter in model.trainable_parameters()}
    assert id(model.local_quantizer.projector.weight) in trained and id(model.last_layer) in trained


def test_both_halves(encoder, codebook, local_codebook, pictures):
    model = build_v2l_model(encoder, codebook, local_codebook, cross_attention="paper", **SMALL)
    assert (model.config.num_words, model.config.local_codebook_size) == (12, 20)
    assert torch.equal(model.global_quantizer.codebook, codebook.embeddings)
    assert torch.equal(model.local_quantizer.codebook, local_codebook.embeddings)
    assert not any(parameter.requires_grad for parameter in model.image_tower.parameters())
    views = encoder.image_processor(pictures, return_tensors="pt", do_local_view=False)
    alone = build_v2l_model(encoder, codebook).encode(**views)
    found = model.encode(torch.rand(5, 3, 16, 16), **views)
    assert torch.equal(found.global_tokens, alone.global_tokens) and found.local_tokens.shape == (5, 8, 8)
    assert model.decode(found.local_tokens, found.global_tokens).shape == (5, 3, 16, 16)


def test_conv_parts_start_at_random(local_codebook):
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        weights.append(build_v2l_model(local_codebook=local_codebook, **SMALL).last_layer.detach())
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert weights[0].std() > 0


def test_saved_with_both_halves(encoder, codebook, local_codebook, pictures, tmp_path):
    torch.manual_seed(0)
    save_v2l_model(encoder, codebook, tmp_path, local_codebook, cross_attention="published-code", **SMALL)
    torch.manual_seed(0)
    built = build_v2l_model(encoder, codebook, local_codebook, cross_attention="published-code", **SMALL)
    model = AutoModel.from_pretrained(tmp_path)
    for processor in (AutoImageProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        views = processor(pictures, return_tensors="pt")
        assert views["pixel_values"].shape == (5, 3, 16, 16)  # the model's size, not the encoder's processor's
        global_view = encoder.image_processor(pictures, return_tensors="pt", do_local_view=False)
        assert torch.equal(views["global_pixel_values"], global_view["global_pixel_values"])
    expected, found = built.encode(**views), model.encode(**views)
    assert torch.equal(found.local_tokens, expected.local_tokens) and found.global_words == expected.global_words
    pixels = [m.decode(expected.local_tokens, expected.global_tokens) for m in (built, model)]
    assert torch.allclose(*pixels, atol=1e-5)
    assert model.local_vocabulary == local_codebook.vocabulary and model.vocabulary.words == codebook.words


def test_saved_without_an_image_tower(local_codebook, pictures, tmp_path):
    save_v2l_model(None, None, tmp_path, local_codebook, **SMALL)
    views = AutoImageProcessor.from_pretrained(tmp_path)(pictures, return_tensors="pt")
    assert set(views) == {"pixel_values"}
    output = AutoModel.from_pretrained(tmp_path).encode(**views)
    assert output.local_tokens.shape == (5, 8, 8) and output.global_tokens is None
    assert not (tmp_path / "codebook.json").exists() and (tmp_path / "local_vocabulary.json").is_file()


def test_the_two_codebooks_speak_one_language(encoder, codebook, local_codebook):
    other = LocalCodebook(local_codebook.embeddings, LocalVocabulary(local_codebook.vocabulary.words, "llama"), {})
    with pytest.raises(UserError, match="of the language model tiny-llm, the local codebook's of llama"):
        build_v2l_model(encoder, codebook, other, **SMALL)
    model = build_v2l_model(encoder, codebook, other, language_model="tiny-llm", **SMALL)
    assert model.config.language_model == "tiny-llm"
    nameless = LocalCodebook(local_codebook.embeddings, LocalVocabulary(local_codebook.vocabulary.words), {})
    assert build_v2l_model(encoder, codebook, nameless, **SMALL).config.language_model == "tiny-llm"


@pytest.mark.parametrize("given", [(), ("encoder",), ("codebook",), ("encoder", "local_codebook")])
def test_parts_that_make_no_model(given, encoder, codebook, local_codebook):
    parts = {"encoder": encoder, "codebook": codebook, "local_codebook": local_codebook}
    with pytest.raises(UserError, match="a joint encoder and its global codebook, of a local codebook, or of all"):
        build_v2l_model(**{name: parts[name] for name in given})


def test_fields_that_cannot_be_given(local_codebook):
    with pytest.raises(UserError, match="block_channels is no field of V2LConfig"):
        build_v2l_model(local_codebook=local_codebook, block_channels=[8, 16])
    with pytest.raises(UserError, match="local_embedding_dim follows from the encoder and the codebooks"):
        build_v2l_model(local_codebook=local_codebook, local_embedding_dim=7)
    with pytest.raises(UserError, match="cross_attention is 'paper', but there are no global words to look at"):
        build_v2l_model(local_codebook=local_codebook, cross_attention="paper", **SMALL)
