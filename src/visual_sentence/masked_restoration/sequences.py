"""Pictures as sequences of a language model's tokens: global words in front, local words row by row behind them.

V2L Tokenizer, appendix A: the global tokens are a text prefix of the local ones. In front of both stands one begin
token, since a model says nothing of the first token that it reads. Knows no training and no masks.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerBase

from ..completion.questions import pad
from ..errors import UserError
from ..language import LanguageModel
from ..progress import progress_bar
from ..reconstruction import ImageCodec, ImageTokens
from ..restoration.vocabulary import check_vocabulary
from ..words import WordFinder, batched

SEQUENCES_FILE = "sequences.safetensors"


@dataclass(frozen=True)
class SequenceFormat:
    """How a picture is written.

    Args:
        grid: (h, w), local tokens of a picture.
        num_global_words: k, global words in front of them; 0 for none.
        start_id: The token that every sequence begins with.
    """

    grid: tuple[int, int]
    num_global_words: int
    start_id: int

    @property
    def length(self) -> int:
        """L = h * w, local tokens of a picture."""
        return self.grid[0] * self.grid[1]


@dataclass(frozen=True)
class ImageSequences:
    """N pictures as tokens.

    Args:
        prefixes: What stands in front of the local tokens of each: the begin token and the global words' tokens.
        maps: [N, h, w] int64, local tokens, which are the language model's ids.
    """

    prefixes: list[list[int]]
    maps: torch.Tensor

    def __len__(self) -> int:
        return len(self.prefixes)

    def __getitem__(self, rows: Sequence[int]) -> "ImageSequences":
        """Those of some pictures."""
        return ImageSequences([self.prefixes[row] for row in rows], self.maps[list(rows)])

    def __add__(self, other: "ImageSequences") -> "ImageSequences":
        return ImageSequences(self.prefixes + other.prefixes, torch.cat([self.maps, other.maps]))

    def inputs(self, device: torch.device | str) -> dict[str, torch.Tensor]:
        """What a language model's `forward` takes: prefixes padded on the left, so that all maps end together.

        Returns:
            `input_ids`, `attention_mask` and `position_ids`, [N, P + L] int64.
        """
        rows = [[*prefix, *tokens] for prefix, tokens in zip(self.prefixes, self.maps.flatten(1).tolist(), strict=True)]
        input_ids, attention_mask = pad(rows, "left", device)
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "position_ids": (attention_mask.cumsum(-1) - 1).clamp(min=0),
        }

    def most_frequent_token(self) -> int:
        """The commonest local token; the lowest of several."""
        return int(torch.bincount(self.maps.flatten()).argmax())

    def save(self, path: Path) -> None:
        """Writes them into one file."""
        lengths = torch.tensor([len(prefix) for prefix in self.prefixes])
        ids = torch.tensor([token for prefix in self.prefixes for token in prefix])
        save_file({"maps": self.maps.to(torch.int32), "prefix_ids": ids, "prefix_lengths": lengths}, path)

    @classmethod
    def load(cls, path: Path) -> "ImageSequences":
        """Reads what `save` wrote.

        Raises:
            UserError: If the file is damaged.
        """
        try:
            tensors = load_file(path)
            prefixes = [ids.tolist() for ids in tensors["prefix_ids"].split(tensors["prefix_lengths"].tolist())]
            return cls(prefixes, tensors["maps"].long())
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            said = str(error).splitlines()[0]
            raise UserError(f"{path} is damaged ({said}), so its tokens cannot be used: delete it.") from error


class SequenceWriter:
    """Writes pictures as sequences.

    Args:
        codec: A V2L model with a local half; its local tokens have to be the language model's ids.
        language_model: The language model.
        finder: Finds the global words; may be None where there are none.
        num_global_words: k.

    Raises:
        UserError: If codec and language model do not belong together, or global words are wanted without a finder.
    """

    def __init__(
        self,
        codec: ImageCodec,
        language_model: LanguageModel,
        finder: WordFinder | None = None,
        num_global_words: int = 0,
    ):
        check_vocabulary(codec, language_model)
        if num_global_words and finder is None:
            raise UserError(
                f"{num_global_words} global words are wanted, but {codec.name} has none: name a V2L model that finds "
                "words for whole pictures (--global-model offline), or take 0 words."
            )
        self.codec, self.finder = codec, finder
        config = codec.model.config
        self.format = SequenceFormat(
            tuple(config.grid_size), num_global_words, begin_token(language_model.tokenizer, language_model.reference)
        )

    def write(self, pictures: Sequence[Image.Image], tokens: ImageTokens | None = None) -> ImageSequences:
        """One batch of pictures, of any size and mode; with their image tokens, where these are known."""
        maps = (tokens or self.codec.encode(pictures)).image_tokens
        prefixes = [[self.format.start_id] for _ in pictures]
        if self.format.num_global_words and self.finder is not None:
            found = self.finder.find(pictures, self.format.num_global_words, batch_size=len(pictures))
            for prefix, words in zip(prefixes, found, strict=True):
                prefix += [token for ids in words.token_ids for token in ids]
        return ImageSequences(prefixes, maps)

    def write_all(
        self, pictures: Iterable[Image.Image], batch_size: int = 32, total: int | None = None
    ) -> ImageSequences:
        """Any number of pictures, taken as they are needed.

        Raises:
            UserError: If there is none.
        """
        parts: list[ImageSequences] = []
        with progress_bar("writing pictures as tokens", total) as bar:
            for part in self._parts(pictures, batch_size):
                parts.append(part)
                bar.advance(len(part))
        if not parts:
            raise UserError("There is no picture to write as tokens: give other data.")
        return ImageSequences(
            [prefix for part in parts for prefix in part.prefixes], torch.cat([part.maps for part in parts])
        )

    def _parts(self, pictures: Iterable[Image.Image], batch_size: int) -> Iterator[ImageSequences]:
        for batch in batched(pictures, batch_size):
            yield self.write(batch)


def load_finder(codec: ImageCodec, global_model: str | None, num_words: int) -> WordFinder | None:
    """What finds global words: the model that is named, else the V2L model itself; None where none are wanted.

    Raises:
        UserError: If no such model is there, or the V2L model finds none and no other is named.
    """
    if num_words < 0:
        raise UserError(f"--words is {num_words}, but must not be below 0.")
    if num_words == 0:
        return None
    if global_model is not None:
        return WordFinder.load(global_model, device=str(codec.model.device))
    if codec.model.config.encoder_type is None or codec.model.vocabulary is None:
        return None  # SequenceWriter says what is missing
    return WordFinder(codec.model, codec.image_processor)


def begin_token(tokenizer: PreTrainedTokenizerBase, name: str) -> int:
    """The token that sequences begin with: the tokenizer's begin token, else its end token.

    Args:
        tokenizer: The language model's tokenizer.
        name: What the user calls the language model.

    Raises:
        UserError: If it has neither.
    """
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return token
    raise UserError(f"The tokenizer of {name} has neither a begin nor an end token, so no sequence can begin.")
