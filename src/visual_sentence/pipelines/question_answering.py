"""`pipeline("visual-question-answering-in-context")`: answers about pictures, after the manner of answered questions.

The name is not transformers' own `visual-question-answering`, whose models answer without examples.
"""

from collections.abc import Mapping
from typing import Any

from ..captioning.pictures import example_rows, write_answers
from ..captioning.prompts import AnswerPrompt
from ..captioning.tables import PictureRows, answers_of, read_answers
from ..errors import UserError
from .captioning import InContextPipeline

QUESTION_ANSWERING_TASK = "visual-question-answering-in-context"


class VisualQuestionAnsweringPipeline(InContextPipeline):
    """Answers to questions about pictures by a frozen language model.

    Args:
        model: A `V2LModel` with a vocabulary.
        language_model: A `LanguageModel`, a `CompletionModel`, or a reference to load one from or the address of a
            served one; by default the one whose vocabulary the V2L model's words come from.
        **kwargs: As for every pipeline (`image_processor`, `device`, `batch_size`, ...); and defaults for what a call
            takes.

    Example:
        >>> ask = pipeline("visual-question-answering-in-context", model=offline_folder("v2l"))
        >>> shown = [("cat.jpg", "What animal is this?", "cat"), ("car.jpg", "Is this a vehicle?", "yes")]
        >>> ask({"image": "new.jpg", "question": "What animal is this?"}, examples=shown)
        {'answer': 'dog', 'generated_text': 'dog', 'words': ['puppy', ...]}
    """

    task_name = QUESTION_ANSWERING_TASK
    form = "(image, question, answer)"
    forward_parameters = (*InContextPipeline.forward_parameters, "question")

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Answers questions.

        Args:
            inputs: `{"image": ..., "question": ...}`, a list of such, or anything that pipelines stream from; pictures
                alone where `question` is given.
            question: Asked about every picture that comes without a question of its own.
            examples: (picture, question, answer) triples, or `{"image": [...], "question": [...], "answer": [...]}`;
                or a folder with `metadata.jsonl`, Parquet files, a saved data set or a Hub id, see
                `visual_sentence.captioning.read_answers`.
            num_words: As for `VisualCaptioningPipeline`.
            num_examples: As for `VisualCaptioningPipeline`.
            choose: As for `VisualCaptioningPipeline`.
            seed: As for `VisualCaptioningPipeline`.
            prompt_style: As for `VisualCaptioningPipeline`.
            max_new_tokens: As for `VisualCaptioningPipeline`.
            on_error: "raise", or "report" an input that cannot be read in its place, see `VisualPipeline`.

        Returns:
            For each input `{"answer", "generated_text", "words"}`: a single word ("" where the model wrote nothing),
            all that it wrote, and the words that it read for the picture.

        Raises:
            UserError: If a question or examples are missing, or a value is not as described.
        """
        return super().__call__(inputs, **kwargs)

    @staticmethod
    def rows(examples: Any) -> PictureRows:
        """The answered questions."""
        return example_rows(examples, read_answers, answers_of)

    @staticmethod
    def prompt(style: str) -> AnswerPrompt:
        """How answers are asked for."""
        return AnswerPrompt(style)

    def read(self, image: Any) -> dict[str, Any]:
        """A picture and its question, None where it has none of its own."""
        question = image.get("question") if isinstance(image, Mapping) else None
        if question is not None and not (isinstance(question, str) and question.strip()):
            raise UserError(f"The question of an input is {question!r:.60}: ask something, in text.")
        return {**super().read(image), "question": question}

    def answer(
        self, inputs: dict[str, Any], examples: Any = None, question: str | None = None, **settings: Any
    ) -> dict[str, list]:
        """The answers about B pictures."""
        questions = [asked for own in inputs["question"] if (asked := own or question) is not None]
        if len(questions) < len(inputs["question"]):
            raise UserError(
                f'{self.task_name} needs a question: give inputs as {{"image": ..., "question": ...}}, or question=...'
            )
        setting = self.setting(**settings)
        seen = self.see(inputs, setting)
        chosen = self.choose(seen, examples, setting)
        written = write_answers(seen, questions, chosen, self.writer(setting), self.prompt(setting.style))
        return {
            "answer": [answer.answer for answer in written],
            "generated_text": [answer.text for answer in written],
            "words": [list(answer.words) for answer in written],
        }

    def finish(self, row: dict[str, Any]) -> dict[str, Any]:
        """The answer about one picture."""
        return row
