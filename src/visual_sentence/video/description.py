"""What a frame shows, in a text: the words that a V2L model finds, or a caption written in the manner of examples."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from PIL import Image

from ..captioning import CaptionPrompt, ExamplePool, InContextSetting, InContextWriter, PictureRows, read_captions
from ..captioning.pictures import load_models, write_captions
from ..captioning.selection import see
from ..words import WordFinder

WORDS, CAPTION, NONE = "words", "caption", "none"


class Describer(ABC):
    """Describes pictures.

    Attributes:
        kind: "words", "caption" or "none"; stands beside each description, since they are of very different worth.
    """

    kind: str

    @abstractmethod
    def describe(self, images: Sequence[Image.Image]) -> list[str]:
        """A text about each of Q pictures (RGB), in order."""


class NoDescriber(Describer):
    """Leaves descriptions empty."""

    kind = NONE

    def describe(self, images: Sequence[Image.Image]) -> list[str]:
        """An empty text for each picture."""
        return [""] * len(images)


class WordDescriber(Describer):
    """A picture's nearest words, separated by commas; needs no language model.

    Args:
        finder: The V2L model.
        num_words: k; None for the model's own number.
    """

    kind = WORDS

    def __init__(self, finder: WordFinder, num_words: int | None = None):
        self.finder, self.num_words = finder, num_words

    def describe(self, images: Sequence[Image.Image]) -> list[str]:
        """The words of each picture, nearest first.

        Raises:
            UserError: If more words are asked for than the codebook has distinct ones.
        """
        return [", ".join(found.words) for found in self.finder.find(images, self.num_words, total=len(images))]


class CaptionDescriber(Describer):
    """A sentence about a picture, written by a frozen language model that is shown captioned pictures.

    Args:
        pool: The captioned pictures.
        writer: Asks the language model.
        setting: Words and prompt.
    """

    kind = CAPTION

    def __init__(self, pool: ExamplePool, writer: InContextWriter, setting: InContextSetting):
        self.pool, self.writer, self.setting = pool, writer, setting

    def describe(self, images: Sequence[Image.Image]) -> list[str]:
        """A caption of each picture; "" where the language model wrote nothing.

        Raises:
            UserError: If there are too few examples, or a prompt is longer than the model's context.
        """
        seen = list(see(self.pool.finder, images, self.setting.num_words, len(images)))
        chosen = [self.pool.examples_for(picture) for picture in seen]
        return [found.text for found in write_captions(seen, chosen, self.writer, CaptionPrompt(self.setting.style))]


def load_describer(
    model: str = "offline",
    examples: str | PictureRows | None = None,
    language_model: str | None = None,
    num_words: int | None = None,
    setting: InContextSetting | None = None,
    dtype: str = "auto",
    device: str | None = None,
) -> Describer:
    """Loads what describes frames: captions where there are captioned pictures to show, else words.

    Args:
        model: V2L model: "offline", a folder or a Hub id.
        examples: Captioned pictures, see `read_captions`; None for words.
        language_model: Of captions: "offline", a folder, a Hub id or a server's address; by default the
            V2L model's own.
        num_words: Of words: how many of each picture; by default the model's own number.
        setting: Of captions: how they are written.
        dtype: Of the language model.
        device: Where the models are put; the first accelerator by default.

    Raises:
        UserError: If a model or the examples cannot be used.
    """
    if examples is None:
        return WordDescriber(WordFinder.load(model, device), num_words)
    setting = setting or InContextSetting()
    rows = examples if isinstance(examples, PictureRows) else read_captions(examples)
    finder, loaded = load_models(model, language_model, dtype, device)
    return CaptionDescriber(setting.pool(rows, finder), InContextWriter(loaded, setting.max_new_tokens), setting)
