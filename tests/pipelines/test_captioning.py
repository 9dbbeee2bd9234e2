"""Captions and answers as pipelines: every form of input, the same texts however they come, and good refusals."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import AutoModel, pipeline

from visual_sentence import LanguageModel, UserError, load_language_model, offline_folder
from visual_sentence.captioning import InContextSetting, answer, caption
from visual_sentence.modeling import V2LImageProcessor
from visual_sentence.pipelines.captioning import CAPTIONING_TASK, VisualCaptioningPipeline
from visual_sentence.pipelines.question_answering import QUESTION_ANSWERING_TASK, VisualQuestionAnsweringPipeline

SETTINGS = {"num_words": 3, "max_new_tokens": 6}


@pytest.fixture
def language_model(llm_folder) -> LanguageModel:
    return load_language_model(str(llm_folder), dtype="float32", device="cpu")


@pytest.fixture
def parts(v2l_folder, language_model) -> dict:
    model, processor = AutoModel.from_pretrained(v2l_folder), V2LImageProcessor.from_pretrained(v2l_folder)
    return {"model": model, "image_processor": processor, "language_model": language_model, "device": "cpu"}


@pytest.fixture
def describe(parts) -> VisualCaptioningPipeline:
    return VisualCaptioningPipeline(**parts, **SETTINGS)


@pytest.fixture
def ask(parts) -> VisualQuestionAnsweringPipeline:
    return VisualQuestionAnsweringPipeline(**parts, **SETTINGS)


@pytest.fixture
def new(pictures) -> list:
    """Pictures of which no example is made."""
    return [picture.rotate(90) for picture in pictures]


@pytest.fixture
def pairs(pictures) -> list:
    return list(zip(pictures[:3], ["a cat", "two dogs", "a tree"], strict=True))


@pytest.fixture
def triples(pictures) -> list:
    return list(zip(pictures[:3], ["What?", "Who?", "Is it red?"], ["cat", "dog", "no"], strict=True))


@pytest.fixture
def table(pictures, tmp_path) -> Path:
    """Five captioned pictures with a question each."""
    folder = tmp_path / "table"
    folder.mkdir()
    texts = [{"caption": f"caption {place}", "question": "What?", "answer": str(place)} for place in range(5)]
    for place, picture in enumerate(pictures):
        picture.save(folder / f"{place}.png")
    lines = [json.dumps({"file_name": f"{place}.png", **row}) for place, row in enumerate(texts)]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def test_the_tasks_are_named(describe, ask):
    assert (CAPTIONING_TASK, QUESTION_ANSWERING_TASK) == ("visual-captioning", "visual-question-answering-in-context")
    assert (describe.task, ask.task) == (CAPTIONING_TASK, QUESTION_ANSWERING_TASK)


def test_they_are_found_by_their_tasks(v2l_folder, language_model, describe, new, pairs):
    found = pipeline(CAPTIONING_TASK, model=str(v2l_folder), language_model=language_model, device="cpu", **SETTINGS)
    assert type(found) is VisualCaptioningPipeline and found(new, examples=pairs) == describe(new, examples=pairs)
    found = pipeline(QUESTION_ANSWERING_TASK, model=str(v2l_folder), language_model=language_model, device="cpu")
    assert type(found) is VisualQuestionAnsweringPipeline


def test_a_caption_is_the_librarys(describe, new, pairs, v2l_folder, llm_folder):
    setting = InContextSetting(**SETTINGS)
    expected = caption(new, pairs, str(v2l_folder), str(llm_folder), setting, "float32", "cpu")
    assert describe(new, examples=pairs) == [
        {"generated_text": found.text, "words": list(found.words), "copied": found.copied} for found in expected
    ]
    assert len({found.text for found in expected}) > 1


def test_an_answer_is_the_librarys(ask, new, triples, v2l_folder, llm_folder):
    setting = InContextSetting(**SETTINGS)
    questions = ["What?", "Who?", "Is it red?", "Where?", "Why?"]
    expected = answer(new, questions, triples, str(v2l_folder), str(llm_folder), setting, "float32", "cpu")
    inputs = [{"image": picture, "question": question} for picture, question in zip(new, questions, strict=True)]
    assert ask(inputs, examples=triples) == [
        {"answer": found.answer, "generated_text": found.text, "words": list(found.words)} for found in expected
    ]
    assert ask(new[0], question="What?", examples=triples) == ask(inputs[0], examples=triples)
    assert ask(inputs[1], question="What?", examples=triples) == ask(inputs[1], examples=triples)  # its own comes first


@pytest.mark.parametrize("choose", ["random", "nearest"])
def test_batches_lists_and_generators_agree(choose, describe, ask, new, table):
    options = {"examples": str(table), "num_examples": 3, "choose": choose}
    inputs = [{"image": picture, "question": f"{word}?"} for picture, word in zip(new, "abcde", strict=True)]
    for task, given in ((describe, new), (ask, inputs)):
        expected = [task(one, **options) for one in given]
        for batch_size in (1, 2, 5):
            assert task(given, **options, batch_size=batch_size) == expected
            stream = task((one for one in given), **options, batch_size=batch_size)
            assert isinstance(stream, Iterator) and list(stream) == expected


def test_a_generator_is_read_as_it_is_needed(describe, new, pairs):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield new[len(taken) % len(new)]

    stream = describe(endless(), examples=pairs)
    next(stream)
    assert len(taken) <= 3


def test_examples_in_every_form_agree(describe, new, pairs, table, tmp_path):
    expected = describe(new[:2], examples=pairs)
    pictures, captions = zip(*pairs, strict=True)
    paths = [tmp_path / f"{place}.png" for place in range(3)]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)
    for examples in (
        iter(pairs),
        tuple(pairs),
        {"image": list(pictures), "caption": list(captions)},
        list(zip(map(str, paths), captions, strict=True)),
    ):
        assert describe(new[:2], examples=examples, batch_size=1) == expected
    assert describe(new[:2], examples=Path(table), num_examples=2) == describe(
        new[:2], examples=str(table), num_examples=2
    )


def test_the_examples_words_are_found_once(describe, new, pairs):
    looked_at = []
    describe.model.image_tower.register_forward_pre_hook(lambda module, inputs: looked_at.append(len(inputs[0])))
    describe(new, examples=pairs)
    assert sorted(looked_at) == [1, 1, 1, 1, 1, 3]
    del looked_at[:]
    describe(new, examples=pairs, batch_size=5)
    assert looked_at == [5]


def test_a_picture_is_not_its_own_example(describe, pictures, table, monkeypatch):
    prompts = []
    write = type(describe.completion_model).complete

    def noted(self, asked, max_new_tokens, stop):
        prompts.extend(asked)
        return write(self, asked, max_new_tokens, stop)

    monkeypatch.setattr(type(describe.completion_model), "complete", noted)
    describe(pictures, examples=str(table), num_examples=4, batch_size=2)
    assert len(prompts) == 5
    for place, prompt in enumerate(prompts):
        assert [f"caption {other}" in prompt for other in range(5)] == [other != place for other in range(5)]


def test_copies_are_marked(describe, new, pairs, monkeypatch):
    texts = {"complete": lambda self, prompts, max_new_tokens, stop: [" Two  DOGS!"] * len(prompts)}
    monkeypatch.setattr(type(describe.completion_model), "complete", texts["complete"])
    assert describe(new[0], examples=pairs)["copied"] is True
    assert describe(new[0], examples=pairs[:1])["copied"] is False


def test_settings_may_be_given_when_it_is_made(parts, describe, new, pairs):
    made = VisualCaptioningPipeline(**parts, **SETTINGS, examples=pairs, prompt_style="paper")
    assert made(new) == describe(new, examples=pairs, prompt_style="paper")
    assert made(new, prompt_style="plain") == describe(new, examples=pairs)  # the call's word is the last


def test_a_broken_picture_may_be_reported(describe, ask, new, pairs, triples, tmp_path):
    (tmp_path / "notes.png").write_text("text")
    given = [new[0], str(tmp_path / "notes.png"), new[1]]
    with pytest.raises(UserError, match="is not a picture"):
        describe(given, examples=pairs)
    for batch_size in (1, 3):
        first, broken, last = describe(given, examples=pairs, on_error="report", batch_size=batch_size)
        assert [first, last] == describe(new[:2], examples=pairs)
        assert list(broken) == ["error"] and "notes.png is not a picture" in broken["error"]
    inputs = [{"image": new[0], "question": ""}, {"image": new[0], "question": "What?"}]
    broken, good = ask(inputs, examples=triples, on_error="report")
    assert "ask something" in broken["error"] and good == ask(inputs[1], examples=triples)


def test_mistakes_are_named(describe, ask, new, pairs, triples, pictures):
    for arguments, message in [
        ({}, r"visual-captioning needs examples: pass examples=\[\(image, caption\)"),
        ({"examples": []}, "There are no examples"),
        ({"examples": {"image": pictures[:3], "caption": ["a", "b"]}}, "found 3 images and 2 captions"),
        ({"examples": triples}, "Example 1 is not of the form"),
        ({"examples": 3}, r"examples must be a table or a list of \(image, caption\), got int"),
        ({"examples": pairs, "choose": "best"}, "use random or nearest"),
        ({"examples": pairs, "prompt_style": "poem"}, "use plain or paper"),
        ({"examples": pairs, "num_examples": 4}, "Only 3 pictures of the examples can be examples here, 4 are asked"),
        ({"examples": pairs, "num_words": 11}, "the codebook offers 1 to 10 distinct words"),
        ({"examples": pairs, "temperature": 1}, "does not know temperature"),
        ({"examples": pairs, "max_new_tokens": 0}, "max_new_tokens must be at least 1"),
    ]:
        with pytest.raises(UserError, match=message):
            describe(new[0], **arguments)
    with pytest.raises(UserError, match="needs a question"):
        ask(new[0], examples=triples)
    with pytest.raises(UserError, match="Example 1 is not of the form"):
        ask({"image": new[0], "question": "What?"}, examples=pairs)


@pytest.mark.slow
@pytest.mark.offline_stack
def test_real_models_caption_what_they_see(offline_models):
    data = pytest.importorskip("skimage.data", reason="needs scikit-image (visual-sentence[demo])")
    folder = Path(data.__file__).parent
    shown = {
        "chelsea.png": "A cat looks at the camera.",
        "coffee.png": "A cup of coffee stands on a table.",
        "rocket.jpg": "A rocket stands on its launch pad.",
        "motorcycle_left.png": "A motorcycle is parked in a garage.",
    }
    describe = pipeline(CAPTIONING_TASK, model=str(offline_folder("v2l")), device="cpu")
    examples = [(folder / name, text) for name, text in shown.items()]
    found = describe(folder / "motorcycle_right.png", examples=examples)
    assert "motorcycle" in found["words"] and "motorcycle" in found["generated_text"].lower()
    # the same photograph is not shown as its own example, so it cannot be copied
    assert describe(folder / "chelsea.png", examples=examples)["copied"] is False
