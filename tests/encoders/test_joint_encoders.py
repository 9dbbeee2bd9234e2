"""All adapters obey one contract, each loaded by its real loading code; and what cannot be loaded is named."""

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from visual_sentence import UserError, build_v2l_model
from visual_sentence.codebook import GlobalCodebook
from visual_sentence.encoders import JointEncoder, load_joint_encoder
from visual_sentence.modeling import WordVocabulary

# Adapter -> (width of the joint space, whether texts may be padded to less than the full length)
KINDS = {
    "clip": (12, True),
    "siglip": (16, False),
    "open_clip_file": (12, True),
    "open_clip_folder": (12, True),
    "conse": (16, True),
}
TEXTS = ["cat", "a photo of a cat", "two dogs, a boat and the red moon", "Zebra!"]


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture
def encoder(kind, request) -> JointEncoder:
    return load_joint_encoder(request.getfixturevalue(f"{kind}_reference"))


@pytest.fixture
def mixed_pictures(pictures) -> list[Image.Image]:
    """Pictures of different sizes and modes."""
    wide = Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 90), dtype=np.uint8))
    return [*pictures[:3], wide, pictures[3].resize((70, 33)), pictures[4].convert("CMYK")]


def assert_unit_vectors(embeddings: torch.Tensor, count: int, width: int) -> None:
    assert embeddings.shape == (count, width)
    assert embeddings.dtype == torch.float32 and embeddings.device.type == "cpu"
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(count))


def test_every_adapter_obeys_the_contract(kind, encoder, mixed_pictures, request):
    width, allows_short_batches = KINDS[kind]
    assert encoder.name == request.getfixturevalue(f"{kind}_reference")
    assert encoder.embedding_dim == width
    assert encoder.allows_short_batches is allows_short_batches

    images, texts = encoder.encode_images(mixed_pictures), encoder.encode_texts(TEXTS)
    assert_unit_vectors(images, len(mixed_pictures), width)
    assert_unit_vectors(texts, len(TEXTS), width)
    # the weights are wide enough that a mix-up could not pass unnoticed
    assert torch.pdist(images).min() > 1e-3 and torch.pdist(texts).min() > 1e-3

    assert torch.equal(encoder.encode_images(mixed_pictures), images)
    assert torch.equal(encoder.encode_texts(TEXTS), texts)

    alone = torch.cat([encoder.encode_images([picture]) for picture in mixed_pictures])
    torch.testing.assert_close(alone, images, atol=1e-5, rtol=0)
    alone = torch.cat([encoder.encode_texts([text]) for text in TEXTS])
    torch.testing.assert_close(alone, texts, atol=1e-5, rtol=0)


def test_token_ids_of_mixed_lengths_equal_each_alone(encoder):
    batch = encoder.tokenize(TEXTS)
    assert len({len(ids) for ids in batch}) > 2
    together = encoder.encode_token_ids(batch)
    alone = torch.cat([encoder.encode_token_ids([ids]) for ids in batch])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=0)
    torch.testing.assert_close(together, encoder.encode_texts(TEXTS), atol=1e-5, rtol=0)


def test_long_texts_are_cut(encoder):
    (ids,) = encoder.tokenize(["cat boat " * 60])
    assert len(ids) == encoder.text_length
    assert torch.isfinite(encoder.encode_token_ids([ids])).all()


def test_whole_words_are_single_entries(encoder):
    texts = ["cat", "cat boat", "xqzvw", "cat xqzvw", "the red moon"]
    assert encoder.whole_words(texts) == [True, True, False, False, True]
    assert encoder.whole_words([]) == []


def test_the_model_built_from_it_embeds_images_alike(kind, encoder, mixed_pictures, tmp_path):
    width = KINDS[kind][0]
    vectors = torch.nn.functional.normalize(torch.randn(3, width), dim=-1)
    words = (["cat", "dog", "sky"], [[1], [2], [3]], ["subword"] * 3, [0, 1, 2])
    model = build_v2l_model(encoder, GlobalCodebook(*words, vectors, torch.zeros(width), {"language_model": "tiny"}))
    views = encoder.image_processor(mixed_pictures, return_tensors="pt", do_local_view=False)
    expected = encoder.encode_images(mixed_pictures)
    torch.testing.assert_close(model.encode(**views).image_embeds, expected, atol=1e-6, rtol=0)
    # and so does what comes back from the folder
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    torch.testing.assert_close(loaded.encode(**views).image_embeds, expected, atol=1e-6, rtol=0)
    assert isinstance(loaded.vocabulary, WordVocabulary) and loaded.config.encoder_type == encoder.encoder_type


