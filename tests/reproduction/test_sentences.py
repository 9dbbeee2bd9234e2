"""The models of SimLVM's table: what they are trained on, and a language model over another tokenizer's tokens."""

import re
from copy import deepcopy

import numpy as np
import pytest
import torch

from visual_sentence.data.shards import write_shards
from visual_sentence.data.token_rows import TokenRow
from visual_sentence.data.tokenizing import token_header
from visual_sentence.modeling import (
    SimLVMConfig,
    SimLVMForVisualSentence,
    SimLVMProcessor,
    VQGANConfig,
    VQGANImageProcessor,
    VQGANModel,
)
from visual_sentence.reproduction import sentences
from visual_sentence.reproduction.budgets import BUDGETS, Data
from visual_sentence.reproduction.sentences import SentenceModels, token_counts, with_tokenizer
from visual_sentence.reproduction.workspace import Workspace

K, FEWER = 32, 12
VQGAN = {
    "image_size": 16,
    "codebook_dim": 8,
    "block_out_channels": [8, 8, 8],
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 4,
}
TEXT = {"vocab_size": 40, "hidden_size": 16, "num_attention_heads": 2, "max_position_embeddings": 160}
TEXTS = {
    "llama": {"model_type": "llama", "intermediate_size": 24, "num_hidden_layers": 1, **TEXT},
    "visual_gru": {"model_type": "visual_gru", "num_gru_layers": 1, "num_attention_layers": 1, **TEXT},
}
KINDS = {
    "llama": {},
    "visual_gru": {"text": "visual_gru"},
    "codebook": {"embedding": "codebook"},
    "aligned": {"aligned_tokens": True},
    "shipped": {"grid_positions": True, "aligned_tokens": True, "aligned_layers": 2, "aligned_width": 8},
}


@pytest.fixture(params=KINDS)
def model(request) -> SimLVMForVisualSentence:
    """A tiny SimLVM of K codes; every tensor is random."""
    options = dict(KINDS[request.param])
    torch.manual_seed(0)
    text, vqgan = TEXTS[options.pop("text", "llama")], {**VQGAN, "codebook_size": K}
    made = SimLVMForVisualSentence(SimLVMConfig(vq_config=vqgan, text_config=text, max_images=8, **options)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.3)
    made.take_codes()
    return made


@pytest.fixture
def smaller() -> VQGANModel:
    """Another tokenizer, of fewer codes."""
    torch.manual_seed(1)
    made = VQGANModel(VQGANConfig(**VQGAN, codebook_size=FEWER)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.3)
    return made


@pytest.fixture
def make_models(tmp_path):
    """The models of a budget, with some data."""

    def make(*data: str, budget: str = "smoke") -> SentenceModels:
        return SentenceModels(Workspace(tmp_path / "output", lambda line: None), Data(data), BUDGETS[budget].sizes)

    return make


def test_pictures_are_written_with_the_other_tokenizers_codes(model, smaller):
    other, pixels = with_tokenizer(model, smaller), torch.rand(3, 3, 16, 16) * 2 - 1
    assert torch.equal(other.tokenize(pixels), smaller.encode(pixels).image_tokens.flatten(1))
    tokens = torch.randint(0, FEWER, (2, 16))
    assert torch.equal(other.draw(tokens), smaller.decode(tokens.view(2, 4, 4)))
    assert torch.equal(other.image_codes(), smaller.quantizer.codebook)


def test_the_language_model_stays_as_it_is(model, smaller):
    before, after = (one.language_model.state_dict() for one in (model, with_tokenizer(model, smaller)))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        if name.endswith("embed_tokens.codes"):
            assert torch.equal(after[name], smaller.quantizer.codebook)
        else:
            assert torch.equal(after[name], tensor), name


