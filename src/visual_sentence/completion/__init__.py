"""What a frozen causal language model writes next, and how likely a text is: cached, batched, held to what may stand.

Knows texts, token ids and language models, in this process or served; knows nothing of images.
"""

from .base import CompletionModel, NoLogLikelihoodsError, PromptTooLongError
from .loading import is_served, load_completion_model
from .local import LocalCompletions

__all__ = [
    "CompletionModel",
    "LocalCompletions",
    "NoLogLikelihoodsError",
    "PromptTooLongError",
    "is_served",
    "load_completion_model",
]
