"""Builds a global codebook: vocabulary, expansion, clean-up, embedding, image filter.

V2L Tokenizer, arXiv 2403.07874, section 3.2 and appendix A.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import UserError
from .cleanup import WholeWordEncoder, clean_items, word_groups
from .embedding import TextEncoder, embed_texts
from .expansion import KINDS, Item, distinct_items, expand_vocabulary
from .filtering import (
    ImageEncoder,
    center,
    count_top_items,
    encode_image_set,
    frequent_items,
    mean_feature,
)
from .global_codebook import GlobalCodebook
from .steps import package_version
from .vocabulary import vocabulary_entries

STEPS_FOLDER = "steps"


class CodebookEncoder(TextEncoder, ImageEncoder, WholeWordEncoder, Protocol):
    """All that a joint encoder must be able to do to make a codebook."""


@dataclass(frozen=True)
class CodebookRecipe:
    """How a global codebook is made; the defaults are the paper's.

    Raises:
        UserError: A value makes no sense.
    """

    # Longest items: 1 for the vocabulary alone, 2 adds bigrams, 3 adds trigrams (the paper's table 5).
    ngrams: int = 3
    # M, the most probable next tokens taken for each bigram and for each trigram.
    continuations: int = 1
    # Name of a template set or own templates; a word's embedding is the mean over them.
    templates: str | tuple[str, ...] = "imagenet-80"
    # Whether that mean is scaled to length 1.
    renormalize: bool = False
    # Whether only whole content words in one spelling are kept.
    cleanup: bool = False
    # Whether the mean word and the mean image are subtracted before words and images are compared.
    center: bool = False
    # How many of its nearest words each image notes.
    top_per_image: int = 5
    # How many images must have noted a word for it to stay: any in the paper, more than 100 in the
    # published code.
    min_count: int = 1

    def __post_init__(self) -> None:
        if self.ngrams not in (1, 2, 3):
            raise UserError(f"ngrams is {self.ngrams}, but items of 1, 2 or 3 words can be made: choose one of these.")
        for name in ("continuations", "top_per_image", "min_count"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}, which leaves nothing: give at least 1.")

    @classmethod
    def preset(cls, name: str) -> "CodebookRecipe":
        """The recipe of that name in `RECIPES`.

        Raises:
            UserError: There is none.
        """
        if name not in RECIPES:
            raise UserError(f"There is no recipe {name!r}: choose one of {', '.join(RECIPES)}.")
        return RECIPES[name]


RECIPES = {
    "paper": CodebookRecipe(),
    "published-code": CodebookRecipe(min_count=101),
    "offline": CodebookRecipe(ngrams=1, templates="plain", cleanup=True, center=True),
}


def build_codebook(
    recipe: CodebookRecipe,
    *,
    language_model: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase,
    encoder: CodebookEncoder,
    images: Iterable[Image.Image],
    output_dir: str | Path,
    llm_name: str,
    images_name: str,
    batch_size: int = 64,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> GlobalCodebook:
    """Builds a global codebook and saves it.

    Every long step keeps its progress in `output_dir/steps`, so that a rerun with the same arguments
    continues an interrupted one. That folder may be deleted afterwards.

    Args:
        recipe: How.
        language_model: Writes the bigrams and trigrams; may be None with `ngrams=1`.
        tokenizer: The language model's tokenizer.
        encoder: The joint image-text encoder, D dimensions.
        images: RGB images of the filter, in an order that is the same in every run.
        output_dir: Where the codebook is written.
        llm_name: What the language model was loaded from.
        images_name: What the images are.
        batch_size: Images per forward pass.
        dtype: How the embeddings are stored, float32 or float16.
        device: Where words and images are compared.

    Returns:
        The codebook as read back from `output_dir`.

    Raises:
        UserError: `output_dir/steps` holds results of other settings, or the recipe leaves no word.
    """
    steps = Path(output_dir) / STEPS_FOLDER
    expanded = expand_vocabulary(
        vocabulary_entries(tokenizer),
        tokenizer,
        folder=steps / "expansion",
        model=language_model,
        llm_name=llm_name,
        ngrams=recipe.ngrams,
        continuations=recipe.continuations,
    )
    candidates = _candidates(expanded, recipe, encoder)
    embeddings = embed_texts(
        encoder,
        [item.text for item in candidates],
        folder=steps / "embedding",
        templates=recipe.templates,
        renormalize=recipe.renormalize,
    )
    shards = encode_image_set(encoder, images, folder=steps / "images", images_name=images_name, batch_size=batch_size)
    codes, image_center = torch.tensor(embeddings), torch.zeros(encoder.embedding_dim)
    if recipe.center:
        codes, image_center = center(codes, codes.mean(0)), mean_feature(shards)
    counts = count_top_items(shards, codes, image_center, top_per_image=recipe.top_per_image, device=device)
    kept = frequent_items(counts, recipe.min_count)
    items = [candidates[i] for i in kept.tolist()]
    provenance = {
        "language_model": llm_name,
        "joint_encoder": encoder.name,
        "image_set": images_name,
        "number_of_images": shards.rows,
        "recipe": asdict(recipe),
        "counts": {
            "expanded": _count_kinds(expanded),
            "candidates": _count_kinds(candidates),
            "kept": _count_kinds(items),
        },
        "package_version": package_version(),
    }
    assemble_codebook(items, codes[kept], image_center, provenance).save(output_dir, dtype)
    return GlobalCodebook.load(output_dir)


def _candidates(expanded: Sequence[Item], recipe: CodebookRecipe, encoder: WholeWordEncoder) -> list[Item]:
    candidates = distinct_items(expanded)
    if recipe.cleanup:
        candidates = clean_items(candidates, encoder)
    if not candidates:
        raise UserError("The clean-up left no word of the vocabulary. Use a recipe without clean-up.")
    return candidates


def assemble_codebook(
    items: Sequence[Item], embeddings: torch.Tensor, image_center: torch.Tensor, provenance: dict[str, Any]
) -> GlobalCodebook:
    words = [item.text for item in items]
    return GlobalCodebook(
        words=words,
        token_ids=[list(item.token_ids) for item in items],
        kinds=[item.kind for item in items],
        groups=word_groups(words),
        embeddings=embeddings,
        image_center=image_center,
        provenance=provenance,
    )


def _count_kinds(items: Sequence[Item]) -> dict[str, int]:
    counts = Counter(item.kind for item in items)
    return {kind: counts[kind] for kind in KINDS if counts[kind]}
