"""The strings that a language model's vocabulary consists of (V2L Tokenizer, arXiv 2403.07874, section
3.2)."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

# What decoders write for bytes that are no whole character.
PARTIAL_CHARACTER = "\ufffd"


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


def readable_texts(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Decodes every id of the vocabulary by itself and keeps what can be read.

    Args:
        tokenizer: The language model's tokenizer.

    Returns:
        From id to stripped text, in the order of the ids; without special tokens, parts of characters and
        blanks.
    """
    added_special = {token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special}
    special = added_special | set(tokenizer.all_special_ids)
    token_ids = sorted(set(tokenizer.get_vocab().values()) - special)
    texts = tokenizer.batch_decode([[token_id] for token_id in token_ids], clean_up_tokenization_spaces=False)
    stripped = ((token_id, text.strip()) for token_id, text in zip(token_ids, texts, strict=True))
    return {token_id: text for token_id, text in stripped if text and PARTIAL_CHARACTER not in text}


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
