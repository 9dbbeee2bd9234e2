"""The vocabularies of the V2L Tokenizer's table 5: a language model's entries, with bigrams, with trigrams too."""

from pathlib import Path
from typing import Any

import torch

from ..codebook.build import assemble_codebook
from ..codebook.embedding import embed_texts
from ..codebook.expansion import KINDS, distinct_items, expand_vocabulary
from ..codebook.filtering import center, count_top_items, encode_image_set, frequent_items, mean_feature
from ..codebook.vocabulary import vocabulary_entries
from ..encoders import load_joint_encoder
from ..hub import save_v2l_model
from ..language import choose_device, load_language_model
from .context import Context
from .workspace import NotRunnableError

TOP_PER_IMAGE = 5


def words_settings(context: Context) -> dict[str, Any]:
    """All that the three depend on, as JSON values."""
    return {
        "llm": context.models.get("llm"),
        "encoder": context.models.get("encoder"),
        "every": context.sizes.candidates,
        "pictures": context.data.described("train-pictures", context.sizes.train_slice),
    }


def words_model(context: Context, kind: str) -> Path:
    """A V2L model whose global words are the entries up to a kind that are near to some training picture.

    All three see the same pictures, and share what is costly: continuations, embeddings, features.

    Args:
        context: The run.
        kind: One of `KINDS`: the longest items.

    Raises:
        NotRunnableError: If data or a model is missing.
    """
    settings = words_settings(context)
    missing = [name for name in ("llm", "encoder") if settings[name] is None]
    if missing:
        raise NotRunnableError(f"needs --models {missing[0]}=REFERENCE")
    pictures = context.data.pictures("train-pictures", context.sizes.train_slice)

    def make(folder: Path) -> None:
        language_model = load_language_model(settings["llm"], device=context.device)
        encoder = load_joint_encoder(settings["encoder"], choose_device(context.device))
        entries = vocabulary_entries(language_model.tokenizer)[:: context.sizes.candidates]
        expanded = expand_vocabulary(
            entries,
            language_model.tokenizer,
            folder=folder / "expansion",
            model=language_model.model,
            llm_name=settings["llm"],
        )
        items = distinct_items(expanded)
        embeddings = embed_texts(encoder, [item.text for item in items], folder=folder / "embedding", templates="plain")
        shards = encode_image_set(encoder, pictures, folder=folder / "images", images_name=settings["pictures"])
        embeddings, image_center = torch.tensor(embeddings), mean_feature(shards)
        for count, longest in enumerate(KINDS, 1):
            places = [place for place, item in enumerate(items) if item.kind in KINDS[:count]]
            codes = embeddings[places]
            codes = center(codes, codes.mean(0))
            kept = frequent_items(count_top_items(shards, codes, image_center, top_per_image=TOP_PER_IMAGE), 1).tolist()
            chosen = [items[places[place]] for place in kept]
            provenance = {"language_model": settings["llm"], "joint_encoder": encoder.name, "counts": len(chosen)}
            codebook = assemble_codebook(chosen, codes[kept], image_center, provenance)
            save_v2l_model(encoder, codebook, folder / longest)

    return context.workspace.made("vocabularies", settings, make) / kind


__all__ = ["KINDS", "words_model", "words_settings"]
