"""The model that a run begins with, and the V2L model in training."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoProcessor

from visual_sentence.codebook.local import LocalCodebook
from visual_sentence.errors import UserError
from visual_sentence.modeling import (
    LocalVocabulary,
    V2LConfig,
    V2LImageProcessor,
    V2LModel,
    V2LProcessor,
    VQGANConfig,
    VQGANModel,
)
from visual_sentence.training.assignments import parse_assignment
from visual_sentence.training.models import load_v2l, load_vqgan
from visual_sentence.training.objective import TowerGuidance
from visual_sentence.training.pictures import open_pictures

TINY_CODEC = {
    "image_size": 16,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "latent_channels": 8,
    "norm_num_groups": 4,
    "mid_block_attention": False,
}


@pytest.fixture
def vqgan_folder(tmp_path):
    """A config without weights."""
    VQGANConfig(**TINY_CODEC, codebook_size=32, codebook_dim=8).save_pretrained(tmp_path / "vqgan")
    return tmp_path / "vqgan"


@pytest.fixture
def v2l_config_folder(tmp_path):
    """A config of a local half without weights."""
    V2LConfig(encoder_type=None, local_latent_dim=8, **TINY_CODEC).save_pretrained(tmp_path / "v2l")
    return tmp_path / "v2l"


@pytest.fixture
def local_codebook() -> LocalCodebook:
    words = [f"word{number}" for number in range(40)]
    return LocalCodebook(torch.randn(40, 12), LocalVocabulary(words, "tiny"), {"kind": "text"})


# ---------------------------------------------------------------------------------------------------------- config


def test_random_by_a_config(vqgan_folder):
    model, processor = load_vqgan(str(vqgan_folder))
    assert isinstance(model, VQGANModel) and processor.local_size == 16
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_trained_weights_go_on(vqgan_folder, tmp_path):
    model, _ = load_vqgan(str(vqgan_folder))
    model.save_pretrained(tmp_path / "trained")
    again, _ = load_vqgan(str(tmp_path / "trained"), assignments=["quantizer_gradient=rotation"])
    assert again.config.quantizer_gradient == "rotation"
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))


def test_preset_folder_and_assignments(vqgan_folder):
    config = load_vqgan(str(vqgan_folder))[0].config
    assert (config.reconstruction_loss, config.commitment_loss_weight) == ("l1", 0.25)
    config = load_vqgan(str(vqgan_folder), "paper")[0].config
    assert (config.reconstruction_loss, config.commitment_loss_weight) == ("l2", 0.3)
    config = load_vqgan(str(vqgan_folder), "paper", ["commitment_loss_weight=2", "codebook=simvq"])[0].config
    assert (config.reconstruction_loss, config.commitment_loss_weight, config.codebook) == ("l2", 2.0, "simvq")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("number=3", 3),
        ("share=3", 3.0),
        ("share=0.5", 0.5),
        ("word=simvq", "simvq"),
        ("flag=false", False),
        ("widths=[1,2]", [1, 2]),
        ("nothing=7", 7),
        ("word=none", None),
    ],
)
def test_assignments_of_every_kind(line, expected):
    settings = {"number": 1, "share": 1.0, "word": "learned", "flag": True, "widths": (8, 16), "nothing": None}
    name, value = parse_assignment(line, settings)
    assert name == line.partition("=")[0] and value == expected and type(value) is type(expected)


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("codebook_sise=8", "no field 'codebook_sise': did you mean codebook_size"),
        ("zebra=8", "no field 'zebra': the fields are image_size"),
        ("codebook_size", "write it as field=value"),
        ("codebook_size=many", "codebook_size is a whole number, e.g. codebook_size=32"),
        ("codebook_size=true", "codebook_size is a whole number"),
        ("normalize_latents=1", "normalize_latents is true or false"),
        ("block_out_channels=8", "block_out_channels is a list"),
        ("codebook=cosine", "does not hold together: codebook must be one of"),
        ("image_size=15", "does not hold together"),
    ],
)
def test_wrong_assignments(vqgan_folder, assignment, said):
    with pytest.raises(UserError, match=said) as caught:
        load_vqgan(str(vqgan_folder), assignments=[assignment])
    assert "\n" not in str(caught.value)


def test_no_such_model(tmp_path, vqgan_folder, local_codebook):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"has no config\.json"):
        load_vqgan(str(tmp_path / "empty"))
    with pytest.raises(UserError, match="check the path"):
        load_vqgan("./nowhere")
    with pytest.raises(UserError, match="is the configuration of a vqgan model, but a v2l is trained here"):
        load_v2l(str(vqgan_folder), local_codebook=local_codebook)


def test_weights_of_another_shape_are_refused(vqgan_folder, tmp_path):
    load_vqgan(str(vqgan_folder))[0].save_pretrained(tmp_path / "trained")
    with pytest.raises(UserError) as caught:
        load_vqgan(str(tmp_path / "trained"), assignments=["codebook_size=64"])
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------------------------- V2L


def test_a_local_half_takes_the_codebooks_size(v2l_config_folder, local_codebook):
    model, processor = load_v2l(str(v2l_config_folder), local_codebook=local_codebook)
    assert model.image_tower is None and not processor.image_processor.do_global_view
    config = model.config
    assert (config.local_codebook_size, config.local_embedding_dim, config.local_latent_dim) == (40, 12, 8)
    assert config.language_model == "tiny" and model.local_vocabulary.words[3] == "word3"
    assert torch.equal(model.local_quantizer.codebook, local_codebook.embeddings)
    assert processor.image_processor.local_size == 16


def test_a_latent_width_that_is_not_named_follows_the_codebook(tmp_path, local_codebook):
    V2LConfig(encoder_type=None, **TINY_CODEC).save_pretrained(tmp_path / "plain")
    model, _ = load_v2l(str(tmp_path / "plain"), local_codebook=local_codebook)
    assert model.config.local_latent_dim == 12


def test_a_preset_without_an_image_tower_leaves_the_cross_attention_out(v2l_config_folder, local_codebook):
    config = load_v2l(str(v2l_config_folder), "published-code", local_codebook=local_codebook)[0].config
    assert (config.reconstruction_loss, config.codebook_loss_weight) == ("l1", 0.33)
    assert config.cross_attention is None


@pytest.fixture
def whole_v2l(v2l_config_folder, local_codebook, v2l_folder):
    """A V2L model with both halves, and its processor."""
    return load_v2l(str(v2l_config_folder), "paper", (), local_codebook, global_model=str(v2l_folder))


def test_the_global_half_of_another_model(whole_v2l, v2l_folder):
    model, processor = whole_v2l
    donor = AutoModel.from_pretrained(v2l_folder)
    assert model.config.cross_attention == "paper" and model.config.num_words == 12
    for name, tensor in donor.image_tower.state_dict().items():
        assert torch.equal(tensor, model.image_tower.state_dict()[name])
    assert torch.equal(donor.global_quantizer.codebook, model.global_quantizer.codebook)
    assert model.vocabulary.words == donor.vocabulary.words
    assert processor.image_processor.global_size == 32 and processor.image_processor.local_size == 16


def test_a_v2l_model_trains_with_its_words_and_the_rest_stays_frozen(run, whole_v2l, picture_folder):
    model, processor = whole_v2l
    frozen = {
        name: tensor.clone() for name, tensor in model.state_dict().items() if "tower" in name or "codebook" in name
    }
    before = {name: parameter.clone() for name, parameter in model.named_parameters() if parameter.requires_grad}
    outcome = run(model=model, processor=processor, sample_every=3)
    assert len(frozen) > 3
    for name, tensor in frozen.items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    unmoved = [name for name, value in before.items() if torch.equal(value, dict(model.named_parameters())[name])]
    assert unmoved == []
    folder = outcome.folder / "model"
    loaded, loaded_processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    assert isinstance(loaded, V2LModel) and isinstance(loaded_processor, V2LProcessor)
    assert loaded.local_vocabulary.words[5] == "word5" and loaded.vocabulary is not None
    picture = open_pictures([str(picture_folder)]).picture(0)
    tokens = loaded.encode(**loaded_processor(picture, return_tensors="pt"))
    again = loaded.decode(tokens.local_tokens, tokens.global_tokens)
    assert again.shape == (1, 3, 16, 16)


def test_resuming_a_v2l_model_is_exact(run, v2l_config_folder, local_codebook, v2l_folder, tmp_path):
    def go(output: str, **settings):
        torch.manual_seed(0)
        model, processor = load_v2l(str(v2l_config_folder), "paper", (), local_codebook, str(v2l_folder))
        common = {"batch_size": 6, "schedule": "constant", "output": str(tmp_path / output)}
        return run(model=model, processor=processor, **{**common, **settings})

    whole = go("whole", max_steps=6)
    first = go("parts", max_steps=2)
    second = go("parts", max_steps=6, resume="latest")
    assert first.terms + second.terms == whole.terms
    assert torch.equal(whole.weights(), second.weights())


def test_global_tokens_are_those_of_the_whole_picture_and_kept(whole_v2l, picture_folder, monkeypatch):
    model, processor = whole_v2l
    source = open_pictures([str(picture_folder)])
    words = TowerGuidance(model, processor.image_processor, source, torch.device("cpu"))
    views = processor([source.picture(3), source.picture(9)], do_local_view=False, return_tensors="pt")
    expected = model.encode(**views).global_tokens
    found = words.of_batch({"indices": torch.tensor([3, 9])})
    assert torch.equal(found, expected) and found.shape == (2, 3)
    assert torch.equal(words.of_pictures([source.picture(3)]), expected[:1])

    def no_more(*args) -> None:
        raise AssertionError("they are known")

    monkeypatch.setattr(model, "encode", no_more)
    assert torch.equal(words.of_batch({"indices": torch.tensor([9, 3])}), expected.flip(0))


def test_a_stream_brings_the_views_along(run, whole_v2l, tmp_path):
    model, processor = whole_v2l
    outcome = run(model=model, processor=processor, streaming=True, shuffle_block=24, sample_every=3)
    assert np.isfinite(outcome.curve("loss")).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"local_codebook": None}, "describes no local half"),
        ({"local_codebook": None, "assignments": ["local_codebook_size=40"]}, "the local codebook has no vectors"),
        ({"assignments": ["encoder_type=conse"]}, "names an image tower .conse. and has no weights"),
        ({"assignments": ["cross_attention=paper"]}, "has no image tower to find them"),
        ({"global_model": "{vqgan}"}, "is no V2L model with an image tower"),
    ],
)
def test_parts_that_are_missing(v2l_config_folder, vqgan_folder, local_codebook, changes, said):
    arguments = {"local_codebook": local_codebook, **changes}
    if "global_model" in arguments:
        arguments["global_model"] = str(vqgan_folder)
    with pytest.raises(UserError, match=said) as caught:
        load_v2l(str(v2l_config_folder), **arguments)
    assert "\n" not in str(caught.value)


def test_a_frozen_codebook_without_a_projector_cannot_be_moved(prepare, v2l_config_folder, local_codebook):
    model, processor = load_v2l(str(v2l_config_folder), None, ["local_projector=false"], local_codebook)
    assert model.config.local_latent_dim == 12  # the codebook's own width
    with pytest.raises(UserError, match="frozen and has no projector"):
        prepare(model=model, processor=processor, unquantized_steps=1)


def test_words_of_two_languages(v2l_config_folder, v2l_folder):
    path = v2l_folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "language_model": "tiny"}))
    other = LocalCodebook(torch.randn(2, 12), LocalVocabulary(["a", "b"], "another"), {})
    with pytest.raises(UserError, match="one model speaks one language"):
        load_v2l(str(v2l_config_folder), local_codebook=other, global_model=str(v2l_folder))


def test_cross_attention_without_a_tower_is_refused_in_training(whole_v2l, picture_folder):
    model, _ = whole_v2l
    model.image_tower = None
    with pytest.raises(UserError, match="trained with global_tokens"):
        TowerGuidance(model, V2LImageProcessor(), open_pictures([str(picture_folder)]), torch.device("cpu"))