@pytest.mark.parametrize("kind", ["clip", "siglip"], indirect=True)
def test_transformers_texts_are_embedded_as_by_the_model_itself(encoder, request, kind):
    folder = request.getfixturevalue(f"{kind}_reference")
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(TEXTS, padding="max_length", max_length=20, truncation=True, return_tensors="pt")
    assert ("attention_mask" in inputs) is (kind == "clip")
    with torch.no_grad():
        expected = torch.nn.functional.normalize(model.get_text_features(**inputs).pooler_output, dim=-1)
    torch.testing.assert_close(encoder.encode_texts(TEXTS), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["open_clip_file"], indirect=True)
def test_open_clip_embeds_as_by_itself(encoder, open_clip_weights, pictures):
    architecture = encoder.name.removeprefix("open_clip:").partition("@")[0]
    model, _, transform = open_clip.create_model_and_transforms(architecture, pretrained=str(open_clip_weights))
    model.eval()
    with torch.no_grad():
        texts = model.encode_text(open_clip.get_tokenizer(architecture)(TEXTS), normalize=True)
        images = model.encode_image(torch.stack([transform(picture) for picture in pictures]), normalize=True)
    torch.testing.assert_close(encoder.encode_texts(TEXTS), texts, atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder.encode_images(pictures), images, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["open_clip_folder"], indirect=True)
def test_open_clip_folder_brings_its_own_view(encoder):
    view = encoder.image_processor
    assert (view.global_size, view.global_crop, view.global_resample) == (32, False, 2)
    assert (view.global_mean, view.global_std) == ([0.5] * 3, [0.25] * 3)


@pytest.mark.parametrize("kind", ["clip"], indirect=True)
def test_transformers_view_is_that_of_the_saved_image_processor(encoder):
    view = encoder.image_processor
    assert (view.global_size, view.global_resize, view.global_crop) == (32, 36, True)


@pytest.mark.parametrize("kind", ["conse"], indirect=True)
def test_conse_takes_the_words_of_its_labels_for_whole(encoder):
    assert encoder.whole_words(["motorcycle", "Motorcycle", "motorcycles"]) == [True, True, False]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("open_clip:no-such-tower@openai", "open_clip has no architecture 'no-such-tower'.*list_models"),
        ("open_clip:ViT-B-32", "names no weights, so its embeddings would be random.*ViT-B-32@TAG"),
        ("open_clip:ViT-B-32@", "names no weights"),
        ("open_clip:ViT-B-32@no-such-tag", "'no-such-tag' is neither a file nor one of open_clip's tags.*openai"),
        ("open_clip:local-dir:/nowhere/at/all", "cannot be loaded by open_clip.*/nowhere/at/all"),
        ("/nowhere/at/all", "/nowhere/at/all: found nothing there"),
        ("no-such/model", "no-such/model is neither a local folder nor a model that the Hub gave.*network"),
    ],
)
def test_what_cannot_be_loaded_is_named(reference, message):
    with pytest.raises(UserError, match=message):
        load_joint_encoder(reference)


@pytest.mark.parametrize("name", ["garbage.safetensors", "garbage.pt"])
def test_damaged_open_clip_weights_are_named(name, open_clip_file_reference, tmp_path):
    path, architecture = tmp_path / name, open_clip_file_reference.partition("@")[0]
    path.write_bytes(b"these are no weights")
    with pytest.raises(UserError, match=f"{name} cannot be loaded by open_clip.*check the weights"):
        load_joint_encoder(f"{architecture}@{path}")


def test_open_clip_weights_of_another_architecture_are_refused(open_clip_weights):
    with pytest.raises(UserError, match="cannot be loaded by open_clip"):
        load_joint_encoder(f"open_clip:ViT-B-32@{open_clip_weights}")


def test_a_model_without_a_joint_space_is_refused(tmp_path):
    config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is a bert model, which does not embed images and texts in one space"):
        load_joint_encoder(str(tmp_path))


def test_damaged_transformers_weights_are_named(clip_reference, tmp_path):
    for file in Path(clip_reference).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="is a folder, but not a model that can be loaded"):
        load_joint_encoder(str(tmp_path))


def test_the_weights_file_is_what_was_loaded(open_clip_file_reference, open_clip_weights):
    state = load_file(open_clip_weights)
    loaded = load_joint_encoder(open_clip_file_reference).model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
