"""What transformers calls the cache of keys and values: `cache` from 5.24 on, `past_key_values` before. Level 0.

Whoever passes the other name is heard with a warning or, where a model takes any argument, not at all.
"""

import inspect
from typing import Any

from torch import nn
from transformers.masking_utils import create_causal_mask

CACHE_NAMES = ("cache", "past_key_values")
# The name in this transformers, for `generate`, outputs and masks.
CACHE = next(name for name in CACHE_NAMES if name in inspect.signature(create_causal_mask).parameters)


def cache_argument(model: nn.Module) -> str | None:
    """The name under which a model's `forward` takes a cache; None where it takes none by name."""
    names = inspect.signature(model.forward).parameters
    return next((name for name in CACHE_NAMES if name in names), None)


def cache_of(output: Any) -> Any:
    """The cache in a model's output, None where there is none."""
    return output.get(CACHE)


def one_cache(cache: Any, past_key_values: Any) -> Any:
    """The cache that was given under either name.

    Raises:
        ValueError: If both were given.
    """
    if cache is not None and past_key_values is not None:
        raise ValueError("cache and past_key_values are two names for one thing: give one of them.")
    return past_key_values if cache is None else cache


__all__ = ["CACHE", "CACHE_NAMES", "cache_argument", "cache_of", "one_cache"]
