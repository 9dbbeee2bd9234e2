"""Classification in context: words and labels in front of a frozen causal language model.

Knows words, labels, tokenizers and language models; knows nothing of images.
"""

from .classifier import BEST_SCORING, SCORING_MODES, Answer, InContextClassifier
from .prompts import PROMPT_STYLES, ClassificationPrompt, Example

__all__ = [
    "Example",
    "ClassificationPrompt",
    "PROMPT_STYLES",
    "InContextClassifier",
    "SCORING_MODES",
    "BEST_SCORING",
    "Answer",
]
