"""Pictures to captions and answers: words are found, examples chosen, and a frozen language model writes.

`caption` and `answer` load everything and do it in one call; what they are made of stands below them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, IterableDataset
from PIL import Image

from ..completion import CompletionModel, load_completion_model
from ..errors import UserError
from ..image_io import open_image
from ..modeling.image_processing_v2l import to_rgb
from ..words import WordFinder
from .prompts import AnswerExample, AnswerPrompt, CaptionExample, CaptionPrompt
from .selection import PAPER_EXAMPLES, PAPER_WORDS, ChosenExample, ExamplePool, SeenPicture, see
from .tables import Picture, PictureRows, answers_of, captions_of, read_answers, read_captions
from .writer import InContextWriter

# A reference, a table, or (picture, caption) pairs or (picture, question, answer) triples, or columns of them.
Examples = str | Path | PictureRows | Dataset | IterableDataset | Iterable[tuple] | Mapping[str, Sequence]


@dataclass(frozen=True)
class InContextSetting:
    """How captions and answers are written.

    Args:
        num_words: k, words a picture; None for the V2L model's own number. The paper shows 21.
        num_examples: Examples before each picture in question; by default 10 of a table, as in the paper, or all of
            those that are given one by one.
        choose: One of `CHOICES`.
        seed: Of what is drawn at random.
        style: One of `CAPTION_STYLES`.
        max_new_tokens: The most tokens of a text, see `InContextWriter`.
    """

    num_words: int | None = PAPER_WORDS
    num_examples: int | None = None
    choose: str = "random"
    seed: int = 0
    style: str = "plain"
    max_new_tokens: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """The setting as it is printed."""
        return asdict(self)

    def pool(self, rows: PictureRows, finder: WordFinder, given: bool = False, skip_bad: bool = False) -> ExamplePool:
        """The pool that examples are chosen from.

        Args:
            rows: Its rows.
            finder: Finds their words.
            given: Whether the rows were given one by one, so that all are shown unless a number is set.
            skip_bad: As for `ExamplePool`.
        """
        number = self.num_examples if self.num_examples is not None or given else PAPER_EXAMPLES
        return ExamplePool(rows, finder, self.num_words, number, self.choose, self.seed, skip_bad)


DEFAULT_SETTING = InContextSetting()


@dataclass(frozen=True)
class PictureCaption:
    """A picture's caption.

    Args:
        text: One sentence without its full stop; "" where the language model wrote nothing.
        words: The words that it was written from, nearest first.
        copied: Whether it is the caption of an example that was shown, but for case, spaces and punctuation.
    """

    text: str
    words: tuple[str, ...]
    copied: bool


@dataclass(frozen=True)
class PictureAnswer:
    """The answer to a question about a picture.

    Args:
        answer: A single word; "" where the language model wrote nothing.
        text: All that it wrote.
        words: The words that the picture was shown as, nearest first.
    """

    answer: str
    text: str
    words: tuple[str, ...]


def caption(
    images: Picture | Sequence[Picture],
    examples: Examples,
    model: str | WordFinder = "offline",
    language_model: str | CompletionModel | None = None,
    setting: InContextSetting = DEFAULT_SETTING,
    dtype: str = "auto",
    device: str | None = None,
    skip_bad: bool = False,
) -> list[PictureCaption]:
    """Writes captions of pictures in the manner of examples.

    Args:
        images: One picture or several: PIL images or paths.
        examples: What `read_captions` reads (a folder with `metadata.jsonl`, Parquet, a saved data set, a Hub id), or
            what `captions_of` takes: (picture, caption) pairs.
        model: V2L model: "offline", a folder or a Hub id, or one that is loaded already.
        language_model: "offline", a folder, a Hub id or the address of an endpoint, or one that is loaded already; the
            V2L model's own by default.
        setting: Words, examples, prompt.
        dtype: Of the language model, see `load_language_model`.
        device: Where both models are put; the first accelerator by default.
        skip_bad: Whether examples whose picture cannot be read are passed over instead of ending it.

    Returns:
        A caption for each picture.

    Raises:
        UserError: If a model, a picture or the examples cannot be used.
    """
    rows = example_rows(examples, read_captions, captions_of)
    finder, loaded = load_models(model, language_model, dtype, device)
    pool = setting.pool(rows, finder, not is_table(examples), skip_bad)
    seen = list(see(finder, open_pictures(images), setting.num_words))
    chosen = [pool.examples_for(picture) for picture in seen]
    return write_captions(seen, chosen, InContextWriter(loaded, setting.max_new_tokens), CaptionPrompt(setting.style))


def answer(
    images: Picture | Sequence[Picture],
    questions: str | Sequence[str],
    examples: Examples,
    model: str | WordFinder = "offline",
    language_model: str | CompletionModel | None = None,
    setting: InContextSetting = DEFAULT_SETTING,
    dtype: str = "auto",
    device: str | None = None,
    skip_bad: bool = False,
) -> list[PictureAnswer]:
    """Answers questions about pictures in the manner of examples; as `caption`.

    Args:
        images: As `caption`.
        questions: One question about all pictures, or one about each.
        examples: What `read_answers` reads, or what `answers_of` takes: (picture, question, answer) triples.
        model: As `caption`.
        language_model: As `caption`.
        setting: As `caption`.
        dtype: As `caption`.
        device: As `caption`.
        skip_bad: As `caption`.

    Returns:
        An answer for each picture.

    Raises:
        UserError: As `caption`.
    """
    rows = example_rows(examples, read_answers, answers_of)
    finder, loaded = load_models(model, language_model, dtype, device)
    pool = setting.pool(rows, finder, not is_table(examples), skip_bad)
    seen = list(see(finder, open_pictures(images), setting.num_words))
    asked = [questions] * len(seen) if isinstance(questions, str) else list(questions)
    if len(asked) != len(seen):
        raise UserError(f"Found {len(asked)} questions for {len(seen)} pictures: ask one about each, or one about all.")
    chosen = [pool.examples_for(picture) for picture in seen]
    writer = InContextWriter(loaded, setting.max_new_tokens)
    return write_answers(seen, asked, chosen, writer, AnswerPrompt(setting.style))


def write_captions(
    seen: Sequence[SeenPicture],
    chosen: Sequence[Sequence[ChosenExample]],
    writer: InContextWriter,
    prompt: CaptionPrompt,
) -> list[PictureCaption]:
    """Writes a caption for each picture that was looked at.

    Args:
        seen: Q pictures.
        chosen: Q lists of examples, see `ExamplePool.examples_for`.
        writer: Asks the language model.
        prompt: How the task is written.

    Raises:
        UserError: As `InContextWriter.caption`.
    """
    examples = [[CaptionExample(one.seen.words, one.row.texts[0]) for one in some] for some in chosen]
    written = writer.caption([picture.words for picture in seen], examples, prompt)
    return [
        PictureCaption(found.text, picture.words, found.copied) for picture, found in zip(seen, written, strict=True)
    ]


def write_answers(
    seen: Sequence[SeenPicture],
    questions: Sequence[str],
    chosen: Sequence[Sequence[ChosenExample]],
    writer: InContextWriter,
    prompt: AnswerPrompt,
) -> list[PictureAnswer]:
    """Answers a question about each picture that was looked at; as `write_captions`."""
    examples = [
        [AnswerExample(one.seen.words, one.row.question or "", one.row.texts[0]) for one in some] for some in chosen
    ]
    written = writer.answer([picture.words for picture in seen], questions, examples, prompt)
    return [
        PictureAnswer(found.answer, found.text, picture.words) for picture, found in zip(seen, written, strict=True)
    ]


def is_table(examples: Examples) -> bool:
    """Whether examples are a table or a reference to one, not rows given one by one."""
    return isinstance(examples, (str, Path, PictureRows, Dataset, IterableDataset))


def example_rows(
    examples: Examples, read: Callable[[Any], PictureRows], of_given: Callable[[Any], PictureRows]
) -> PictureRows:
    """The rows of examples in any form.

    Args:
        examples: A reference, a data set, rows that were read already, or rows given one by one.
        read: `read_captions` or `read_answers`.
        of_given: `captions_of` or `answers_of`.

    Raises:
        UserError: If they cannot be used.
    """
    if isinstance(examples, PictureRows):
        return examples
    return read(examples) if is_table(examples) else of_given(examples)


def load_models(
    model: str | WordFinder,
    language_model: str | CompletionModel | None,
    dtype: str = "auto",
    device: str | None = None,
) -> tuple[WordFinder, CompletionModel]:
    """Loads the V2L model, and the language model that it names or another one, where they are not loaded yet.

    Raises:
        UserError: If one of them cannot be loaded.
    """
    finder = model if isinstance(model, WordFinder) else WordFinder.load(model, device=device)
    if isinstance(language_model, CompletionModel):
        return finder, language_model
    reference = language_model or finder.model.config.language_model or "offline"
    return finder, load_completion_model(reference, dtype=dtype, device=device)


def open_pictures(images: Picture | Sequence[Picture]) -> list[Image.Image]:
    """One picture or several, opened."""
    several = [images] if isinstance(images, Picture) else images
    return [to_rgb(image) if isinstance(image, Image.Image) else open_image(image) for image in several]
