"""Captions and answers: numbers worked out by hand, plain loops and COCO's own BLEU on the other side."""

import math
from collections import Counter
from importlib import import_module
from pathlib import Path

import evaluate
import pytest
from pycocoevalcap.bleu.bleu_scorer import BleuScorer

from visual_sentence.errors import UserError
from visual_sentence.metrics import captions
from visual_sentence.metrics.answers import answer_matches, normalise_answer, vqa_scores
from visual_sentence.metrics.captions import bleu, caption_words, cider, rouge

WRITTEN = ["A man riding a horse.", "two zebras standing by a fence", "a bus"]
REFERENCES = [
    ["A man is riding a brown horse.", "Someone rides a horse"],
    ["Two zebras are standing together next to the fence."],
    ["A city bus, parked.", "a bus is parked next to people", "the bus"],
]


def load(name: str) -> evaluate.Metric:
    return evaluate.load(str(Path(captions.__file__).parent / name))


def test_words_are_split_as_cocos_evaluation_does():
    assert caption_words("A dog's ball, isn't it?") == ["a", "dog", "'s", "ball", "is", "n't", "it"]
    assert caption_words('The "black-and-white" cat. It (he) sleeps...') == [
        *("the", "black-and-white", "cat", "it", "he", "sleeps")
    ]
    assert caption_words(" . ") == []


def test_bleu_by_hand():
    # "a man riding a horse": 5 unigrams, all in the reference (a twice); bigrams "a man", "riding a" of 4; no trigram.
    # reference of 7 words, so the brevity penalty is exp(1 - 7 / 5).
    found = bleu(["A man riding a horse"], ["A man is riding a brown horse."])
    penalty = math.exp(1 - 7 / 5)
    assert found["bleu1"] == pytest.approx(penalty * 1.0)
    assert found["bleu2"] == pytest.approx(penalty * math.sqrt(1.0 * 2 / 4))
    assert found["bleu3"] == found["bleu4"] == 0.0


def test_bleu_clips_counts_and_takes_the_closest_length():
    # "the the the": clipped to the 2 of "the cat the"; the closest length of 2 and 3 is 3, so no penalty
    assert bleu(["the the the"], [["the cat the", "a cat"]])["bleu1"] == pytest.approx(2 / 3)


def test_bleu_is_cocos():
    scorer = BleuScorer(n=4)
    for text, texts in zip(WRITTEN, REFERENCES, strict=True):
        scorer += (" ".join(caption_words(text)), [" ".join(caption_words(reference)) for reference in texts])
    theirs, _ = scorer.compute_score(option="closest")
    found = bleu(WRITTEN, REFERENCES)
    # theirs adds 1e-15 to counts, so that nothing is exactly zero
    assert list(found.values()) == pytest.approx(theirs, abs=1e-3)
    assert found["bleu2"] > 0.2


def test_rouge_by_hand():
    # prediction of 5 words, references of 7 and 4.
    # unigrams: 5 of 5 and of 7: 2 * 5 / 12; bigrams: "a man", "riding a" of 4 and of 6: 2 * 2 / 10;
    # longest common subsequence "a man riding a horse": 5 words: 2 * 5 / 12
    (found,) = rouge(WRITTEN[:1], REFERENCES[:1])
    assert found == pytest.approx({"rouge1": 10 / 12, "rouge2": 4 / 10, "rougeL": 10 / 12})
    # each measure takes its own best reference: bigrams that the first one lacks
    (found,) = rouge(["a b c"], [["a b x", "c b a"]])
    assert found == pytest.approx({"rouge1": 1.0, "rouge2": 0.5, "rougeL": 2 / 3})


def plain_cider(written: list[str], references: list[list[str]]) -> list[float]:
    """CIDEr-D as equations 1 to 3 of the paper and its section 5 (clipping, Gaussian) write it."""
    split = [[caption_words(text) for text in texts] for texts in references]

    def grams(words: list[str], order: int) -> Counter:
        return Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))

    scores = []
    for text, texts in zip(map(caption_words, written), split, strict=True):
        total = 0.0
        for order in range(1, 5):
            documents = Counter()
            for others in split:
                documents.update({gram for other in others for gram in grams(other, order)})
            weight = {
                gram: math.log(len(split) / max(1, documents[gram])) for gram in [*documents, *grams(text, order)]
            }
            own = {gram: count * weight[gram] for gram, count in grams(text, order).items()}
            for reference in texts:
                theirs = {gram: count * weight[gram] for gram, count in grams(reference, order).items()}
                dot = sum(min(value, theirs.get(gram, 0.0)) * theirs.get(gram, 0.0) for gram, value in own.items())
                norm = math.hypot(*own.values()) * math.hypot(*theirs.values())
                gap = (len(text) - 1) - (len(reference) - 1)
                total += (dot / norm if norm else dot) * math.exp(-(gap**2) / (2 * 6.0**2)) / len(texts)
        scores.append(10 * total / 4)
    return scores


def test_cider_is_the_papers():
    assert cider(WRITTEN, REFERENCES) == pytest.approx(plain_cider(WRITTEN, REFERENCES), rel=1e-6)


