"""Few-shot classification: one prefix cache and batches against one forward pass per query and label."""

import random
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from visual_sentence import LanguageModel
from visual_sentence.completion import LocalCompletions
from visual_sentence.few_shot import Answer, Example, InContextClassifier

from .common import Measurement, timed

CLASS_NAMES = [
    "goldfish",
    "golden retriever",
    "tabby cat",
    "school bus",
    "espresso",
    "sports car",
    "lighthouse",
]
NOUNS = """
    animal aquarium beach bird boat bottle breed bridge building cat city coast coffee cup dog engine feather
    field fish flower forest fruit garden glass grass hair harbour horse house insect island kitchen lake leaf
    machine metal mountain ocean paper pet plant puppy river road rock sand school sea ship sky snow stone
    street table tail tower traffic train tree truck vehicle village water wheel window wing winter wood
"""


def run(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    way: int = 5,
    shot: int = 3,
    queries: int = 5,
    words: int = 5,
    seed: int = 0,
    setting: dict[str, Any] | None = None,
) -> Measurement:
    """Measures both ways on one made-up episode with calibrated scores.

    Args:
        model: The language model.
        tokenizer: Its tokenizer.
        way: Classes, at most seven.
        shot: Examples per class.
        queries: Queries, asked in one call.
        words: Words per image.
        seed: Draws the words.
        setting: Further facts for the report.

    Returns:
        Seconds of both ways; the results count as the same if labels agree and scores differ by less than
        0.001.
    """
    draw, nouns = random.Random(seed), NOUNS.split()
    class_names = CLASS_NAMES[:way]
    support = [Example(tuple(draw.sample(nouns, words)), name) for _ in range(shot) for name in class_names]
    asked = [tuple(draw.sample(nouns, words)) for _ in range(queries)]
    language_model = LanguageModel(model, tokenizer, reference="benchmarked")

    def fresh(use_cache: bool = True) -> InContextClassifier:
        return InContextClassifier(LocalCompletions(language_model, use_cache=use_cache))

    reference = fresh(use_cache=False)
    # The first pass allocates memory and picks kernels.
    for classifier in (fresh(), reference):
        classifier.classify((), [("warm",)], class_names[:2])
    ours, ours_s = timed(lambda: fresh().classify(support, asked, class_names))
    plain, plain_s = timed(lambda: reference.classify(support, asked, class_names))
    return Measurement(
        name="few-shot",
        setting={
            "way": way,
            "shot": shot,
            "queries": queries,
            "words": words,
            "dtype": str(model.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            **(setting or {}),
        },
        ours_s=ours_s,
        reference_s=plain_s,
        same_result=all(map(_same, ours, plain)),
    )


def _same(answer: Answer, other: Answer) -> bool:
    differences = [abs(answer.scores[name] - other.scores[name]) for name in other.scores]
    return answer.label == other.label and max(differences) < 1e-3
