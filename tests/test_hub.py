"""A folder made of an encoder and a codebook: complete, loaded by the Auto classes, and the same as what was saved."""

import json

import pytest
import torch
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor, AutoTokenizer

from visual_sentence import build_v2l_model, save_v2l_model
from visual_sentence.codebook import GlobalCodebook
from visual_sentence.encoders.transformers_encoder import TransformersJointEncoder
from visual_sentence.modeling import V2LConfig, V2LImageProcessor, V2LModel, V2LProcessor

LAYERS = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
CLIP = {
    "model_type": "clip",
    "projection_dim": 16,
    "text_config": {**LAYERS, "vocab_size": 300, "bos_token_id": 1, "eos_token_id": 0, "max_position_embeddings": 16},
    "vision_config": {**LAYERS, "image_size": 32, "patch_size": 16},
}


@pytest.fixture
def encoder(llm_folder) -> TransformersJointEncoder:
    model = AutoModel.from_config(AutoConfig.for_model(**CLIP)).eval()
    tokenizer = AutoTokenizer.from_pretrained(llm_folder)
    return TransformersJointEncoder("tiny-clip", model, tokenizer, V2LImageProcessor(global_size=32))


@pytest.fixture
def codebook(vocabulary) -> GlobalCodebook:
    embeddings = torch.nn.functional.normalize(torch.randn(12, 16), dim=-1)
    return GlobalCodebook(
        vocabulary.words,
        vocabulary.token_ids,
        vocabulary.kinds,
        vocabulary.groups,
        embeddings=embeddings,
        image_center=torch.full((16,), 0.01),
        provenance={"language_model": "tiny-llm", "recipe": "test"},
    )


def test_config_says_what_it_is_made_of(encoder, codebook):
    config = build_v2l_model(encoder, codebook).config
    assert (config.encoder_type, config.encoder_name, config.language_model) == (
        "transformers",
        "tiny-clip",
        "tiny-llm",
    )
    assert (config.num_words, config.embedding_dim) == (12, 16)
    assert config.num_global_tokens == V2LConfig().num_global_tokens


def test_fewer_words_than_usual_are_fewer_words_an_image(encoder, codebook):
    parts = {name: getattr(codebook, name)[:4] for name in ("words", "token_ids", "kinds", "groups", "embeddings")}
    small = GlobalCodebook(**parts, image_center=codebook.image_center, provenance={})
    assert build_v2l_model(encoder, small).config.num_global_tokens == 2  # four words in two groups


def test_the_codebook_arrives_unchanged(encoder, codebook):
    model = build_v2l_model(encoder, codebook)
    assert torch.equal(model.global_quantizer.codebook, codebook.embeddings)
    assert torch.equal(model.global_quantizer.image_center, codebook.image_center)
    assert model.vocabulary.words == codebook.words and model.vocabulary.token_ids == codebook.token_ids
    assert not any(parameter.requires_grad for parameter in model.image_tower.parameters())


def test_a_codebook_of_another_space_is_refused(encoder, codebook):
    parts = {name: getattr(codebook, name) for name in ("words", "token_ids", "kinds", "groups", "provenance")}
    other = GlobalCodebook(**parts, embeddings=torch.randn(12, 8), image_center=torch.zeros(8))
    with pytest.raises(ValueError, match="8 dimensions, the encoder tiny-clip has 16"):
        build_v2l_model(encoder, other)


def test_the_folder_loads_by_the_auto_classes(encoder, codebook, pictures, tmp_path):
    save_v2l_model(encoder, codebook, tmp_path / "model")
    config = AutoConfig.from_pretrained(tmp_path / "model")
    model = AutoModel.from_pretrained(tmp_path / "model")
    image_processor = AutoImageProcessor.from_pretrained(tmp_path / "model")
    processor = AutoProcessor.from_pretrained(tmp_path / "model")
    assert [type(part) for part in (config, model, image_processor, processor)] == [
        V2LConfig,
        V2LModel,
        V2LImageProcessor,
        V2LProcessor,
    ]
    built = build_v2l_model(encoder, codebook)
    views = image_processor(pictures, return_tensors="pt", do_local_view=False)
    expected, found = built.encode(**views), model.encode(**views)
    assert torch.equal(found.global_tokens, expected.global_tokens)
    assert found.global_words == expected.global_words == processor.batch_decode(found.global_tokens)
    assert found.global_token_ids == expected.global_token_ids
    again = processor(pictures, return_tensors="pt", do_local_view=False)
    assert torch.equal(again["global_pixel_values"], views["global_pixel_values"])


def test_the_folder_carries_the_code_that_loads_it(encoder, codebook, tmp_path):
    save_v2l_model(encoder, codebook, tmp_path)
    named = [json.loads((tmp_path / name).read_text())["auto_map"] for name in ("config.json", "processor_config.json")]
    classes = {kind: place for auto_map in named for kind, place in auto_map.items()}
    assert {"AutoConfig", "AutoModel", "AutoProcessor"} <= set(classes)
    for place in classes.values():
        module, _, name = place.partition(".")
        assert f"class {name}" in (tmp_path / f"{module}.py").read_text()
    assert not list(tmp_path.glob("*.bin")) and (tmp_path / "codebook.json").is_file()


def test_saving_twice_gives_the_same_files(encoder, codebook, tmp_path):
    for name in ("one", "two"):
        save_v2l_model(encoder, codebook, tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
