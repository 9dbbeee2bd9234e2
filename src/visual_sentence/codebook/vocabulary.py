"""The strings that a language model's vocabulary consists of (V2L Tokenizer, arXiv 2403.07874, section
3.2)."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from ..language import readable_texts


@dataclass(frozen=True)
class Entry:
    """One string of the vocabulary.

    Args:
        text: The decoded entry without the white space around it.
        token_id: The first id that decodes to `text`. The ids that the language model itself uses for the
            text depend on the words around it; `encode_prompts` gives those.
    """

    text: str
    token_id: int


def vocabulary_entries(tokenizer: PreTrainedTokenizerBase) -> list[Entry]:
    """Lists the distinct strings of a language model's vocabulary.

    " dog" and "dog" are the same string once stripped: the first id wins.

    Args:
        tokenizer: The language model's tokenizer.

    Returns:
        The entries in the order of their ids.
    """
    first_ids: dict[str, int] = {}
    for token_id, text in readable_texts(tokenizer).items():
        first_ids.setdefault(text, token_id)
    return [Entry(text, token_id) for text, token_id in first_ids.items()]
