"""The tokenizers of the V2L tables: given ones are taken, others trained once, each with the codebook that it says."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoTokenizer

from visual_sentence.codebook.local import LocalCodebook
from visual_sentence.codebook.vocabulary import vocabulary_entries
from visual_sentence.language import load_language_model
from visual_sentence.modeling import LocalVocabulary
from visual_sentence.reproduction import tokenizers, vocabularies
from visual_sentence.reproduction.tokenizers import RECIPES, local_words, tokenizer, tokenizer_settings
from visual_sentence.reproduction.vocabularies import KINDS, words_model, words_settings
from visual_sentence.reproduction.workspace import NotRunnableError
from visual_sentence.shipped import preset_folder
from visual_sentence.training.models import load_vqgan
from visual_sentence.words import WordFinder

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


@pytest.mark.slow
def test_a_tokenizer_is_trained_once(make_context, data, llm_folder, monkeypatch):
    monkeypatch.setattr(tokenizers, "VOCABULARY", 50)
    context = make_context(data=data, models={"llm": str(llm_folder)}, tokenizer_steps=2, train_slice="")
    folder = tokenizer(context, "vqgan-llm")
    monkeypatch.setattr(tokenizers, "Trainer", lambda *args: pytest.fail("a model was trained"))
    assert tokenizer(context, "vqgan-llm") == folder
    model = AutoModel.from_pretrained(folder)
    assert model.local_quantizer.codebook.shape == (50, 32) and model.local_quantizer.projector is None
    assert len(LocalVocabulary.from_pretrained(folder)) == 50


@pytest.mark.slow
def test_a_random_start_hangs_on_the_seed_alone(make_context, data, tmp_path):
    found = []
    for place in ("one", "other"):
        torch.rand(len(found) + 1)
        context = make_context(data=data, tokenizer_steps=1, train_slice="")
        context.workspace.folder = tmp_path / place
        found.append(load_file(Path(tokenizer(context, "vqgan")) / "model.safetensors"))
    assert all(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())


@pytest.mark.slow
def test_learned_codes_are_trained_at_the_tables_side(make_context, data):
    context = make_context(data=data, tokenizer_steps=2, train_slice="")
    config = AutoConfig.from_pretrained(tokenizer(context, "vqgan"))
    assert (config.image_size, config.codebook_size, config.image_seq_length) == (64, 8192, 64)


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
