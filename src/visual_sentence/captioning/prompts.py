"""The texts that ask a language model for a caption, or for the answer to a question about a picture.

Pure text: knows no tokenizer and no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import UserError


class CaptionExample(NamedTuple):
    """A picture's words with its caption.

    Args:
        words: The words of one image, nearest first.
        caption: One sentence.
    """

    words: tuple[str, ...]
    caption: str


class AnswerExample(NamedTuple):
    """A picture's words with a question and its answer.

    Args:
        words: The words of one image, nearest first.
        question: What is asked about the picture.
        answer: What is right.
    """

    words: tuple[str, ...]
    question: str
    answer: str


@dataclass(frozen=True)
class _Style:
    """How one style writes a task.

    Args:
        instruction: Opens the prompt.
        query: What precedes the text to be written; `{words}` and `{question}` stand for what is asked about.
        separator: Stands between two words of an image.
        after_example: Follows an example's caption or answer.
        stop: Ends a generated caption or answer.
    """

    instruction: str
    query: str
    separator: str
    after_example: str
    stop: str


_CAPTION_STYLES = {
    "plain": _Style(
        "Each line has the words of a photo and then its caption.\n",
        "{words} ->",
        ", ",
        ".\n",
        ".",
    ),
    "paper": _Style(
        "Generate a caption sentence based on words describing an image. ",
        "Input: {words}, output:",
        " ",
        ". ",
        ".",
    ),
}
_ANSWER_STYLES = {
    "plain": _Style(
        "Each line has the words of a photo, a question about it and the answer in a single word.\n",
        "{words} -> {question} ->",
        ", ",
        "\n",
        "\n",
    ),
    "paper": _Style(
        "Answer the question with a single word based on the condition. ",
        "Condition: {words}. Question: {question}. Answer:",
        " ",
        ". ",
        ".",
    ),
}
CAPTION_STYLES = tuple(_CAPTION_STYLES)


@dataclass(frozen=True)
class CaptionPrompt:
    """Writes examples and a picture's words as the text that a language model continues with a caption.

    Styles:

    - `plain`: a line a picture, words and caption with an arrow between them. A small model that is asked so runs on
      less often (docs/captioning.md).
    - `paper`: the V2L Tokenizer paper's wording (arXiv:2403.07874, section 3.3). The paper does not say how the words
      of an image are joined; here it is a space.

    Args:
        style: One of `CAPTION_STYLES`.

    Raises:
        UserError: If there is no such style.
    """

    style: str = "plain"

    def __post_init__(self):
        _check_style(self.style)

    @property
    def stop(self) -> str:
        """The text at which a generated caption ends; it is no part of the caption."""
        return _CAPTION_STYLES[self.style].stop

    def render(self, examples: Sequence[CaptionExample], words: Sequence[str]) -> str:
        """Writes the whole prompt, up to where the caption begins.

        Args:
            examples: Captioned pictures, in the order in which they are shown. Full stops that end their captions are
                left out, since the style writes its own.
            words: The words of the picture in question.

        Returns:
            The text, without a space at its end: the language model writes it.
        """
        style = _CAPTION_STYLES[self.style]
        shown = [
            f"{_query(style, example.words)} {without_stop(example.caption)}{style.after_example}"
            for example in examples
        ]
        return style.instruction + "".join(shown) + _query(style, words)


@dataclass(frozen=True)
class AnswerPrompt:
    """Writes examples, a picture's words and a question as the text that a language model continues with an answer.

    The styles are those of `CaptionPrompt`; in both the instruction asks for a single word. The paper's pattern
    "Question: Q. Answer:" puts a full stop behind every question, behind a question mark too.

    Args:
        style: One of `CAPTION_STYLES`.

    Raises:
        UserError: If there is no such style.
    """

    style: str = "plain"

    def __post_init__(self):
        _check_style(self.style)

    @property
    def stop(self) -> str:
        """The text at which a generated answer ends; it is no part of the answer."""
        return _ANSWER_STYLES[self.style].stop

    def render(self, examples: Sequence[AnswerExample], words: Sequence[str], question: str) -> str:
        """Writes the whole prompt, up to where the answer begins.

        Args:
            examples: Answered questions, in the order in which they are shown.
            words: The words of the picture in question.
            question: What is asked about it.

        Returns:
            The text, without a space at its end: the language model writes it.
        """
        style = _ANSWER_STYLES[self.style]
        shown = [
            f"{_query(style, example.words, example.question)} {without_stop(example.answer)}{style.after_example}"
            for example in examples
        ]
        return style.instruction + "".join(shown) + _query(style, words, question)


def without_stop(text: str) -> str:
    """A text in one line, without the full stops that end it."""
    return " ".join(text.split()).rstrip(". ")


def _check_style(style: str) -> None:
    if style not in CAPTION_STYLES:
        raise UserError(
            f"There is no prompt style {style!r} for captions and answers: use {' or '.join(CAPTION_STYLES)}."
        )


def _query(style: _Style, words: Sequence[str], question: str = "") -> str:
    # A line break inside a word would read as the end of the line of words.
    joined = style.separator.join(" ".join(word.split()) for word in words)
    return style.query.format(words=joined, question=without_stop(question))
