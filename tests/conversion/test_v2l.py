"""The published V2L Tokenizer: the same words, tokens and images as the source, every tensor accounted for."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    PreTrainedTokenizerFast,
)

from visual_sentence.conversion import Options, convert_checkpoint
from visual_sentence.errors import UserError

SIZE = 16
FOR_TRAINING = {
    "discriminator.main.0.weight": torch.ones(4, 3, 4, 4),
    "discriminator.main.3.num_batches_tracked": torch.tensor(7),
    "perceptual_loss.scaling_layer.shift": torch.ones(1, 3, 1, 1),
}


@pytest.fixture
def write(source_v2l, tmp_path):
    """Writes the source's tensors as its training script does, some of them changed, added (or, None, taken away)."""

    def written(tuning_codebook: int = 0, **changes) -> Path:
        state = {**source_v2l.state, **FOR_TRAINING, **changes}
        state = {name: tensor for name, tensor in state.items() if tensor is not None}
        args = argparse.Namespace(tuning_codebook=tuning_codebook, lr=4.5e-4)
        torch.save({"model": state, "epoch": 99, "args": args}, tmp_path / "checkpoint-last.pth")
        return tmp_path / "checkpoint-last.pth"

    return written


@pytest.fixture
def make_clip(llm_folder, tmp_path):
    """Saves a CLIP of random weights as joint encoders are loaded from; its joint space has that width."""

    def make(width: int) -> Path:
        folder = tmp_path / f"clip-{width}"
        sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        ids = {"bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 0}
        config = CLIPConfig(
            text_config={**sizes, **ids, "vocab_size": 300, "max_position_embeddings": 16},
            vision_config={**sizes, "image_size": 32, "patch_size": 16},
            projection_dim=width,
        )
        CLIPModel(config).save_pretrained(folder)
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
        PreTrainedTokenizerFast.from_pretrained(llm_folder).save_pretrained(folder)
        return folder

    return make


def without_tower(state) -> dict[str, None]:
    return {name: None for name in state if name.startswith("global_encoder.")}


def converted(path: Path, **options) -> tuple[torch.nn.Module, dict]:
    output = path.parent / "out"
    report = convert_checkpoint(str(path), "v2l", output, Options(**{"image_size": SIZE, **options}))
    return AutoModel.from_pretrained(output).eval(), report


def assert_same_images(model, source, pixel_values) -> None:
    local_tokens = source.local_tokens(pixel_values)
    global_tokens = torch.tensor([[4, 0, 7], [2, 29, 5]])
    assert local_tokens.unique().numel() > 3
    assert torch.equal(model.encode(pixel_values).local_tokens, local_tokens)
    image = source.image(local_tokens, global_tokens)
    assert torch.allclose(model.decode(local_tokens, global_tokens), image, atol=1e-4)
    # the words do change the image
    assert not torch.allclose(source.image(local_tokens, global_tokens.flip(0)), image, atol=1e-2)


def test_the_whole_model(write, source_v2l, pixel_values):
    model, report = converted(write())
    assert_same_images(model, source_v2l, pixel_values)
    views = torch.randn(3, 3, SIZE, SIZE)
    found = model.encode(global_pixel_values=views, num_global_tokens=4).global_tokens
    assert torch.equal(found, source_v2l.global_tokens(views, 4))
    assert found.unique().numel() > 4
    assert set(report["used"].values()) == set(source_v2l.state)
    assert set(report["left_out"]) == set(FOR_TRAINING)


def test_the_whole_way_of_an_image(write, source_v2l, pixel_values):
    model, _ = converted(write())
    views = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        output = model(pixel_values, views, num_global_tokens=3)
    expected = source_v2l.image(source_v2l.local_tokens(pixel_values), source_v2l.global_tokens(views, 3))
    assert torch.allclose(output.pixel_values, expected, atol=1e-4)
    assert output.loss > 0


def test_the_config_says_how_the_source_was_trained(write):
    model, report = converted(write())
    config = model.config
    assert (config.cross_attention, config.reconstruction_loss) == ("published-code", "l1")
    assert (config.codebook_loss_weight, config.commitment_loss_weight) == (0.33, 1.0)
    assert not config.local_codebook_trainable
    assert not isinstance(model.local_quantizer.codebook, torch.nn.Parameter)
    assert report["source_config"] == {"tuning_codebook": 0}


def test_a_codebook_of_its_own_is_compared_with_latents_as_they_are(write, source_v2l, pixel_values):
    projection = {name: None for name in source_v2l.state if name.startswith("codebook_projection.")}
    model, _ = converted(write(tuning_codebook=-1, **projection))
    assert not model.config.normalize_latents
    assert model.local_quantizer.projector is None
    assert isinstance(model.local_quantizer.codebook, torch.nn.Parameter)
    latents = model.encode(pixel_values).latents
    assert latents.norm(dim=1).std() > 0.1


def test_without_image_tower(write, source_v2l, pixel_values):
    model, report = converted(write(), local_only=True)
    assert model.image_tower is None
    assert_same_images(model, source_v2l, pixel_values)
    towers = {name for name in source_v2l.state if name.startswith("global_encoder.")}
    assert set(report["left_out"]) == towers | set(FOR_TRAINING)
    views = AutoImageProcessor.from_pretrained(write().parent / "out")(np.zeros((20, 30), np.uint8))
    assert set(views) == {"pixel_values"}


def test_image_tower_of_an_encoder(write, source_v2l, make_clip, pixel_values):
    clip_folder = make_clip(768)
    model, report = converted(write(), encoder=str(clip_folder))
    assert_same_images(model, source_v2l, pixel_values)
    reference = AutoModel.from_pretrained(clip_folder).eval()
    assert torch.equal(model.image_tower.model.visual_projection.weight, reference.visual_projection.weight)
    assert "global_encoder.proj" in report["left_out"]
    assert AutoProcessor.from_pretrained(write().parent / "out").image_processor.global_size == 32


def test_no_image_tower_anywhere(write, source_v2l):
    path = write(**without_tower(source_v2l.state))
    with pytest.raises(UserError, match=r"--encoder .*--local-only"):
        converted(path)


def test_an_encoder_of_another_width(write, make_clip):
    with pytest.raises(UserError, match="16 dimensions, the global codebook has 768"):
        converted(write(), encoder=str(make_clip(16)))


def test_words(write, source_v2l, llm_folder, tmp_path):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(llm_folder)
    words = [f"word {index}" for index in range(30)]
    (tmp_path / "words.json").write_text(json.dumps(words))
    count = len(tokenizer)
    rows = torch.nn.functional.normalize(torch.randn(count, 768), dim=-1)
    path = write(**{"tok_embeddings.weight": rows})
    model, _ = converted(path, language_model=str(llm_folder), global_words=tmp_path / "words.json")
    assert model.config.language_model == str(llm_folder)
    found = model.encode(global_pixel_values=torch.randn(1, 3, SIZE, SIZE), num_global_tokens=2)
    assert found.global_words == [[words[token] for token in row] for row in found.global_tokens.tolist()]
    word, ids = found.global_words[0][0], found.global_token_ids[0][0]
    assert tokenizer.decode(ids).strip() == word
    index = tokenizer.convert_tokens_to_ids("c")
    assert model.local_vocabulary.words[index] == "c"


def test_words_as_an_array_of_texts(write, llm_folder, tmp_path):
    np.save(tmp_path / "words.npy", np.array([f"word {index}" for index in range(30)]))
    count = len(PreTrainedTokenizerFast.from_pretrained(llm_folder))
    path = write(**{"tok_embeddings.weight": torch.randn(count, 768)})
    model, _ = converted(path, language_model=str(llm_folder), global_words=tmp_path / "words.npy")
    assert model.vocabulary.words[7] == "word 7"


class MakesAFile:
    """What a pickle needs to make a file on the machine that opens it."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_words_as_python_objects_are_not_opened(write, llm_folder, tmp_path):
    path = tmp_path / "words.npy"
    np.save(path, np.array([MakesAFile(tmp_path / "code-has-run")], dtype=object), allow_pickle=True)
    count = len(PreTrainedTokenizerFast.from_pretrained(llm_folder))
    source = write(**{"tok_embeddings.weight": torch.randn(count, 768)})
    with pytest.raises(UserError, match=r"Python objects.*JSON list") as error:
        converted(source, language_model=str(llm_folder), global_words=path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "code-has-run").exists()
    np.load(path, allow_pickle=True)
    assert (tmp_path / "code-has-run").exists()  # opened the usual way, it would have run


@pytest.mark.parametrize(
    ("content", "found"),
    [('["one", "two"]', "2 words, the global codebook 30"), ('{"a": 1}', "no list of texts"), ("[", "cannot be read")],
)
def test_words_that_do_not_fit(content, found, write, llm_folder, tmp_path):
    (tmp_path / "words.json").write_text(content)
    count = len(PreTrainedTokenizerFast.from_pretrained(llm_folder))
    path = write(**{"tok_embeddings.weight": torch.randn(count, 768)})
    with pytest.raises(UserError, match=found):
        converted(path, language_model=str(llm_folder), global_words=tmp_path / "words.json")


def test_a_language_model_of_another_size(write, llm_folder):
    path = write(**{"tok_embeddings.weight": torch.randn(50, 768)})
    with pytest.raises(UserError, match="50 entries"):
        converted(path, language_model=str(llm_folder))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"tok_embeddings.weight": None}, "tok_embeddings.weight is missing"),
        ({"tok_embeddings.weight": torch.ones(4)}, r"tok_embeddings.weight has shape \(4,\)"),
        ({"decoder.mid.cross_attn_1.to_k.weight": None}, "decoder.mid.cross_attn_1.to_k.weight"),
        ({"codebook_projection.bias": None}, "codebook_projection.bias"),
        ({"codebook_projection.weight": torch.ones(7, 768)}, r"codebook_projection.weight has shape \(7, 768\)"),
        ({"global_encoder.ln_post.bias": None}, "global_encoder.ln_post.bias"),
        ({"global_encoder.transformer.resblocks.1.attn.in_proj_bias": torch.ones(5)}, "in_proj_bias"),
        ({"something.new": torch.ones(1)}, "something.new"),
        ({"encoder.conv_in.bias": torch.full((32,), float("nan"))}, "encoder.conv_in.bias holds values"),
    ],
    ids=str,
)
def test_tensors_that_do_not_fit(changes, found, write):
    path = write(**changes)
    with pytest.raises(UserError, match=found):
        converted(path)
    assert not (path.parent / "out").exists()


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"local_only": True, "encoder": "somewhere"}, "give one only"),
        ({"global_words": Path("words.json")}, "--llm"),
        ({"config": Path("model.yaml")}, "--config has no meaning"),
    ],
)
def test_options_that_contradict(options, found, write):
    with pytest.raises(UserError, match=found):
        converted(write(), **options)
