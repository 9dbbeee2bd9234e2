"""Runs the demo: photographs to words, a question answered, visual sentences completed; pictures and one page."""

from pathlib import Path

from ..completion import load_completion_model
from ..errors import UserError
from ..few_shot import ClassificationPrompt, Example, InContextClassifier
from ..references import OFFLINE
from ..words import WordFinder
from .page import render_page
from .results import EXAMPLES, QUESTION, DemoResult, WordsResult
from .sentences import show_sentences
from .words_picture import draw_words, load_photographs

PAGE, WORDS_PICTURE = "index.html", "words.png"


def run_demo(
    output_dir: str | Path, model: str = OFFLINE, language_model: str = OFFLINE, simlvm: str = "default"
) -> DemoResult:
    """Runs the demo and writes its pictures and page.

    Args:
        output_dir: Where `words.png`, the sheets of visual sentences and `index.html` are written.
        model: V2L model: "offline", a folder or a Hub id.
        language_model: "offline", a folder or a Hub id.
        simlvm: SimLVM: "default" for the one that ships, a folder or a Hub id.

    Raises:
        UserError: If scikit-image is not installed or the folder cannot be written.
    """
    output = Path(output_dir)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(output, error) from error
    photographs = load_photographs()
    found = _find_words(photographs, model, language_model)
    try:
        draw_words(photographs, found).save(output / WORDS_PICTURE)
    except OSError as error:
        raise _unwritable(output, error) from error
    result = DemoResult(found, show_sentences(output, simlvm))
    try:
        (output / PAGE).write_text(render_page(result, WORDS_PICTURE), encoding="utf-8")
    except OSError as error:
        raise _unwritable(output, error) from error
    return result


def _find_words(photographs: dict, model: str, language_model: str) -> WordsResult:
    """Words of the photographs, and which of the examples' classes the question is."""
    finder = WordFinder.load(model)
    words = {name: found.words for name, found in zip(photographs, finder.find(photographs.values()), strict=True)}
    prompt = ClassificationPrompt()
    classifier = InContextClassifier(load_completion_model(language_model), prompt=prompt)
    support = [Example(tuple(words[file]), label) for label, file in EXAMPLES.items()]
    answer = classifier.classify(support, [words[QUESTION]], list(EXAMPLES))[0]
    return WordsResult(words, answer.scores, prompt.render(support, words[QUESTION], list(EXAMPLES)))


def _unwritable(output: Path, error: OSError) -> UserError:
    return UserError(f"{output} cannot be written ({error.strerror}): choose another folder with --output.")


__all__ = ["run_demo"]