def test_cider_is_ten_for_the_only_reference():
    texts = ["a man rides a brown horse", "two zebras stand beside one fence"]
    assert cider(texts, texts) == pytest.approx([10.0, 10.0])
    assert cider(texts[::-1], texts) == pytest.approx([0.0, 0.0])
    with pytest.raises(UserError, match="captions of at least 2"):
        cider(texts[:1], texts[:1])


def test_empty_captions_count_as_wrong():
    assert bleu(["", "a bus"], [["a dog"], ["a bus"]])["bleu1"] == pytest.approx(math.exp(1 - 4 / 2))
    assert rouge([""], ["a dog"]) == [{"rouge1": 0.0, "rouge2": 0.0, "rougeL": 0.0}]
    assert cider(["", "a bus here"], ["a dog", "a bus here"])[0] == 0.0


def test_mistakes_are_named():
    for measure in (bleu, rouge, cider):
        with pytest.raises(UserError, match="2 predictions for 1 references"):
            measure(["a", "b"], ["a"])
        with pytest.raises(UserError, match="Caption 1 has no reference"):
            measure(["a", "b"], [["a"], ["..."]])
        with pytest.raises(UserError, match="Caption 0 or one of its references is no text"):
            measure([None, "b"], ["a", "b"])


@pytest.mark.parametrize("package", ["nltk", "sacrebleu", "rouge-score", "pycocoevalcap"])
def test_a_library_that_is_not_installed_is_named(package, monkeypatch):
    def without(name: str):
        if captions.LIBRARIES[name] == package:
            raise ModuleNotFoundError(name)
        return import_module(name)

    monkeypatch.setattr(captions, "import_module", without)
    message = f"measured by {package}, which is not installed: run `pip install 'visual-sentence\\[captions\\]'`"
    with pytest.raises(UserError, match=message):
        captions.check_installed()
    measure = {"rouge-score": rouge, "pycocoevalcap": cider}.get(package, bleu)
    with pytest.raises(UserError, match=message):
        measure(WRITTEN, REFERENCES)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("The Dog!", "dog"),
        ("two", "2"),
        ("None", "0"),
        ("a red, blue and green ball", "red blue and green ball"),
        ("black/white", "black white"),
        ("1,000", "1000"),
        ("3.5 m.", "3.5 m"),
        ("U.S.A.", "usa"),
        ("don't", "dont"),
        ("ten  \n o'clock", "10 oclock"),
        ("(yes)", "yes"),
        ("the", ""),
    ],
)
def test_answers_are_normalised_as_in_the_challenge(given, expected):
    assert normalise_answer(given) == expected


def test_vqa_accuracy_by_hand():
    ten = ["two"] * 2 + ["2"] + ["three"] * 7
    scores = vqa_scores(["2", "three", "four", "", "the cat"], [ten, ten, ten, ten, "Cat."])
    assert [row["exact_match"] for row in scores] == [1, 1, 0, 0, 1]
    assert [row["vqa_accuracy"] for row in scores] == [1.0, 1.0, 0.0, 0.0, None]
    assert vqa_scores(["yes"], [["yes", "Yes!"] + ["no"] * 8])[0]["vqa_accuracy"] == pytest.approx(2 / 3)
    assert answer_matches("the", ["a", "an"]) == 0  # nothing is left of either, and nothing is no answer
    with pytest.raises(UserError, match="no reference answer"):
        vqa_scores(["yes"], [[]])
    with pytest.raises(UserError, match="1 predictions for 2"):
        vqa_scores(["yes"], ["yes", "no"])


def test_modules_at_once_and_in_pieces():
    by_caption = rouge(WRITTEN, REFERENCES)
    expected = {
        "bleu": bleu(WRITTEN, REFERENCES),
        "rouge": {kind: sum(row[kind] for row in by_caption) / 3 for kind in by_caption[0]},
        "cider": {"cider": sum(cider(WRITTEN, REFERENCES)) / 3},
    }
    for name, values in expected.items():
        metric = load(name)
        assert "Args:" in metric.inputs_description and len(metric.description) > 60
        whole = metric.compute(predictions=WRITTEN, references=REFERENCES)
        assert whole == pytest.approx({**values, "n": 3})
        metric.add_batch(predictions=WRITTEN[:1], references=REFERENCES[:1])
        metric.add(prediction=WRITTEN[1], reference=REFERENCES[1][0])  # one reference may come as a text
        assert metric.compute(predictions=WRITTEN[2:], references=REFERENCES[2:]) == pytest.approx(whole)
    with pytest.raises(UserError, match="bleu needs references"):
        load("bleu").add_batch(predictions=WRITTEN)


def test_vqa_module():
    metric = load("vqa_accuracy")
    assert metric.compute(predictions=["A dog"], references=["dog"]) == {"exact_match": 1.0, "n": 1, "n_ten": 0}
    metric.add_batch(predictions=["yes"], references=[["yes"] * 2 + ["no"] * 8])
    found = metric.compute(predictions=["cat", "no"], references=["dog", ["no"] * 10])
    assert found == pytest.approx({"exact_match": 2 / 3, "vqa_accuracy": (2 / 3 + 1) / 2, "n": 3, "n_ten": 2})
