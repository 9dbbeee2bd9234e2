"""The pipeline by its task's name: inputs of every kind, the same answers however they come, and good refusals."""

import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

from visual_sentence import LanguageModel, UserError, load_language_model, offline_folder
from visual_sentence.completion import CompletionModel, LocalCompletions
from visual_sentence.few_shot import SCORING_MODES
from visual_sentence.pipelines import FEW_SHOT_TASK, VisualFewShotClassificationPipeline, load_few_shot_pipeline


@pytest.fixture
def language_model(llm_folder) -> LanguageModel:
    return load_language_model(str(llm_folder), dtype="float32", device="cpu")


@pytest.fixture
def classify(v2l_folder, language_model) -> VisualFewShotClassificationPipeline:
    return pipeline(FEW_SHOT_TASK, model=str(v2l_folder), language_model=language_model, device="cpu")


@pytest.fixture
def support(pictures) -> dict:
    return {"goldfish": pictures[:2], "french bulldog": [pictures[2]]}


@pytest.fixture
def tower_calls(classify) -> list[int]:
    """Grows by the number of pictures whenever the image tower runs."""
    calls = []
    classify.model.image_tower.register_forward_pre_hook(lambda module, inputs: calls.append(len(inputs[0])))
    return calls


def same(first: list[list[dict]], second: list[list[dict]]) -> bool:
    scores = [[{row["label"]: row["score"] for row in answer} for answer in answers] for answers in (first, second)]
    return all(a == pytest.approx(b, abs=1e-5) for a, b in zip(*scores, strict=True))


def test_the_task_gives_our_pipeline(classify):
    assert FEW_SHOT_TASK == "visual-few-shot-classification"
    assert type(classify) is VisualFewShotClassificationPipeline
    assert classify.task == FEW_SHOT_TASK


def test_one_picture_gets_ranked_labels_that_sum_to_one(classify, support, pictures):
    answer = classify(pictures[3], support=support)
    assert {row["label"] for row in answer} == set(support)
    assert [row["score"] for row in answer] == sorted((row["score"] for row in answer), reverse=True)
    assert sum(row["score"] for row in answer) == pytest.approx(1, abs=1e-6)


def test_list_generator_and_batches_agree(classify, support, pictures):
    expected = [classify(picture, support=support) for picture in pictures]
    assert same(classify(pictures, support=support), expected)
    for batch_size in (1, 2, 5):
        assert same(classify(pictures, support=support, batch_size=batch_size), expected)
        stream = classify((picture for picture in pictures), support=support, batch_size=batch_size)
        assert isinstance(stream, Iterator)
        assert same(list(stream), expected)


def test_a_generator_is_read_as_it_is_needed(classify, support, pictures):
    taken = []

    def endless():
        while True:
            taken.append(len(taken))
            yield pictures[len(taken) % len(pictures)]

    stream = classify(endless(), support=support)
    next(iter(stream))
    assert len(taken) <= 2


def test_paths_and_pictures_agree(classify, pictures, tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(len(pictures))]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)
    expected = classify(pictures[3:], support={"a": pictures[0], "b": pictures[1:3]})
    for kind in (str, Path):
        named = [kind(path) for path in paths]
        assert same(classify(named[3:], support={"a": named[0], "b": named[1:3]}), expected)
        assert same([classify(named[3], support={"a": named[:1], "b": named[1:3]})], expected[:1])


def test_settings_may_be_given_when_it_is_made(v2l_folder, language_model, classify, support, pictures):
    settings = {"support": support, "num_words": 2, "scoring": "likelihood", "top_k": 1}
    models = {"model": str(v2l_folder), "language_model": language_model, "device": "cpu"}
    made = pipeline(FEW_SHOT_TASK, **models, batch_size=2, **settings)
    assert same(made(pictures), classify(pictures, **settings))
    assert len(made(pictures[0], top_k=2)) == 2  # the call's word is the last


def test_top_k_keeps_the_best(classify, support, pictures):
    full = classify(pictures[3], support=support)
    assert classify(pictures[3], support=support, top_k=1) == full[:1]
    assert classify(pictures[3], support=support, top_k=9) == full


