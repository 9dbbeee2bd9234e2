import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from visual_sentence.codebook import RECIPES, CodebookRecipe, GlobalCodebook, build_codebook
from visual_sentence.errors import UserError


@pytest.fixture
def build(language_model, tokenizer, encoder, images, tmp_path):
    def build(recipe, name="out", **changes):
        arguments = {
            "language_model": language_model,
            "tokenizer": tokenizer,
            "encoder": encoder,
            "images": images,
            "output_dir": tmp_path / name,
            "llm_name": "tiny-llama",
            "images_name": "noise",
        }
        return build_codebook(recipe, **{**arguments, **changes})

    return build


def test_presets_differ_as_documented():
    assert RECIPES["paper"] == CodebookRecipe()
    assert RECIPES["published-code"] == replace(RECIPES["paper"], min_count=101)
    assert CodebookRecipe.preset("offline").ngrams == 1
    with pytest.raises(UserError, match="published-code"):
        CodebookRecipe.preset("papre")


@pytest.mark.parametrize("field", ["ngrams", "continuations", "top_per_image", "min_count"])
def test_senseless_values_are_refused(field):
    with pytest.raises(UserError, match=field):
        CodebookRecipe(**{field: 0})


def test_paper_recipe_end_to_end(build, encoder, images):
    codebook = build(replace(RECIPES["paper"], templates="photo"))
    counts = codebook.provenance["counts"]
    assert set(counts["expanded"]) == {"subword", "bigram", "trigram"}
    assert sum(counts["kept"].values()) == len(codebook) < sum(counts["candidates"].values())
    assert len(set(codebook.words)) == len(codebook.words)
    assert codebook.provenance["number_of_images"] == len(images)
    prompts = [f"a photo of {word}." for word in codebook.words]
    expected = encoder.encode_token_ids(encoder.tokenize(prompts))
    assert torch.allclose(codebook.embeddings, expected, atol=1e-5)
    assert not codebook.image_center.any()


def test_top_five_cosine_rises_with_ngrams(build, encoder, images):
    features = F.normalize(encoder.encode_images(images), dim=-1)
    means = []
    for ngrams in (1, 2, 3):
        recipe = CodebookRecipe(ngrams=ngrams, templates="plain")
        # Every image's own top five are kept, so that they are those of the unfiltered pool.
        codebook = build(recipe, name=str(ngrams))
        means.append(float((features @ codebook.embeddings.T).topk(5).values.mean()))
    assert means == sorted(means) and means[0] < means[2]


def test_offline_recipe_needs_no_language_model(build, encoder, images):
    codebook = build(RECIPES["offline"], language_model=None)
    assert set(codebook.kinds) == {"subword"}
    assert all(word.lower() in encoder.whole for word in codebook.words)
    assert torch.allclose(codebook.embeddings.norm(dim=-1), torch.ones(len(codebook)), atol=1e-5)
    assert torch.allclose(codebook.image_center, encoder.encode_images(images).mean(0), atol=1e-3)


def test_rerun_does_no_encoding_and_gives_the_same(build, encoder):
    first = build(RECIPES["offline"])
    encoder.encoded.clear()
    encoder.images_seen = 0
    second = build(RECIPES["offline"])
    assert second.words == first.words and torch.equal(second.embeddings, first.embeddings)
    assert not encoder.encoded and not encoder.images_seen


def test_min_count_that_leaves_nothing(build):
    with pytest.raises(UserError, match="largest count"):
        build(replace(RECIPES["offline"], min_count=1000))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_save_and_load(build, tmp_path, dtype):
    built = build(RECIPES["offline"], dtype=dtype)
    loaded = GlobalCodebook.load(tmp_path / "out")
    for field in ("words", "token_ids", "kinds", "groups", "provenance"):
        assert getattr(loaded, field) == getattr(built, field)
    assert loaded.embeddings.dtype == torch.float32
    assert torch.equal(loaded.embeddings, built.embeddings)
    loaded.save(tmp_path / "copy", dtype)
    assert (tmp_path / "copy" / "codebook.json").read_text() == (tmp_path / "out" / "codebook.json").read_text()


def test_changed_files_are_refused(build, tmp_path):
    codebook = build(RECIPES["offline"])
    replace(codebook, embeddings=codebook.embeddings + 0.1).save(tmp_path / "other")
    words_file = tmp_path / "out" / "codebook.json"
    text = words_file.read_text()
    content = json.loads(text)
    content["entries"][0][0] += "s"
    words_file.write_text(json.dumps(content))
    with pytest.raises(UserError, match="words do not match"):
        GlobalCodebook.load(tmp_path / "out")
    words_file.write_text(text)
    (tmp_path / "other" / "codebook.safetensors").replace(tmp_path / "out" / "codebook.safetensors")
    with pytest.raises(UserError, match="embeddings do not match"):
        GlobalCodebook.load(tmp_path / "out")
    words_file.write_text("{")
    with pytest.raises(UserError, match="as it was saved"):
        GlobalCodebook.load(tmp_path / "out")
    words_file.unlink()
    with pytest.raises(UserError, match=r"no codebook\.json"):
        GlobalCodebook.load(tmp_path / "out")


def test_parts_of_different_length_are_refused(build):
    codebook = build(RECIPES["offline"])
    with pytest.raises(UserError, match="one length"):
        replace(codebook, words=codebook.words[1:])
