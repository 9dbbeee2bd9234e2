"""The tokenizers of the V2L tables: given ones are taken, others trained once, each with the codebook that it says."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoTokenizer, RobertaConfig, RobertaForMaskedLM

from visual_sentence.codebook.local import LocalCodebook
from visual_sentence.codebook.vocabulary import vocabulary_entries
from visual_sentence.image_io import open_image_source
from visual_sentence.language import load_language_model
from visual_sentence.modeling import V2LConfig, V2LImageProcessor, V2LModel, V2LProcessor, WordVocabulary
from visual_sentence.reconstruction import load_image_codec
from visual_sentence.reproduction import tokenizers, vocabularies
from visual_sentence.reproduction.tokenizers import RECIPES, local_words, tokenizer, tokenizer_settings
from visual_sentence.reproduction.vocabularies import KINDS, words_model, words_settings
from visual_sentence.reproduction.workspace import NotRunnableError
from visual_sentence.shipped import preset_folder
from visual_sentence.training.models import load_vqgan
from visual_sentence.words import WordFinder

from ..conftest import TOWERS
from .conftest import write_pictures


@pytest.fixture
def nothing_is_trained(monkeypatch):
    """Fails the test as soon as something is to be trained."""
    monkeypatch.setattr(tokenizers, "Trainer", lambda *args: pytest.fail("a model was trained"))


@pytest.fixture
def data(tmp_path) -> tuple[str]:
    """Pictures for a step of training."""
    return (f"train-pictures={write_pictures(tmp_path / 'photographs', tokenizers.BATCH)}",)


@pytest.mark.parametrize("name", RECIPES)
def test_a_given_model_is_taken_as_it_is(name, make_context, nothing_is_trained):
    context = make_context(models={name: "some/model"})
    assert tokenizer(context, name) == "some/model"
    assert tokenizer_settings(context, name) == {"model": "some/model"}


@pytest.mark.parametrize("name", RECIPES)
def test_a_budget_that_trains_nothing_names_the_script_and_the_option(name, make_context, nothing_is_trained):
    script = "scripts/train_vqgan.py" if name == "vqgan" else "scripts/train_v2l.py"
    with pytest.raises(NotRunnableError, match=rf"{script} --preset paper, then --models {name}=FOLDER"):
        tokenizer(make_context("full"), name)


@pytest.mark.parametrize("name", RECIPES)
def test_without_pictures_nothing_is_trained(name, make_context, nothing_is_trained):
    with pytest.raises(NotRunnableError, match="--data train-pictures=REFERENCE"):
        tokenizer(make_context(), name)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_begins_with_a_preset_of_the_same_side_and_map(name):
    fields = dict(field.split("=") for field in RECIPES[name].fields)
    config = AutoConfig.from_pretrained(preset_folder(RECIPES[name].config))
    widths = fields.get("block_out_channels", str(list(config.block_out_channels))).count(",") + 1
    patch = int(fields.get("patch_size", config.patch_size))
    assert int(fields.get("image_size", config.image_size)) == tokenizers.SIDE
    assert tokenizers.SIDE // (patch * 2 ** (widths - 1)) == 8
    assert all(hasattr(config, field) for field in fields)


def test_every_recipe_has_another_model():
    found = {
        (recipe.config, tuple(recipe.fields), recipe.words, recipe.moved, recipe.masked_lm)
        for recipe in RECIPES.values()
    }
    assert len(found) == len(RECIPES)


@pytest.mark.parametrize("change", [{"tokenizer_steps": 9}, {"train_slice": "[:3]"}, {"models": {"llm": "another"}}])
def test_settings_hold_what_a_tokenizer_depends_on(change, make_context):
    assert tokenizer_settings(make_context(**change), "v2l") != tokenizer_settings(make_context(), "v2l")


def test_settings_of_a_budgets_own_models_do_not_change_with_new_kinds_of_models(make_context):
    """What was trained before the joint encoder was one of the settings is still found."""
    assert "encoder" not in tokenizer_settings(make_context(), "text")
    assert tokenizer_settings(make_context(models={"encoder": "another"}), "text")["encoder"] == "another"


def test_local_words_are_the_first_entries_of_the_language_model(make_context, llm_folder, monkeypatch):
    monkeypatch.setattr(tokenizers, "VOCABULARY", 50)
    context = make_context(models={"llm": str(llm_folder)})
    found = local_words(context, "llm")
    language_model = load_language_model(str(llm_folder), "float32", "cpu")
    table = language_model.model.get_input_embeddings().weight.detach()
    assert isinstance(found, LocalCodebook) and len(found.vocabulary.words) == 50
    assert torch.equal(torch.as_tensor(found.embeddings), table[:50])
    (folder,) = (context.workspace.folder / "made").iterdir()
    assert folder.name.startswith("words-llm-")


def test_local_words_are_embedded_on_the_runs_device(make_context, monkeypatch):
    def build(kind: str, *args: object, device: str | None = None, **options: object) -> None:
        raise RuntimeError(f"{kind} on {device}")

    monkeypatch.setattr(tokenizers, "build_local_codebook", build)
    with pytest.raises(RuntimeError, match=r"^text on cpu$"):
        local_words(make_context(), "text")


def test_settings_name_the_models_that_stand_in_for_the_budgets(make_context):
    for name, recipe in RECIPES.items():
        plain = tokenizer_settings(make_context(), name)
        given = {"words": recipe.guided, "masked-lm": recipe.masked_lm, "encoder": recipe.words == "text"}
        for model, matters in given.items():
            found = tokenizer_settings(make_context(models={model: "another"}), name)
            assert found == ({**plain, model: "another"} if matters else plain), (name, model)


class Stopped:
    """In place of a training that a signal ended; counts those that were begun."""

    begun = 0

    def __init__(self, *args: object):
        type(self).begun += 1

    def train(self) -> SimpleNamespace:
        return SimpleNamespace(stopped_by="SIGINT")


def test_a_training_that_a_signal_ended_ends_the_run_and_is_not_taken_for_finished(make_context, data, monkeypatch):
    monkeypatch.setattr(tokenizers, "Trainer", Stopped)
    monkeypatch.setattr(Stopped, "begun", 0)
    context = make_context(data=data, train_slice="")
    for begun in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            tokenizer(context, "vqgan")
        assert Stopped.begun == begun
    assert not list(context.workspace.folder.rglob("done.json"))


SMALLER = ("block_out_channels=[16,32]", "latent_channels=8", "mid_block_attention=false")
# For each kind of recipe: entries of its codebook, their width, tokens, whether it has an image tower.
TRAINED = {
    "vqgan": (8192, 16, 64, False),
    "vqgan-llm": (50, 32, 64, False),
    "text": (50, 12, 64, False),
    "v2l-hybrid": (50, 12, 64, True),
    "spae": (50, 12, 277, True),
    "lqae": (302, 12, 64, False),
}


@pytest.fixture(scope="module")
def masked_lm_folder(tmp_path_factory, llm_folder) -> str:
    """A masked language model of random weights."""
    folder = tmp_path_factory.mktemp("masked-lm")
    words = AutoTokenizer.from_pretrained(llm_folder)
    words.add_special_tokens({"mask_token": "<mask>", "pad_token": "<pad>"})
    layers = {"hidden_size": 12, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    ids = {"pad_token_id": words.pad_token_id, "bos_token_id": 0, "eos_token_id": 0}
    config = RobertaConfig(vocab_size=len(words), max_position_embeddings=600, **layers, **ids)
    RobertaForMaskedLM(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def words_folder(tmp_path_factory, llm_folder) -> str:
    """A V2L model with an image tower and global words of the language model in `llm_folder`."""
    folder = tmp_path_factory.mktemp("words")
    encoder_type, tower = TOWERS["clip"]
    torch.manual_seed(0)
    model = V2LModel(V2LConfig(encoder_type, {**tower, "projection_dim": 12}, embedding_dim=12, num_words=6))
    words = WordVocabulary(
        [f"word{place}" for place in range(6)],
        [[place] for place in range(6)],
        ["subword"] * 6,
        [*range(6)],
        {"language_model": str(llm_folder)},
    )
    model.load_codebook(torch.nn.functional.normalize(torch.randn(6, 12)), torch.zeros(12), words)
    model.save_pretrained(folder)
    V2LProcessor(V2LImageProcessor(global_size=32)).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def training(make_context, data, llm_folder, clip_folder, words_folder, masked_lm_folder, monkeypatch, tmp_path):
    """A context for trainings of small tokenizers, of two steps, with tiny models for their words; in any folder."""
    monkeypatch.setattr(tokenizers, "VOCABULARY", 50)
    for name, recipe in RECIPES.items():
        monkeypatch.setitem(RECIPES, name, replace(recipe, fields=(*recipe.fields, *SMALLER)))
    models = {"llm": str(llm_folder), "encoder": clip_folder, "words": words_folder, "masked-lm": masked_lm_folder}

    def make(place: str):
        context = make_context(data=data, models=models, tokenizer_steps=2, train_slice="")
        context.workspace.folder = tmp_path / place
        return context

    return make


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_every_kind_of_recipe_trains_once_and_a_seed_gives_the_same_tokens(name, training, data, monkeypatch):
    pictures, found = list(open_image_source(data[0].partition("=")[2])), []
    for place in ("one", "other"):
        torch.rand(len(found) + 1)  # the random start hangs on the seed alone
        folder = Path(tokenizer(training(place), name))
        report = json.loads((folder.parent / "training.json").read_text())
        assert (report["stopped_by"], report["steps"]) == ("steps", 2) and "loss" in report["terms"]
        assert all(math.isfinite(term) for term in report["terms"].values())
        codec = load_image_codec(str(folder), "cpu")
        found.append(np.stack([np.ravel(one.image_tokens) for one in codec.reconstruct(pictures)]))
    entries, width, tokens, has_tower = TRAINED[name]
    assert np.array_equal(*found) and found[0].shape == (len(pictures), tokens)
    assert found[0].min() >= 0 and found[0].max() < codec.codebook_size == entries
    quantizer = codec.model.quantizer if name == "vqgan" else codec.model.local_quantizer
    assert quantizer.codebook.shape == (entries, width) and codec.resolution == tokenizers.SIDE
    assert (getattr(codec.model.config, "encoder_type", None) is not None) is has_tower
    monkeypatch.setattr(tokenizers, "Trainer", lambda *args: pytest.fail("a model was trained twice"))
    assert tokenizer(training("other"), name) == str(folder)


@pytest.fixture
def expanding(make_context, data, llm_folder, clip_folder):
    """A context whose language model and joint encoder are tiny: an entry in four is expanded."""
    models = {"llm": str(llm_folder), "encoder": clip_folder}
    return make_context(data=data, models=models, candidates=4, train_slice="[:4]")


def test_vocabularies_grow_by_kind(expanding):
    folders = [words_model(expanding, kind) for kind in KINDS]
    finders = [WordFinder.load(str(folder), "cpu") for folder in folders]
    kinds = [set(finder.model.vocabulary.kinds) for finder in finders]
    assert kinds[0] == {"subword"} and kinds[1] <= {"subword", "bigram"} and kinds[2] <= set(KINDS)
    assert "bigram" in kinds[1] and "trigram" in kinds[2]
    for finder in finders:
        assert finder.model.vocabulary.words and len(finder.model.global_quantizer.codebook) == len(
            finder.model.vocabulary.words
        )


def test_the_three_vocabularies_are_made_in_one_piece(expanding, monkeypatch):
    first = words_model(expanding, "trigram")
    monkeypatch.setattr(vocabularies, "load_language_model", lambda *args, **kwargs: pytest.fail("made again"))
    assert words_model(expanding, "subword").parent == words_model(expanding, "bigram").parent == first.parent
    assert len(list((expanding.workspace.folder / "made").iterdir())) == 1


def test_only_words_that_are_near_to_some_picture_are_kept(expanding, llm_folder):
    finder = WordFinder.load(str(words_model(expanding, "subword")), "cpu")
    entries = vocabulary_entries(AutoTokenizer.from_pretrained(llm_folder))[::4]
    of_pictures = vocabularies.TOP_PER_IMAGE * 4
    assert vocabularies.TOP_PER_IMAGE <= len(finder.model.vocabulary.words) <= of_pictures < len(entries)
    assert set(finder.model.vocabulary.words) <= {entry.text for entry in entries}


@pytest.mark.parametrize(
    "change", [{"candidates": 9}, {"train_slice": "[:2]"}, {"models": {"llm": "x"}}, {"models": {"encoder": "x"}}]
)
def test_settings_hold_what_vocabularies_depend_on(change, make_context):
    assert words_settings(make_context(**change)) != words_settings(make_context())


def test_vocabularies_without_pictures_or_models_say_what_they_need(make_context, data):
    with pytest.raises(NotRunnableError, match="--data train-pictures=REFERENCE"):
        words_model(make_context(), "bigram")
    context = make_context(data=data)
    context.models.pop("encoder")
    with pytest.raises(NotRunnableError, match=r"^needs --models encoder=REFERENCE$"):
        words_model(context, "bigram")


def test_the_preset_of_learned_codes_takes_the_tables_fields():
    model, processor = load_vqgan(str(preset_folder(RECIPES["vqgan"].config)), None, RECIPES["vqgan"].fields)
    assert model.config.codebook_size == 8192 and processor.local_size == tokenizers.SIDE
