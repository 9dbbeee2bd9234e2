"""Runs the demo: words, a question, reconstruction, restorations, visual sentences; pictures and one page."""

from pathlib import Path

from PIL import Image

from ..completion import LocalCompletions
from ..errors import UserError
from ..few_shot import ClassificationPrompt, Example, InContextClassifier
from ..language import LanguageModel, load_language_model
from ..reconstruction import load_image_codec
from ..references import OFFLINE
from ..shipped import DEFAULT
from ..words import WordFinder
from .local_words import show_reconstruction, show_restorations
from .page import render_page
from .results import EXAMPLES, QUESTION, TISSUE, DemoResult, WordsResult
from .sentences import show_sentences
from .words_picture import draw_words, load_photographs

PAGE, WORDS_PICTURE = "index.html", "words.png"


def run_demo(
    output_dir: str | Path,
    model: str = OFFLINE,
    language_model: str = OFFLINE,
    simlvm: str = DEFAULT,
    local_model: str = DEFAULT,
) -> DemoResult:
    """Runs the demo and writes its pictures and page.

    Args:
        output_dir: Where `words.png`, the sheets and `index.html` are written.
        model: V2L model that finds words for whole pictures: "offline", "default", a folder or a Hub id.
        language_model: "offline", a folder or a Hub id.
        simlvm: SimLVM: "default" for the one that ships, a folder or a Hub id.
        local_model: V2L model with a local half: "default" for the one that ships, a folder or a Hub id.

    Raises:
        UserError: If scikit-image is not installed or the folder cannot be written.
    """
    output = Path(output_dir)
    photographs = load_photographs()
    section = photographs.pop(TISSUE)
    try:
        output.mkdir(parents=True, exist_ok=True)
        language = load_language_model(language_model)
        found = _find_words(photographs, model, language)
        draw_words(photographs, found).save(output / WORDS_PICTURE)
        codec = load_image_codec(local_model)
        reconstruction = show_reconstruction(output, photographs, codec)
        restorations = show_restorations(output, photographs, codec, language)
        result = DemoResult(found, reconstruction, restorations, show_sentences(output, simlvm, section))
        (output / PAGE).write_text(render_page(result, WORDS_PICTURE), encoding="utf-8")
    except OSError as error:
        if error.strerror is None:  # of a library, and of no file
            raise
        raise UserError(
            f"{output} cannot be written ({error.strerror}): choose another folder with --output."
        ) from error
    return result


def _find_words(photographs: dict[str, Image.Image], model: str, language_model: LanguageModel) -> WordsResult:
    """Words of the photographs, and which of the examples' classes the question is."""
    finder = WordFinder.load(model)
    words = {name: found.words for name, found in zip(photographs, finder.find(photographs.values()), strict=True)}
    prompt = ClassificationPrompt()
    classifier = InContextClassifier(LocalCompletions(language_model), prompt=prompt)
    support = [Example(tuple(words[file]), label) for label, file in EXAMPLES.items()]
    answer = classifier.classify(support, [words[QUESTION]], list(EXAMPLES))[0]
    return WordsResult(words, answer.scores, prompt.render(support, words[QUESTION], list(EXAMPLES)))


__all__ = ["run_demo"]