@pytest.mark.parametrize("scoring", SCORING_MODES)
def test_every_scoring_mode_runs(scoring, classify, support, pictures):
    answers = classify(pictures[3:], support=support, scoring=scoring, batch_size=2)
    for answer in answers:
        total = sum(row["score"] for row in answer)
        assert {row["label"] for row in answer} == set(support)
        free = scoring in ("exact-match", "prefix-match", "position-mask")
        assert total == pytest.approx(1) or (free and total == 0)


@pytest.mark.parametrize(
    "settings",
    [{"prompt_style": "paper"}, {"prompt_style": "published-code"}, {"induction": False}, {"repetitions": 1}],
    ids=str,
)
def test_every_prompt_option_reaches_the_prompt(settings, classify, support, pictures):
    plain = classify(pictures, support=support, scoring="likelihood")
    assert not same(classify(pictures, support=support, scoring="likelihood", **settings), plain)


def test_the_support_is_embedded_once(classify, support, pictures, tower_calls):
    classify(pictures, support=support)
    assert tower_calls == [3, *[1] * len(pictures)]
    del tower_calls[:]
    classify(pictures, support=support, batch_size=5)
    assert tower_calls == [5]  # the same support as before
    del tower_calls[:]
    classify(pictures[0], support={**support, "tree": pictures[4]})
    classify(pictures[0], support={**support, "tree": pictures[4]}, num_words=2)
    assert tower_calls == [4, 1, 4, 1]


def test_examples_come_in_rounds(classify, pictures):
    support = {"a": pictures[:3], "b": pictures[3:4], "c": pictures[:2]}
    checked = classify._sanitize_parameters(support=support)[1]["support"]
    assert [example.label for example in classify._examples(checked, 2)] == ["a", "b", "c", "a", "c", "a"]
    assert all(len(example.words) == 2 for example in classify._examples(checked, 2))


def test_the_language_model_stays_as_it_was(classify, support, pictures):
    before = {name: tensor.clone() for name, tensor in classify.language_model.model.state_dict().items()}
    classify(pictures, support=support)
    after = classify.language_model.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not any(parameter.requires_grad for parameter in classify.language_model.model.parameters())


def test_loaded_from_references_it_answers_alike(classify, v2l_folder, llm_folder, support, pictures):
    loaded = load_few_shot_pipeline(str(v2l_folder), str(llm_folder), dtype="float32", device="cpu")
    assert loaded.task == FEW_SHOT_TASK
    assert same(loaded(pictures, support=support), classify(pictures, support=support))


class Served(CompletionModel):
    """A language model that is asked in text, with nothing of it in reach."""

    def __init__(self, inner: LocalCompletions):
        super().__init__("http://somewhere", inner.context_length)
        self._inner = inner

    def complete(self, prompts, max_new_tokens, stop=None):
        return self._inner.complete(prompts, max_new_tokens, stop)

    def log_likelihoods(self, prompts, answers):
        return self._inner.log_likelihoods(prompts, answers)

    def count_tokens(self, text: str) -> None:
        return None

    def another(self) -> "Served":
        return self


def test_a_served_language_model_answers_alike(v2l_folder, language_model, classify, support, pictures):
    served = Served(LocalCompletions(language_model))
    asked = pipeline(FEW_SHOT_TASK, model=str(v2l_folder), language_model=served, device="cpu")
    for scoring in ("domain-calibrated", "prefix-match"):
        expected = classify(pictures, support=support, scoring=scoring)
        assert same(asked(pictures, support=support, scoring=scoring, batch_size=2), expected)
    with pytest.raises(UserError, match="http://somewhere"):
        asked(pictures, support=support, scoring="trie")


