"""Captions and answers written by a frozen language model that is shown solved examples: words in, sentences out.

Sees words and texts only, and never changes the model.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..completion.base import CompletionModel, PromptTooLongError
from ..errors import UserError
from .prompts import AnswerExample, AnswerPrompt, CaptionExample, CaptionPrompt

CAPTION_TOKENS = 40
ANSWER_TOKENS = 12
DEFAULT_CAPTION_PROMPT, DEFAULT_ANSWER_PROMPT = CaptionPrompt(), AnswerPrompt()
# Writes a prompt with its first so many examples, or with all of them.
Render = Callable[..., str]
# What may stand around an answer's single word.
AROUND_A_WORD = " \t.,;:!?\"'()[]*"


@dataclass(frozen=True)
class WrittenCaption:
    """What the language model wrote about a picture.

    Args:
        text: One sentence without the full stop that ended it; "" where the model wrote nothing before it.
        copied: Whether it is the caption of one of the examples shown, but for case, spaces and punctuation.
    """

    text: str
    copied: bool


@dataclass(frozen=True)
class WrittenAnswer:
    """What the language model answered.

    Args:
        answer: The first word of `text`, without punctuation around it, since a single word was asked for.
        text: All that was written before the stop.
    """

    answer: str
    text: str


class InContextWriter:
    """Writes captions and answers, greedily, in the manner of the examples shown.

    A caption ends at its first full stop, which is left out, or at the end of the line, as an answer does; where the
    model does not come to an end, after `max_new_tokens`. So a caption with "St. Bernard" in it is cut short.

    Args:
        language_model: The frozen model. Prompts that begin alike share its prefix cache.
        max_new_tokens: The most tokens of a text; by default 40 for captions, 12 for answers.
    """

    def __init__(self, language_model: CompletionModel, max_new_tokens: int | None = None):
        self.language_model, self.max_new_tokens = language_model, max_new_tokens

    def caption(
        self,
        words: Sequence[Sequence[str]],
        examples: Sequence[Sequence[CaptionExample]],
        prompt: CaptionPrompt = DEFAULT_CAPTION_PROMPT,
    ) -> list[WrittenCaption]:
        """Writes a caption for each picture.

        Args:
            words: The words of Q pictures.
            examples: Q lists of examples, in the order in which they are shown; the same list again where all pictures
                share it.
            prompt: How the task is written.

        Returns:
            Q captions.

        Raises:
            UserError: If a picture has no words or no examples, or its prompt is longer than the model's context, with
                the number of examples that fit.
        """
        _check(words, examples)
        asked = zip(examples, words, strict=True)
        renders = [lambda count=None, e=shown, w=query: prompt.render(e[:count], w) for shown, query in asked]
        texts = self._complete(renders, prompt.stop, CAPTION_TOKENS)
        copies = [{comparable(example.caption) for example in shown} for shown in examples]
        return [
            WrittenCaption(text, comparable(text) in known and text != "")
            for text, known in zip(texts, copies, strict=True)
        ]

    def answer(
        self,
        words: Sequence[Sequence[str]],
        questions: Sequence[str],
        examples: Sequence[Sequence[AnswerExample]],
        prompt: AnswerPrompt = DEFAULT_ANSWER_PROMPT,
    ) -> list[WrittenAnswer]:
        """Answers a question about each picture.

        Args:
            words: The words of Q pictures.
            questions: Q questions.
            examples: Q lists of examples, in the order in which they are shown.
            prompt: How the task is written.

        Returns:
            Q answers.

        Raises:
            UserError: As `caption`, or if a question is empty or their number is not that of the pictures.
        """
        _check(words, examples)
        if len(questions) != len(words):
            raise UserError(f"Found {len(questions)} questions for {len(words)} pictures: ask one about each.")
        if not all(question.strip() for question in questions):
            raise UserError("A question is empty: ask something.")
        asked = zip(examples, words, questions, strict=True)
        renders = [
            lambda count=None, e=shown, w=query, q=ask: prompt.render(e[:count], w, q) for shown, query, ask in asked
        ]
        texts = self._complete(renders, prompt.stop, ANSWER_TOKENS)
        return [WrittenAnswer(first_word(text), text) for text in texts]

    def _complete(self, renders: Sequence[Render], stop: str, usual_tokens: int) -> list[str]:
        """What the model writes behind each whole prompt, in one line each."""
        max_new_tokens = usual_tokens if self.max_new_tokens is None else self.max_new_tokens
        prompts = [render() for render in renders]
        try:
            return [one_line(text) for text in self.language_model.complete(prompts, max_new_tokens, stop)]
        except PromptTooLongError as error:
            lengths = [self.language_model.count_tokens(prompt) for prompt in prompts]
            known = [length for length in lengths if length is not None]
            if len(known) < len(lengths):
                raise
            render = renders[known.index(max(known))]
            raise UserError(self._advice(render, max_new_tokens, error)) from error

    def _advice(self, render: Render, max_new_tokens: int, error: PromptTooLongError) -> str:
        """How many examples would fit into the longest prompt."""
        found = (
            f"The prompt needs {error.needed} positions, {max_new_tokens} of them for what is to be written, and "
            f"{self.language_model.name} has {error.limit}"
        )
        limit, count = error.limit - max_new_tokens, 0
        while render(count) != render() and (self.language_model.count_tokens(render(count + 1)) or 0) <= limit:
            count += 1
        if count == 0:
            return f"{found}: not one example fits, so use fewer words a picture or a model with a longer context."
        return f"{found}: {count} examples fit, so show no more, or use fewer words a picture or a longer context."


def one_line(text: str) -> str:
    """The first line of a generated text, as one would write it."""
    return " ".join(text.strip(" \t").split("\n")[0].split())


def first_word(text: str) -> str:
    """The first word of a text without the punctuation around it; "" where there is none."""
    words = [word for word in (part.strip(AROUND_A_WORD) for part in text.split()) if word]
    return words[0] if words else ""


def comparable(text: str) -> str:
    """A text without case, punctuation and spaces at its ends, in which words are one space apart."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def _check(words: Sequence[Sequence[str]], examples: Sequence[Sequence]) -> None:
    if len(words) != len(examples):
        raise UserError(
            f"Found examples for {len(examples)} pictures, but {len(words)} pictures: give a list for each."
        )
    for place, (query, shown) in enumerate(zip(words, examples, strict=True), start=1):
        if not query:
            raise UserError(f"Picture {place} has no words, so there is nothing to write about.")
        if not shown:
            raise UserError(f"Picture {place} has no examples, and without them there is no task: show at least one.")
