"""Whether local tokens are the ids of a language model: the same count, and the same texts."""

from collections.abc import Sequence

from ..errors import UserError
from ..language import LanguageModel, entry_texts
from ..reconstruction import ImageCodec


def check_vocabulary(codec: ImageCodec, language_model: LanguageModel) -> None:
    """Refuses a language model whose token ids are not the local tokens of a V2L model.

    Args:
        codec: The V2L model.
        language_model: The language model that is to read and write its local tokens.

    Raises:
        UserError: If the image model is no V2L model, has more codes than the language model tokens, or its words are
            not the language model's.
    """
    if not codec.is_v2l:
        raise UserError(
            f"{codec.name} is a VQGAN, whose codes are no words, so no language model reads them: give a V2L model "
            "with a local half."
        )
    if not codec.writes_map:
        raise UserError(
            f"{codec.name} writes a picture as a pyramid of words, and what is read and written here is a map: give a "
            "model with one layer (hub_configs/spae-small-64-map), or another of the V2L family."
        )
    size = language_model.model.config.get_text_config(decoder=True).vocab_size
    if codec.codebook_size > size:
        raise UserError(
            f"{codec.name} has {codec.codebook_size:,} local tokens, but {language_model.reference} only {size:,} "
            f"token ids: give the language model that it was made for{_named(codec)}."
        )
    words = codec.words
    if words is None:
        return
    texts = entry_texts(language_model.tokenizer)
    different = _first_difference(words, texts)
    if different is not None:
        other = repr(texts[different]) if different < len(texts) else "nothing"
        raise UserError(
            f"The local tokens of {codec.name} are not the token ids of {language_model.reference} (id {different} is "
            f"{words[different]!r} in the one and {other} in the other): give the language model that it was made "
            f"for{_named(codec)}."
        )


def _first_difference(words: Sequence[str], texts: Sequence[str]) -> int | None:
    if list(words) == list(texts[: len(words)]):
        return None
    pairs = zip(words, texts, strict=False)
    return next((place for place, (one, other) in enumerate(pairs) if one != other), len(texts))


def _named(codec: ImageCodec) -> str:
    name = codec.model.config.language_model or getattr(codec.model.local_vocabulary, "language_model", None)
    return f", {name}" if name else ""
