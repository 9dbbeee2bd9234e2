"""The words of a published codebook, for tensors that came without any."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from ..codebook.expansion import KINDS, encode_prompts
from ..errors import UserError
from ..language import entry_texts
from ..modeling import LocalVocabulary, WordVocabulary

TO_JSON = (
    "python -c \"import json, numpy; json.dump(numpy.load('WORDS.npy', allow_pickle=True).tolist(), "
    "open('words.json', 'w'))\""
)


def read_words(path: Path) -> list[str]:
    """Reads a list of words.

    Args:
        path: A JSON list of texts, or a .npy array of them that holds no Python objects.

    Raises:
        UserError: If it is neither.
    """
    try:
        words = np.load(path, allow_pickle=False).tolist() if path.suffix == ".npy" else _json(path)
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise UserError(
                f"{path} is an array of Python objects, which numpy can only read by running what the file says, so it "
                f"was not read. If you trust its author, make a JSON list of it on a machine that you trust ({TO_JSON})"
                " and give that."
            ) from error
        raise UserError(f"{path} cannot be read as words ({error}): give a JSON list of texts.") from error
    except (OSError, EOFError) as error:
        raise UserError(f"{path} cannot be read ({error}): check the path.") from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise UserError(f"{path} is no list of texts, one for each entry of the global codebook: give a JSON list.")
    return words


def global_vocabulary(
    words: Sequence[str], size: int, tokenizer: PreTrainedTokenizerBase, language_model: str, path: Path
) -> WordVocabulary:
    """The words of a global codebook with a language model's ids.

    Args:
        words: One for each entry, in order.
        size: Entries of the codebook.
        tokenizer: The language model's.
        language_model: What it was loaded from.
        path: Where the words come from, for messages and for the record.

    Raises:
        UserError: If there are not as many words as entries.
    """
    if len(words) != size:
        raise UserError(
            f"{path} has {len(words)} words, the global codebook {size} entries, so entries would get wrong words: "
            "give the list that the codebook was made with."
        )
    ids = encode_prompts(tokenizer, words).suffixes
    # the source does not say how a word came about; its length in tokens is what tells them apart here
    kinds = [KINDS[min(len(row), len(KINDS)) - 1] for row in ids]
    provenance = {"language_model": language_model, "converted_from": path.name}
    return WordVocabulary(list(words), ids, kinds, list(range(size)), provenance)


def local_vocabulary(size: int, tokenizer: PreTrainedTokenizerBase, language_model: str) -> LocalVocabulary:
    """The words of a local codebook: entry i is the language model's token i.

    Args:
        size: Entries of the codebook.
        tokenizer: The language model's.
        language_model: What it was loaded from.

    Raises:
        UserError: If the language model has another number of tokens.
    """
    texts = entry_texts(tokenizer)
    if len(texts) != size:
        raise UserError(
            f"{language_model} has {len(texts)} tokens, the local codebook {size} entries: local tokens would be read "
            "as wrong words, so give the one that the codebook was made of (published: LLaMA-2, 32000 tokens)."
        )
    return LocalVocabulary(texts, language_model)


def _json(path: Path) -> object:
    return json.loads(path.read_text(encoding="utf-8"))


__all__ = ["global_vocabulary", "local_vocabulary", "read_words"]
