"""The texts that ask a language model for a class: three ways to write the same question.

Pure text: knows no tokenizer and no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import UserError

CONTENT_FREE = "N/A"


class Example(NamedTuple):
    """A solved pair of the support set.

    Args:
        words: The words of one image.
        label: Its class name.
    """

    words: tuple[str, ...]
    label: str


@dataclass(frozen=True)
class _Style:
    """How one style writes questions and answers.

    Args:
        question: What precedes the answer; `{words}` stands for the words of an image.
        separator: Stands between two words.
        lead: Stands between question and label.
        after_example: Follows the label of an example, before the next question.
        ending: The first text after a label: `after_example`, or where that says too little the next
            question's head.
        stop: Where a generated answer is cut off.
    """

    question: str
    separator: str
    lead: str
    after_example: str
    ending: str
    stop: str


_STYLES = {
    "plain": _Style("Words: {words}\nThe photo shows:", ", ", " ", "\n\n", "\n\n", "\n"),
    "paper": _Style("Input: {words}, output:", " ", " ", ". ", ".", "."),
    "published-code": _Style("###\nInput: < {words} >\nOutput: ", "", "", "", "###", "###"),
}
PROMPT_STYLES = tuple(_STYLES)


@dataclass(frozen=True)
class ClassificationPrompt:
    """Writes a support set and a query as the text that a language model continues with a class name.

    Styles:

    - `plain`: short English sentences, one question a line. Small models answer it best when scores are
      calibrated.
    - `paper`: the V2L Tokenizer paper's wording (arXiv:2403.07874, section 3.3). The paper does not say how
      the words of an image are joined; here it is a space.
    - `published-code`: the text of the paper's published `eval_understanding.py`, with its unbalanced
      brackets, class names with underscores and in alphabetical order, words without a separator, and the
      space after `Output:`. That program tokenizes the pieces one by one, here the whole text is tokenized at
      once.

    Args:
        style: One of `PROMPT_STYLES`.
        induction: Whether the text opens with the instruction that names the classes (the paper's task
            induction). Without it the text begins with the first example, in every style.
        repetitions: How many more times the whole support set is written (the paper's repeats).

    Raises:
        UserError: If a value is not allowed.
    """

    style: str = "plain"
    induction: bool = True
    repetitions: int = 0

    def __post_init__(self):
        if self.style not in PROMPT_STYLES:
            raise UserError(f"There is no prompt style {self.style!r}: use one of {', '.join(PROMPT_STYLES)}.")
        if not isinstance(self.induction, bool):
            raise UserError(f"induction must be True or False, got {self.induction!r}.")
        if isinstance(self.repetitions, bool) or not isinstance(self.repetitions, int) or self.repetitions < 0:
            raise UserError(f"repetitions must be a whole number from 0 upwards, got {self.repetitions!r}.")

    @property
    def stop(self) -> str:
        """The text at which a generated answer ends."""
        return _STYLES[self.style].stop

    @property
    def ending(self) -> str:
        """The text that follows an answer in the prompt: it tells "dog" from the beginning of "dog sled"."""
        return _STYLES[self.style].ending

    def answer(self, label: str) -> str:
        """The text that follows the prompt where `label` is the answer, its leading space included."""
        return _STYLES[self.style].lead + self._class_name(label)

    def render(self, support: Sequence[Example], query_words: Sequence[str], class_names: Sequence[str]) -> str:
        """Writes the whole prompt, up to where the answer begins.

        Args:
            support: Solved pairs, in the order in which they are shown.
            query_words: The words of the image in question.
            class_names: The labels to choose from, in the order in which the instruction names them.

        Returns:
            The text.
        """
        return self._render(support, self._join(query_words), class_names)

    def render_content_free(self, support: Sequence[Example], class_names: Sequence[str]) -> str:
        """Writes the prompt with "N/A" in place of the query's words.

        What a model answers here is its bias towards each label (Zhao et al., "Calibrate Before Use",
        arXiv:2102.09690).

        Args:
            support: Solved pairs, in the order in which they are shown.
            class_names: The labels to choose from, in the order in which the instruction names them.

        Returns:
            The text.
        """
        return self._render(support, CONTENT_FREE, class_names)

    def _render(self, support: Sequence[Example], query: str, class_names: Sequence[str]) -> str:
        style = _STYLES[self.style]
        examples = [
            style.question.format(words=self._join(words)) + self.answer(label) + style.after_example
            for words, label in support
        ]
        instruction = self._instruction(class_names) if self.induction else ""
        return instruction + "".join(examples) * (self.repetitions + 1) + style.question.format(words=query)

    def _instruction(self, class_names: Sequence[str]) -> str:
        names = [self._class_name(name) for name in class_names]
        if self.style == "plain":
            return f"The words describe a photo. The photo shows one of: {', '.join(names)}.\n\n"
        if self.style == "paper":
            quoted = ", ".join(f'"{name}"' for name in names)
            return f"For each of the following input-output pairs, output is one of [{quoted}]. "
        opened = " or ".join(f"['{name}'" for name in sorted(names))
        return f"For each of the following input output pairs, output is one of {opened}]\n"

    def _class_name(self, label: str) -> str:
        separator = "_" if self.style == "published-code" else " "
        return separator.join(label.split())

    def _join(self, words: Sequence[str]) -> str:
        # A line break inside a word would read as the end of the question.
        return _STYLES[self.style].separator.join(" ".join(word.split()) for word in words)
