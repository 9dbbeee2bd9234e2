"""Pictures as words of a language model that it can read and never write.

Each picture becomes n new tokens of a copy of the tokenizer, whose input embeddings are the picture's prefix. So
prompts, classifier and scoring, which know texts only, work as they are. Knows no images.
"""

import copy
from typing import Any

import torch
from tokenizers import AddedToken
from torch import nn
from transformers import PreTrainedModel

from ..errors import UserError
from ..language import LanguageModel, table_of

PICTURE_WORD = "<picture-{}-{}>"
# Ids between the tokenizer's last entry and the model's last row, which the model could write.
FILLER = "<no-picture-{}>"


class SoftEmbedding(nn.Module):
    """Input embeddings with rows behind the last that belong to no vocabulary.

    Args:
        base: The language model's own input embeddings.
        first_id: Id of the first further row, at least as large as the number of base's rows.
    """

    def __init__(self, base: nn.Module, first_id: int):
        super().__init__()
        self.base, self.first_id = base, first_id
        self.register_buffer("rows", torch.zeros(0, self.embedding_dim).to(self.weight), persistent=False)

    @property
    def weight(self) -> torch.Tensor:
        """The language model's own rows [V, H]."""
        return table_of(self.base)

    @property
    def embedding_dim(self) -> int:
        """H."""
        return self.weight.shape[1]

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Embeddings [..., H] of ids [...] int64: the language model's own, or further rows as they are."""
        is_soft = input_ids >= self.first_id
        embeds = self.base(input_ids.masked_fill(is_soft, 0))
        if not len(self.rows):
            return embeds
        soft = self.rows[(input_ids - self.first_id).clamp(min=0)]
        return torch.where(is_soft[..., None], soft.to(embeds.dtype), embeds)


class PrefixWords:
    """Gives pictures as words of a language model.

    The model's output layer keeps its size, so that no picture can be written, and its weights are untouched; until
    `close` (or the end of a `with` block) its input embeddings know the pictures too. The tokenizer is copied.

    Args:
        language_model: A loaded causal language model. Its ids end at V; pictures begin at V or behind it.

    Raises:
        UserError: If the language model is in use by another `PrefixWords`.

    Example:
        >>> with PrefixWords(language_model) as pictures:
        ...     words = pictures.add(model(pixel_values).prefix_embeds)  # [["<picture-0-0>", "<picture-0-1>"], ...]
        ...     classifier = InContextClassifier(LocalCompletions(pictures.language_model))
    """

    def __init__(self, language_model: LanguageModel):
        model = language_model.model
        base = model.get_input_embeddings()
        if isinstance(base, SoftEmbedding):
            raise UserError(
                f"The language model {language_model.reference} already holds pictures of another PrefixWords: close "
                "that one first."
            )
        tokenizer = copy.deepcopy(language_model.tokenizer)
        self.language_model = LanguageModel(model, tokenizer, language_model.reference)
        self._count = 0
        self._embedding = SoftEmbedding(base, self._fill_up_to(_rows(model)))
        model.set_input_embeddings(self._embedding)

    def __enter__(self) -> "PrefixWords":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self._count

    @property
    def first_id(self) -> int:
        """Id of the first picture's first word; all smaller ones are the language model's own."""
        return self._embedding.first_id

    @property
    def embeddings(self) -> torch.Tensor:
        """[N * n, H], the words' embeddings in the order of their ids."""
        return self._embedding.rows

    def add(self, prefix_embeds: torch.Tensor) -> list[list[str]]:
        """Makes words of pictures.

        Args:
            prefix_embeds: [B, n, H], as a `FrozenModel` gives them.

        Returns:
            B lists of n words, which the tokenizer reads as one token each, wherever they stand.

        Raises:
            UserError: If the prefixes are not as wide as the language model's words.
        """
        width = self._embedding.embedding_dim
        if prefix_embeds.ndim != 3 or prefix_embeds.shape[2] != width:
            raise UserError(
                f"Prefixes must be (pictures, words, {width}) for {self.language_model.reference}, got "
                f"{tuple(prefix_embeds.shape)}: they are of another language model."
            )
        count, each, _ = prefix_embeds.shape
        words = [[PICTURE_WORD.format(self._count + row, place) for place in range(each)] for row in range(count)]
        flat = [word for row in words for word in row]
        self._add_tokens(flat)
        ids, start = self.language_model.tokenizer.convert_tokens_to_ids(flat), self.first_id + len(self.embeddings)
        if ids != list(range(start, start + len(flat))):
            raise RuntimeError(f"The tokenizer of {self.language_model.reference} does not number new tokens in order.")
        rows = prefix_embeds.detach().reshape(-1, width).to(self.embeddings)
        self._embedding.rows = torch.cat([self.embeddings, rows])
        self._count += count
        return words

    def close(self) -> None:
        """Gives the language model its own input embeddings back."""
        if self.language_model.model.get_input_embeddings() is self._embedding:
            self.language_model.model.set_input_embeddings(self._embedding.base)

    def _fill_up_to(self, size: int) -> int:
        """Takes the tokenizer's free ids below `size`, and says which is the next."""
        tokenizer = self.language_model.tokenizer
        self._add_tokens([FILLER.format(0)])
        last: Any = tokenizer.convert_tokens_to_ids(FILLER.format(0))
        self._add_tokens([FILLER.format(place) for place in range(1, size - last)])
        return max(last + 1, size)

    def _add_tokens(self, words: list[str]) -> None:
        self.language_model.tokenizer.add_tokens([AddedToken(word, normalized=False) for word in words])


def _rows(model: PreTrainedModel) -> int:
    """V, the ids that a language model has, of those it reads and those it writes."""
    head = model.get_output_embeddings()
    return max(len(table_of(model.get_input_embeddings())), 0 if head is None else len(table_of(head)))