@pytest.mark.parametrize("batch_size", [1, 3])
def test_broken_pictures_are_reported_and_left_out(batch_size, classify, support, pictures, tower_calls):
    given = ["missing.png", *pictures[:2], {"label": 1}, pictures[2]]
    expected = classify(pictures[:3], support=support)
    del tower_calls[:]
    for found in (
        classify(given, support=support, on_error="report", batch_size=batch_size),
        list(classify(iter(given), support=support, on_error="report", batch_size=batch_size)),
    ):
        assert "no such file" in found[0]["error"] and "no picture" in found[3]["error"]
        assert same([found[index] for index in (1, 2, 4)], expected)
    assert sum(tower_calls) == 6


def test_arrays_may_be_examples_too(classify, support, pictures):
    arrays = {name: [np.array(one) for one in shown] for name, shown in support.items()}
    expected = classify(pictures, support=support)
    copies = {name: [one.copy() for one in shown] for name, shown in arrays.items()}
    for given in (arrays, arrays, copies):
        assert same(classify(pictures, support=given), expected)


def test_two_hundred_pictures_stream_with_flat_memory(classify, support):
    made: list[weakref.ref] = []

    def stream():
        for index in range(200):
            picture = Image.new("RGB", (40, 40), (index, 0, 0))
            made.append(weakref.ref(picture))
            yield picture
            del picture

    answers = classify(stream(), support=support, scoring="likelihood", batch_size=8)
    assert max(sum(one() is not None for one in made) for _ in answers) <= 8 + 1
    assert len(made) == 200


def test_the_language_model_may_be_named(v2l_folder, llm_folder, support, pictures):
    named = pipeline(FEW_SHOT_TASK, model=str(v2l_folder), language_model=str(llm_folder), device="cpu")
    assert named.language_model.reference == str(llm_folder)
    assert len(named(pictures[0], support=support)) == 2


def test_without_a_name_it_is_the_one_of_the_words(make_v2l, v2l_folder, llm_folder):
    model = make_v2l()
    model.config.language_model = str(llm_folder)
    model.save_pretrained(v2l_folder)
    unnamed = pipeline(FEW_SHOT_TASK, model=str(v2l_folder), device="cpu")
    assert unnamed.language_model.reference == str(llm_folder)


def test_mistakes_are_named(classify, support, pictures, tmp_path):
    for arguments, message in [
        ({}, "needs examples: pass support="),
        ({"support": {**support, "tree": []}}, "The class 'tree' has no picture"),
        ({"support": pictures}, "support must map class names to pictures, got list"),
        ({"support": support, "temperature": 1}, "does not know temperature.* takes support, num_words"),
        ({"support": support, "scoring": "best"}, "calibrated"),
        ({"support": support, "prompt_style": "poem"}, "published-code"),
        ({"support": support, "num_words": 11}, "the codebook offers 1 to 10 distinct words"),
        ({"support": {"goldfish": pictures[0]}}, "two"),
    ]:
        with pytest.raises(UserError, match=message):
            classify(pictures[3], **arguments)
    with pytest.raises(UserError, match="no such file"):
        classify(str(tmp_path / "missing.png"), support=support)
    with pytest.raises(UserError, match="no such file"):
        classify(pictures[3], support={**support, "tree": str(tmp_path / "missing.png")})


@pytest.fixture(scope="module")
def photographs(offline_models) -> Path:
    """The folder of scikit-image's photographs."""
    data = pytest.importorskip("skimage.data", reason="needs scikit-image (visual-sentence[demo])")
    return Path(data.__file__).parent


@pytest.mark.offline_stack
def test_real_models_answer_rightly(photographs):
    classify = pipeline(FEW_SHOT_TASK, model=str(offline_folder("v2l")), device="cpu")
    files = {"cat": "chelsea.png", "coffee": "coffee.png", "motorcycle": "motorcycle_left.png"}
    support = {name: photographs / file for name, file in files.items()}
    answer = classify(photographs / "motorcycle_right.png", support=support)
    assert answer[0]["label"] == "motorcycle"
    assert sum(row["score"] for row in answer) == pytest.approx(1, abs=1e-6)
    views = classify.read(photographs / "chelsea.png")
    (words,) = classify.model.encode(**views).global_words
    assert "cat" in [word.lower() for word in words]
