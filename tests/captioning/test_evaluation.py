"""The numbers of an evaluation, worked out beside it; and that nothing leaks from a picture into its own prompt."""

import pytest

from visual_sentence.captioning import InContextSetting, answers_of, captions_of, read_captions
from visual_sentence.captioning.evaluation import evaluate_answers, evaluate_captioning
from visual_sentence.captioning.selection import ExamplePool, see
from visual_sentence.errors import UserError
from visual_sentence.metrics.captions import bleu, cider, rouge

SETTING = InContextSetting(num_words=3, num_examples=3)


@pytest.fixture
def rows(pairs):
    """A picture with one caption, four with two."""
    return captions_of([pairs[0], *((picture, [text, "something else"]) for picture, text in pairs[1:])])


def query_of(prompt: str) -> str:
    """The last line of words in a prompt of the paper's style."""
    return prompt.split("Input: ")[-1].removesuffix(", output:")


def examples_of(prompt: str) -> str:
    return prompt.rsplit("Input: ", 1)[0]


def test_captions_are_scored_beside_the_nearest_pictures(finder, scripted, rows, pairs):
    texts = iter([" Two dogs run.", " a tree.", "", " a red car drives.", " a red car drives."])
    model = scripted(lambda prompt: next(texts))
    setting = InContextSetting(num_words=3, num_examples=3, style="paper")
    found = evaluate_captioning(finder, model, rows, rows, setting)
    written = ["Two dogs run", "a tree", "", "a red car drives", "a red car drives"]
    references = [row.texts for row in rows.rows]
    per_caption = rouge(written, references)
    expected = {
        **bleu(written, references),
        **{kind: sum(row[kind] for row in per_caption) / 5 for kind in per_caption[0]},
        "cider": sum(cider(written, references)) / 5,
        "n": 5,
        "empty": 1,
        "distinct": 4,
    }
    assert {name: found.results[name] for name in expected} == pytest.approx(expected)
    shown = [examples_of(prompt).lower() for prompt in model.prompts]
    copied = [text != "" and f"output: {text.lower()}. " in some for text, some in zip(written, shown, strict=True)]
    assert True in copied and False in copied
    assert [row["copied"] for row in found.texts] == copied and found.results["copied"] == sum(copied)
    pool = ExamplePool(rows, finder, 3, None, "nearest")
    nearest = [pool.nearest(query).row.texts[0] for query in see(finder, [picture for picture, _ in pairs], 3)]
    assert [row["nearest_caption"] for row in found.texts] == nearest
    assert found.results["nearest_caption"] == pytest.approx(
        {
            **bleu(nearest, references),
            **{kind: sum(row[kind] for row in rouge(nearest, references)) / 5 for kind in per_caption[0]},
            "cider": sum(cider(nearest, references)) / 5,
        }
    )


@pytest.mark.parametrize("choose", ["random", "nearest"])
@pytest.mark.parametrize("shuffle_words", [False, True])
def test_a_pictures_captions_are_not_in_its_prompt(
    choose, shuffle_words, finder, scripted, rows, caption_folder, pairs
):
    model = scripted(lambda prompt: " a.")
    setting = InContextSetting(num_words=3, num_examples=3, choose=choose, style="paper")
    # the same pictures from another table: told apart by their pixels
    evaluate_captioning(finder, model, rows, read_captions(str(caption_folder)), setting, shuffle_words)
    assert len(model.prompts) == 5
    for prompt, (_, own) in zip(model.prompts, pairs, strict=True):
        assert own.removesuffix(".") not in examples_of(prompt)
        assert examples_of(prompt).count("Input: ") == 3


def test_shuffled_words_are_another_pictures(finder, scripted, rows, pairs):
    own = [" ".join(found.words) for found in finder.find([picture for picture, _ in pairs], 8)]
    assert len(set(own)) == 5
    setting = InContextSetting(num_words=8, num_examples=3, style="paper")
    model = scripted(lambda prompt: " a.")
    evaluate_captioning(finder, model, rows, rows, setting)
    assert [query_of(prompt) for prompt in model.prompts] == own
    shuffled = scripted(lambda prompt: " a.")
    evaluate_captioning(finder, shuffled, rows, rows, setting, shuffle_words=True)
    given = [query_of(prompt) for prompt in shuffled.prompts]
    assert sorted(given) == sorted(own) and all(mine != theirs for mine, theirs in zip(own, given, strict=True))
    for prompt, words in zip(shuffled.prompts, given, strict=True):
        assert words not in examples_of(prompt)  # nor is the picture whose words are shown an example


