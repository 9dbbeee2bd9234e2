"""Models that write pictures from coarse to fine: the first tokens alone, and what takes maps only."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from visual_sentence import UserError
from visual_sentence.image_io import ImageSource
from visual_sentence.modeling import LocalVocabulary, SPAEConfig, SPAEModel, V2LImageProcessor
from visual_sentence.reconstruction import ImageCodec, evaluate_reconstruction, plan_files, reconstruct_files
from visual_sentence.restoration.vocabulary import check_vocabulary

from .conftest import SIZES, WORDS, spread


@pytest.fixture
def pyramid() -> ImageCodec:
    """A SPAE of 16 pixels, layers of 1, 2 and 4: 1, 5 or 21 tokens of 40 words."""
    torch.manual_seed(0)
    config = SPAEConfig(
        **SIZES,
        encoder_type=None,
        latent_channels=8,
        local_codebook_size=40,
        local_embedding_dim=8,
        layer_sizes=[1, 2, 4],
        semantic_layers=1,
        semantic_thresholds=[0.9],
        semantic_weight=0.0,
    )
    model = SPAEModel(config).eval()
    spread(model)
    model.set_local_vocabulary(LocalVocabulary(WORDS, "tiny"))
    return ImageCodec(model, V2LImageProcessor(local_size=16, do_global_view=False), "tiny-spae")


@pytest.fixture
def pictures() -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 255, (16, 16, 3), dtype=np.uint8)) for _ in range(3)]


def test_a_prefix_is_the_beginning_of_all_tokens_and_draws_another_picture(pyramid, pictures):
    whole = pyramid.encode(pictures).image_tokens
    drawn = pyramid.decode(pyramid.encode(pictures))
    assert whole.shape == (3, 1, 21)
    pyramid.take_first(5)
    tokens = pyramid.encode(pictures)
    assert torch.equal(tokens.image_tokens, whole[..., :5])
    assert pyramid.decode(tokens)[0].size == (16, 16)
    assert any(one.tobytes() != other.tobytes() for one, other in zip(pyramid.decode(tokens), drawn, strict=True))


def test_the_evaluation_says_how_many_tokens_were_taken(pyramid, pictures):
    pyramid.take_first(5)
    found = evaluate_reconstruction(
        pyramid, ImageSource("some", 3, lambda: iter(pictures)), perceptual="none", frechet="none"
    )
    assert found["tokens_per_image"] == 5 and found["n"] == 3


def test_files_of_a_pyramid_have_its_words_but_no_map_of_them(pyramid, pictures, tmp_path):
    path = tmp_path / "one.png"
    pictures[0].save(path)
    (row,) = reconstruct_files(pyramid, [path], plan_files([path], tmp_path / "out"))
    assert row["grid"] == [1, 21] and row["words"] is None
    written = json.loads((tmp_path / "out" / "one.tokens.json").read_text())
    assert len(written["words"][0]) == 21 and set(written["words"][0]) <= set(WORDS)
    assert not (tmp_path / "out" / "one.words.png").exists()


def test_a_prefix_that_there_is_not_is_refused(pyramid, vqgan):
    with pytest.raises(UserError, match="can do with 1, 5, 21"):
        pyramid.take_first(7)
    with pytest.raises(UserError, match="needs all of its map"):
        vqgan.take_first(5)


def test_restoration_in_context_refuses_a_pyramid(pyramid):
    with pytest.raises(UserError, match="pyramid of words"):
        check_vocabulary(pyramid, None)
