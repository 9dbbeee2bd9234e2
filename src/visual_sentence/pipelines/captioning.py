"""`pipeline("visual-captioning")`: captions of pictures, written in the manner of a few captioned pictures.

The V2L model writes every picture as words; a frozen language model reads the examples' words with their captions and
writes a sentence for the new words (V2L Tokenizer, section 3.3).
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..captioning.pictures import InContextSetting, example_rows, is_table, write_captions
from ..captioning.prompts import CaptionPrompt
from ..captioning.selection import CHOICES, ChosenExample, ExamplePool, SeenPicture, picture_digest
from ..captioning.tables import PictureRows, captions_of, read_captions
from ..captioning.writer import InContextWriter
from ..errors import UserError
from ..words import WordFinder
from .base import VisualPipeline
from .inputs import Picture, open_picture

CAPTIONING_TASK = "visual-captioning"
SETTINGS = ("num_words", "num_examples", "choose", "seed", "prompt_style", "max_new_tokens")


class InContextPipeline(VisualPipeline):
    """A pipeline that shows a language model solved pictures before each picture in question.

    Class attributes:
        form: What one example looks like, for messages.
    """

    forward_parameters = ("examples", *SETTINGS)
    form: str

    def __init__(self, *args: Any, **kwargs: Any):
        # Before the parameters of the construction are checked, which may fill it.
        self._pool: tuple[Any, ExamplePool] | None = None
        super().__init__(*args, **kwargs)

    @staticmethod
    @abstractmethod
    def rows(examples: Any) -> PictureRows:
        """The rows of examples in any form."""

    @staticmethod
    @abstractmethod
    def prompt(style: str) -> Any:
        """How the task is written."""

    def check(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Refuses examples and choices that cannot be, before a picture is read."""
        if "examples" in parameters:
            examples = parameters["examples"]
            if isinstance(examples, Iterable) and not is_table(examples) and not isinstance(examples, Mapping):
                parameters["examples"] = examples = list(examples)  # a generator would be empty at the next batch
            if not isinstance(examples, (str, Path)):
                self.rows(examples)
        if parameters.get("choose", CHOICES[0]) not in CHOICES:
            raise UserError(f"There is no way {parameters['choose']!r} to choose examples: use {' or '.join(CHOICES)}.")
        if "prompt_style" in parameters:
            self.prompt(parameters["prompt_style"])
        return parameters

    def read(self, image: Picture) -> dict[str, Any]:
        """`global_pixel_values` [1, 3, S, S] of a picture, and the name of its pixels."""
        picture = open_picture(image)
        views = self.image_processor([picture], return_tensors="pt", do_local_view=False)
        return {**views, "digest": picture_digest(picture)}

    def see(self, inputs: dict[str, Any], setting: InContextSetting) -> list[SeenPicture]:
        """The words of B pictures, given what `read` gave."""
        try:
            output = self.model.encode(
                global_pixel_values=inputs["global_pixel_values"], num_global_tokens=setting.num_words
            )
        except ValueError as error:
            raise UserError(str(error)) from error
        words = map(tuple, output.global_words)
        return list(map(SeenPicture, words, output.image_embeds.cpu(), inputs["digest"]))

    def setting(self, prompt_style: str = "plain", **settings: Any) -> InContextSetting:
        """The setting of a call."""
        return InContextSetting(style=prompt_style, **settings)

    def choose(self, seen: list[SeenPicture], examples: Any, setting: InContextSetting) -> list[list[ChosenExample]]:
        """The examples of B pictures; the words of the pool are kept for the next call."""
        if examples is None:
            raise UserError(
                f"{self.task_name} needs examples: pass examples=[{self.form}, ...], or a folder, a Parquet file or a "
                "Hub id."
            )
        key = (examples, setting)
        if self._pool is None or self._pool[0] != key:
            finder = WordFinder(self.model, self.image_processor)
            self._pool = (key, setting.pool(self.rows(examples), finder, given=not is_table(examples)))
        return [self._pool[1].examples_for(picture) for picture in seen]

    def writer(self, setting: InContextSetting) -> InContextWriter:
        """Asks the language model, whose prefix cache is kept from call to call."""
        return InContextWriter(self.completion_model, setting.max_new_tokens)


class VisualCaptioningPipeline(InContextPipeline):
    """Captions of pictures by a frozen language model.

    Args:
        model: A `V2LModel` with a vocabulary.
        language_model: A `LanguageModel`, a `CompletionModel`, or a reference to load one from or the address of a
            served one; by default the one whose vocabulary the V2L model's words come from.
        **kwargs: As for every pipeline (`image_processor`, `device`, `batch_size`, ...); and defaults for what a call
            takes.

    Example:
        >>> describe = pipeline("visual-captioning", model=offline_folder("v2l"))
        >>> describe("new.jpg", examples="captions.parquet")
        {'generated_text': 'A bathroom with a toilet and a sink', 'words': ['toilet', ...], 'copied': False}
    """

    task_name = CAPTIONING_TASK
    form = "(image, caption)"

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Writes captions.

        Args:
            inputs: One picture (PIL, path or URL), a list, or anything that pipelines stream from.
            examples: Captioned pictures: (picture, caption) pairs, or `{"image": [...], "caption": [...]}`; or a
                folder with `metadata.jsonl`, Parquet files, a saved data set or a Hub id, see
                `visual_sentence.captioning.read_captions`.
            num_words: k, words a picture; 21 by default, None for the model's own number.
            num_examples: Examples before each picture; by default 10 of a table, all of those given as pairs.
            choose: "random" (drawn once) or "nearest" (of each picture, by their embeddings).
            seed: Of the draw.
            prompt_style: One of `CAPTION_STYLES`.
            max_new_tokens: The most tokens of a caption.
            on_error: "raise", or "report" a picture that cannot be read in its place, see `VisualPipeline`.

        Returns:
            For each picture `{"generated_text", "words", "copied"}`: a sentence without its full stop ("" where the
            model wrote nothing), the words that it was written from, and whether it is an example's caption.

        Raises:
            UserError: If examples are missing, too few, or a value is not as described.
        """
        return super().__call__(inputs, **kwargs)

    @staticmethod
    def rows(examples: Any) -> PictureRows:
        """The captioned pictures."""
        return example_rows(examples, read_captions, captions_of)

    @staticmethod
    def prompt(style: str) -> CaptionPrompt:
        """How captions are asked for."""
        return CaptionPrompt(style)

    def answer(self, inputs: dict[str, Any], examples: Any = None, **settings: Any) -> dict[str, list]:
        """The captions of B pictures."""
        setting = self.setting(**settings)
        seen = self.see(inputs, setting)
        chosen = self.choose(seen, examples, setting)
        written = write_captions(seen, chosen, self.writer(setting), self.prompt(setting.style))
        return {
            "generated_text": [caption.text for caption in written],
            "words": [list(caption.words) for caption in written],
            "copied": [caption.copied for caption in written],
        }

    def finish(self, row: dict[str, Any]) -> dict[str, Any]:
        """The caption of one picture."""
        return row