def test_rows_of_one_picture_are_one_picture(finder, scripted, pairs):
    rows = captions_of([*pairs, (pairs[1][0], "dogs at play"), (pairs[1][0], "a race of dogs")])
    model = scripted(lambda prompt: " dogs at play.")
    found = evaluate_captioning(finder, model, rows, rows, SETTING)
    assert found.results["n"] == len(model.prompts) == 5
    assert found.texts[1]["references"] == ("Two dogs run", "dogs at play", "a race of dogs")
    assert found.results["bleu3"] > 0  # the second picture's caption is one of its three
    one = evaluate_captioning(
        finder, scripted(lambda prompt: " a."), captions_of(pairs[:1]), captions_of(pairs[1:]), SETTING
    )
    assert one.results["n"] == 1 and one.results["cider"] is None


def test_answers_are_scored_beside_the_most_frequent(finder, scripted, pictures):
    ten = ["two"] * 2 + ["3"] * 8
    rows = answers_of(
        [
            (pictures[0], "How many?", ten),
            (pictures[0], "What is it?", ["cat", "a cat"]),
            (pictures[1], "Is it a dog?", "yes"),
            (pictures[2], "Is it a cat?", "yes"),
            (pictures[3], "Is it a moon?", "no"),
        ]
    )
    asked = {
        "How many?": " 2\n",
        "What is it?": " The cat.\n",
        "Is it a dog?": " no\n",
        "Is it a cat?": "",
        "Is it a moon?": " No, never",
    }
    model = scripted(lambda prompt: asked[prompt.split(" -> ")[-1].removesuffix(" ->")])
    found = evaluate_answers(finder, model, rows, rows, SETTING)
    # right: "2" (two of ten), "no" of the last; "The" is the first word of "The cat." and no answer
    assert [row["answer"] for row in found.texts] == ["2", "The", "no", "", "No"]
    results = {name: found.results[name] for name in ("exact_match", "vqa_accuracy", "n_ten", "n", "empty")}
    assert results == pytest.approx({"exact_match": 2 / 5, "vqa_accuracy": 2 / 3, "n_ten": 1, "n": 5, "empty": 1})
    always_yes = {"answer": "yes", "exact_match": 2 / 5, "vqa_accuracy": 0.0, "n_ten": 1}
    assert found.results["most_frequent_answer"] == always_yes
    for prompt in model.prompts[:2]:  # both questions about the first picture
        shown = prompt.rsplit("\n", 1)[0]
        assert "How many?" not in shown and "What is it?" not in shown


def test_broken_rows_end_it_or_are_named(finder, scripted, caption_folder):
    (caption_folder / "2.png").write_bytes(b"text")
    model = scripted(lambda prompt: " a.")
    with pytest.raises(UserError, match=r"row 2: .*is not a picture"):
        rows = read_captions(str(caption_folder))
        evaluate_captioning(finder, model, rows, rows, SETTING)
    rows, again = read_captions(str(caption_folder)), read_captions(str(caption_folder))
    found = evaluate_captioning(finder, model, rows, again, SETTING, skip_bad=True)
    assert found.results["n"] == 4
    assert len(found.skipped) == 1 and "row 2" in found.skipped[0]
    assert [row["row"][-1] for row in found.texts] == ["0", "1", "3", "4"]


def test_words_of_one_picture_cannot_be_shuffled(finder, scripted, pairs):
    with pytest.raises(UserError, match="at least 2 different pictures"):
        evaluate_captioning(
            finder, scripted(lambda prompt: ""), captions_of(pairs[:1]), captions_of(pairs), SETTING, shuffle_words=True
        )


def test_a_missing_library_is_named_before_anything_is_written(finder, scripted, rows, monkeypatch):
    def absent(name: str):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("visual_sentence.metrics.captions.import_module", absent)
    model = scripted(lambda prompt: " a.")
    with pytest.raises(UserError, match="not installed: run `pip install"):
        evaluate_captioning(finder, model, rows, rows, SETTING)
    assert model.prompts == []