def test_what_looks_one_image_back_keeps_the_rows_of_the_tokens_that_there_are(model, smaller):
    other = with_tokenizer(model, smaller)
    if model.aligned_embedding is None:
        assert other.aligned_embedding is None
        return
    before, after = model.aligned_embedding.state_dict(), other.aligned_embedding.state_dict()
    for name, tensor in before.items():
        if name == "codes":
            assert torch.equal(after[name], smaller.quantizer.codebook)
        elif name in ("weight", "embedding.weight"):
            assert torch.equal(after[name], tensor[:FEWER])
        else:
            assert torch.equal(after[name], tensor), name


def test_the_model_and_the_tokenizer_that_are_joined_stay_as_they_were(model, smaller):
    kept = [deepcopy(one.state_dict()) for one in (model, smaller)]
    with_tokenizer(model, smaller)
    for one, state in zip((model, smaller), kept, strict=True):
        assert all(torch.equal(tensor, state[name]) for name, tensor in one.state_dict().items())
    assert model.config.codebook_size == K


def test_a_sentence_is_completed_with_tokens_that_can_be_drawn(model, smaller, pictures):
    other = with_tokenizer(model, smaller)
    processor = SimLVMProcessor(VQGANImageProcessor(local_size=16, local_fit="stretch"), 16, 8)
    answer = other.complete(**processor(pairs=[tuple(pictures[:2])], query=pictures[2])).image_tokens
    assert answer.numel() == 16 and int(answer.min()) >= 0 and int(answer.max()) < FEWER
    assert other.draw(answer[:, 0]).shape == (1, 3, 16, 16)


def test_tokens_are_counted_over_all_shards(smaller, tmp_path):
    generator = np.random.default_rng(0)
    rows = [
        TokenRow(generator.integers(0, FEWER - 2, 32), "edges", "", f"edges-{place}", "pair", place)
        for place in range(7)
    ]
    write_shards(tmp_path / "shards", token_header(smaller), rows, shard_rows=3)
    counts = token_counts(tmp_path / "shards", smaller)
    assert len(list((tmp_path / "shards").glob("*.parquet"))) == 3
    every = np.concatenate([row.tokens for row in rows])
    assert counts.tolist() == [int((every == token).sum()) for token in range(FEWER)]
    assert counts.sum() == 7 * 32 and counts[-2:].tolist() == [0, 0]


def test_without_streets_only_drawn_shapes_are_trained_on(make_models):
    models = make_models()
    assert models.road is None and list(models.tasks) == ["shapes"]


def test_streets_are_trained_on_where_they_are_given(make_models):
    models = make_models("road-train=streets.parquet", "road-test=others.parquet")
    assert models.road == ("streets.parquet", "others.parquet")
    assert models.tasks["road"].startswith("segmentation:streets.parquet[:8]?foreground=3&draws=1&")


@pytest.mark.parametrize("one", ["road-train", "road-test"])
def test_streets_that_are_not_measured_too_are_not_trained_on(make_models, one):
    models = make_models(f"{one}=streets.parquet")
    assert models.road is None and list(models.tasks) == ["shapes"]


def test_settings_hang_on_which_streets_they_are_and_not_on_where_they_lie(make_models, tmp_path):
    contents = {"here.parquet": b"streets", "there.parquet": b"streets", "others.parquet": b"roads!!"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    here, there, others = (make_models(f"road-train={tmp_path / name}", "road-test=x").described for name in contents)
    assert here == there != others and str(tmp_path) not in here["tasks"]["road"]
    assert re.match(r"segmentation:road-train-[0-9a-f]{10}\[:8\]\?", here["tasks"]["road"])
    assert here != make_models().described


@pytest.mark.parametrize("budget", BUDGETS)
def test_no_shape_is_trained_on_and_measured(make_models, budget):
    end = int(make_models(budget=budget).tasks["shapes"].partition(":")[2].partition(":")[2].rstrip("]"))
    assert 0 < end <= sentences.MEASURED_SHAPES


def test_the_larger_language_model_is_about_three_times_as_large():
    def size(name: str) -> int:
        fields = sentences.LANGUAGE_MODELS[name]
        width = fields["hidden_size"]
        return fields["num_hidden_layers"] * (4 * width**2 + 3 * width * fields["intermediate_size"])

    assert 2.5 < size("1b") / size("300m") < 4
