"""How near captions come to reference captions: BLEU, ROUGE and CIDEr-D, each counted by the library that defines it.

All three see the same words: those of the Penn Treebank convention, in lower case, without punctuation, as COCO's
evaluation does (Chen et al. 2015, https://arxiv.org/abs/1504.00325). nltk's splitter stands in for the Java program
used there; the two differ in rare cases such as abbreviations.
"""

import re
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from ..errors import UserError

# What COCO's evaluation leaves out, and brackets.
PUNCTUATION = {"''", "'", "``", "`", '"', ".", "?", "!", ",", ":", "-", "--", "...", ";", "(", ")", "[", "]", "{", "}"}
# module -> what pip calls its package
LIBRARIES = {
    "nltk.tokenize.treebank": "nltk",
    "sacrebleu.metrics": "sacrebleu",
    "rouge_score.rouge_scorer": "rouge-score",
    "pycocoevalcap.cider.cider_scorer": "pycocoevalcap",
}
BLEU_ORDERS = (1, 2, 3, 4)
ROUGE_KINDS = ("rouge1", "rouge2", "rougeL")
INPUTS = """
Args:
    predictions: captions, one text a picture; an empty one counts as wrong.
    references: for each picture its reference captions, a text or a list of texts, at least one.
Returns:
    {returns}; n pictures.
"""

References = Sequence[str | Sequence[str]]


def caption_words(text: str) -> list[str]:
    """Splits a caption as the measures see it.

    Args:
        text: One or more sentences.

    Returns:
        Words in lower case, without punctuation; "dog's" is two, "black-and-white" one.

    Raises:
        UserError: If nltk is not installed.
    """
    splitter = optional("nltk.tokenize.treebank").TreebankWordTokenizer()
    # The splitter takes its text for one sentence and leaves other full stops on their words.
    apart = re.sub(r"\.(?=\s)", " .", text.lower())
    return [word for word in splitter.tokenize(apart) if word not in PUNCTUATION]


def check_captions(predictions: Sequence[str], references: References) -> tuple[list[str], list[list[str]]]:
    """Brings captions into one form.

    Args:
        predictions: B texts.
        references: B texts or lists of texts.

    Returns:
        B texts and B lists of texts.

    Raises:
        UserError: If their numbers differ, something is no text, or a picture has no reference with a word in it.
    """
    if len(predictions) != len(references):
        raise UserError(f"Found {len(predictions)} predictions for {len(references)} references: give one for each.")
    lists = [[found] if isinstance(found, str) else list(found) for found in references]
    for place, (prediction, texts) in enumerate(zip(predictions, lists, strict=True)):
        if not all(isinstance(text, str) for text in (prediction, *texts)):
            raise UserError(f"Caption {place} or one of its references is no text: give texts.")
        if not texts or not all(caption_words(text) for text in texts):
            raise UserError(
                f"Caption {place} has no reference, or one without a word: give at least one, each of words."
            )
    return list(predictions), lists


def bleu(predictions: Sequence[str], references: References) -> dict[str, float]:
    """BLEU of orders 1 to 4 over all captions together (Papineni et al. 2002), by sacrebleu.

    Clipped n-gram counts are summed over all captions; the geometric mean of the precisions of 1 to N grams, without
    smoothing, times the brevity penalty against the closest reference length.

    Args:
        predictions: B captions.
        references: B texts or lists of texts; their numbers may differ.

    Returns:
        `bleu1` to `bleu4`, each in [0, 1].

    Raises:
        UserError: If sacrebleu is not installed, or as in `check_captions`.
    """
    predictions, references = check_captions(predictions, references)
    measure = optional("sacrebleu.metrics").BLEU
    written = [" ".join(caption_words(text)) for text in predictions]
    split = [[" ".join(caption_words(text)) for text in texts] for texts in references]
    longest = max(map(len, split))
    streams = [[texts[place] if place < len(texts) else None for texts in split] for place in range(longest)]
    scores = {}
    for order in BLEU_ORDERS:
        counted = measure(max_ngram_order=order, smooth_method="none", tokenize="none", force=True)
        scores[f"bleu{order}"] = counted.corpus_score(written, streams).score / 100
    return scores


def rouge(predictions: Sequence[str], references: References) -> list[dict[str, float]]:
    """ROUGE-1, -2 and -L of each caption (Lin 2004), by rouge-score.

    F1 of common unigrams, bigrams and of the longest common subsequence; the reference with the highest counts, for
    each of the three by itself. COCO's ROUGE-L weighs recall with beta = 1.2 and takes the best precision and the best
    recall of different references, so it reads higher.

    Args:
        predictions: B captions.
        references: B texts or lists of texts.

    Returns:
        For each caption `rouge1`, `rouge2`, `rougeL`, in [0, 1].

    Raises:
        UserError: If rouge-score is not installed, or as in `check_captions`.
    """
    predictions, references = check_captions(predictions, references)
    scorer = optional("rouge_score.rouge_scorer").RougeScorer(ROUGE_KINDS, tokenizer=_Words())
    found = [scorer.score_multi(texts, text) for text, texts in zip(predictions, references, strict=True)]
    return [{kind: float(scores[kind].fmeasure) for kind in ROUGE_KINDS} for scores in found]


def cider(predictions: Sequence[str], references: References) -> list[float]:
    """CIDEr-D of each caption (Vedantam et al. 2015, https://arxiv.org/abs/1411.5726), by its authors' code.

    Cosine of tf-idf weighted 1 to 4 grams, clipped and with a Gaussian penalty for length (sigma 6), mean over orders
    and references, times 10. Document frequencies are those of the given references, so the values depend on which
    pictures are measured together.

    Args:
        predictions: B captions, at least 2.
        references: B texts or lists of texts.

    Returns:
        B values in [0, 10].

    Raises:
        UserError: If pycocoevalcap is not installed, there is one picture only, or as in `check_captions`.
    """
    predictions, references = check_captions(predictions, references)
    if len(predictions) < 2:
        raise UserError(
            "CIDEr weighs words by how few of the pictures they describe, and with one picture no word weighs "
            "anything: give captions of at least 2."
        )
    scorer = optional("pycocoevalcap.cider.cider_scorer").CiderScorer(n=4, sigma=6.0)
    for text, texts in zip(predictions, references, strict=True):
        scorer += (" ".join(caption_words(text)), [" ".join(caption_words(reference)) for reference in texts])
    return scorer.compute_score()[1].tolist()


class _Words:
    """`caption_words`, as rouge-score wants it."""

    def tokenize(self, text: str) -> list[str]:
        return caption_words(text)


def check_installed() -> None:
    """Looks for everything that the measures of captions need.

    Raises:
        UserError: If something is not installed.
    """
    for module in LIBRARIES:
        optional(module)


def optional(module: str) -> ModuleType:
    """Imports a library that not every user needs.

    Args:
        module: One of `LIBRARIES`.

    Raises:
        UserError: If it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(
            f"Captions are measured by {LIBRARIES[module]}, which is not installed: run "
            "`pip install 'visual-sentence[captions]'`."
        ) from error
