"""Builds codebooks: the words of a language model that images are written in."""

from .build import RECIPES, CodebookRecipe, build_codebook
from .cleanup import STOP_WORDS, clean_items, word_groups
from .embedding import embed_texts
from .expansion import Item, distinct_items, expand_vocabulary
from .filtering import center, count_top_items, encode_image_set, mean_feature
from .global_codebook import GlobalCodebook
from .local import LocalCodebook, build_local_codebook
from .templates import TEMPLATE_SETS, imagenet_templates, resolve_templates
from .vocabulary import Entry, vocabulary_entries

__all__ = [
    "CodebookRecipe",
    "RECIPES",
    "build_codebook",
    "GlobalCodebook",
    "LocalCodebook",
    "build_local_codebook",
    "Entry",
    "vocabulary_entries",
    "Item",
    "expand_vocabulary",
    "distinct_items",
    "clean_items",
    "word_groups",
    "STOP_WORDS",
    "TEMPLATE_SETS",
    "imagenet_templates",
    "resolve_templates",
    "embed_texts",
    "encode_image_set",
    "mean_feature",
    "center",
    "count_top_items",
]
