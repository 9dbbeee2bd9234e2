"""How many answers to questions about pictures are right, after the VQA challenge's normalisation.

Antol et al. 2015 (https://arxiv.org/abs/1505.00468); the steps are those that https://visualqa.org/evaluation.html
describes.
"""

import re
from collections import Counter
from collections.abc import Sequence

from ..errors import UserError

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBER_WORDS = {"none": "0", **{name: str(value) for value, name in enumerate(NUMBERS)}}
ARTICLES = {"a", "an", "the"}
# Removed beside a blank, or where the text has a comma inside a number; else a blank, as in "black/white".
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
TEN = 10

References = Sequence[str | Sequence[str]]


def normalise_answer(text: str) -> str:
    """Writes an answer as it is compared.

    In this order: punctuation out, full stops out except before a digit, lower case, number words from "none" and
    "zero" to "ten" as digits, articles out. Apostrophes go as well, which makes "dont" and "don't" one; the challenge
    has a list of contractions for that.

    Args:
        text: An answer.

    Returns:
        Words with one space between them; "" where nothing is left.
    """
    given = " ".join(text.split())
    text, has_number = given, re.search(r"\d,\d", given) is not None
    for sign in PUNCTUATION:
        beside_blank = f"{sign} " in given or f" {sign}" in given
        text = text.replace(sign, "" if has_number or beside_blank else " ")
    text = re.sub(r"\.(?!\d)", "", text).replace("'", "").replace("\u2019", "").lower()
    words = [NUMBER_WORDS.get(word, word) for word in text.split()]
    return " ".join(word for word in words if word not in ARTICLES)


def answer_matches(prediction: str, references: str | Sequence[str]) -> int:
    """How many of a question's reference answers an answer equals, once both are normalised.

    Args:
        prediction: An answer; one of which nothing is left equals none.
        references: A text or a list of texts, at least one.

    Raises:
        UserError: If there is no reference.
    """
    texts = [references] if isinstance(references, str) else list(references)
    if not texts:
        raise UserError("A question has no reference answer, so no answer to it is right or wrong: leave it out.")
    found = normalise_answer(prediction)
    return Counter(map(normalise_answer, texts))[found] if found else 0


def vqa_scores(predictions: Sequence[str], references: References) -> list[dict[str, float | None]]:
    """Scores of each answer.

    Args:
        predictions: B answers.
        references: B texts or lists of texts.

    Returns:
        For each answer `exact_match`, 1 where it equals any of the references, else 0; and `vqa_accuracy`,
        min(n / 3, 1) for n equal references where there are ten of them, else None.

    Raises:
        UserError: If numbers differ or a question has no reference.
    """
    if len(predictions) != len(references):
        raise UserError(f"Found {len(predictions)} predictions for {len(references)} references: give one for each.")
    scores = []
    for prediction, texts in zip(predictions, references, strict=True):
        equal = answer_matches(prediction, texts)
        of_ten = not isinstance(texts, str) and len(texts) == TEN
        scores.append({"exact_match": float(equal > 0), "vqa_accuracy": min(equal / 3, 1.0) if of_ten else None})
    return scores
