"""Frozen: pictures as a few embeddings in front of a frozen language model (Tsimpoukelli et al. 2021).

`tuning` trains the map from an image tower to word embeddings on pictures with sentences; `soft_words` makes pictures
words that any prompt can hold; `evaluation` answers few-shot episodes with them.
"""

from .evaluation import PrefixFinder, evaluate_frozen
from .models import build_frozen_model, load_frozen_model
from .soft_words import PrefixWords

__all__ = ["PrefixFinder", "PrefixWords", "build_frozen_model", "evaluate_frozen", "load_frozen_model"]
