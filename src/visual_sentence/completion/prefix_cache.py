"""The beginning that many prompts share, computed once: its keys and values wait for the next prompt.

Knows token ids and a causal language model, no text.
"""

import copy
import inspect
from collections.abc import Sequence
from typing import Any, cast

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer

from ..modeling.cache_names import CACHE, cache_argument
from .questions import common_prefix_length


def can_share_cache(model: PreTrainedModel) -> bool:
    """Whether the model's cache holds plain keys and values, which can be cut and repeated.

    Recurrent and linear-attention models keep one state for the whole past; it can be neither cut back nor
    left alone by padding, so such models are asked with the whole prompt.
    """
    if getattr(model, "_is_stateful", False) or cache_argument(model) is None:
        return False
    plain_layers = (DynamicLayer, DynamicSlidingWindowLayer)
    # Exact types: the subclasses are the hybrids.
    return all(type(layer) in plain_layers for layer in _empty_cache(model).layers)


class SharedPrefix:
    """The key-value cache of the longest beginning that a set of prompts shares.

    The last prefix is kept, and only that one: prompts with the same support set and other queries find it
    ready, a prefix that grew is extended, one that parts earlier is cut back. The weights must not change in
    between.

    Args:
        model: A causal language model for which `can_share_cache` is true.
    """

    def __init__(self, model: PreTrainedModel):
        self.model = model
        self.ids: tuple[int, ...] = ()
        self._cache: Cache = _empty_cache(model)

    @property
    def allows_padding(self) -> bool:
        """Whether padding may stand between prefix and suffix.

        A sliding window counts cache entries, padding included, and a model without `position_ids` counts
        positions that way: both need batches of sequences of one length.
        """
        sliding = any(isinstance(layer, DynamicSlidingWindowLayer) for layer in self._cache.layers)
        return not sliding and accepts(self.model, "position_ids")

    @torch.inference_mode()
    def move_to(self, sequences: Sequence[Sequence[int]]) -> int:
        """Makes the cache that of the longest common beginning of `sequences`.

        Args:
            sequences: Token ids of the prompts, none of them empty. One token of each is always left over,
                for a model gives no logits without one.

        Returns:
            The number of tokens P that the cache now covers; each prompt goes on with its tokens from P
            onwards.
        """
        length = min(common_prefix_length(sequences), min(len(sequence) for sequence in sequences) - 1)
        ids = tuple(sequences[0][:length])
        self._cut_back_to(common_prefix_length([self.ids, ids]))
        missing = ids[len(self.ids) :]
        if missing:
            cache = _copy(self._cache)
            input_ids = torch.tensor([missing], device=self.model.device)
            last_logits(self.model, cache=cache, input_ids=input_ids)
            # Set together and last: an interrupted run leaves the old prefix whole.
            self._cache, self.ids = cache, ids
        return length

    def rows(self, count: int) -> Cache:
        """A cache of `count` equal rows that may be written to; the prefix itself stays as it is."""
        return select_rows(self._cache, [0] * count)

    def _cut_back_to(self, length: int) -> None:
        surplus = len(self.ids) - length
        if surplus == 0:
            return
        sliding = [layer for layer in self._cache.layers if isinstance(layer, DynamicSlidingWindowLayer)]
        if any(len(self.ids) >= layer.sliding_window for layer in sliding):
            # The window has dropped what stood before it, so there is nothing to go back to.
            self._cache, self.ids = _empty_cache(self.model), ()
        else:
            self._cache.crop(-surplus)
            self.ids = self.ids[:length]


def select_rows(cache: Cache, rows: Sequence[int]) -> Cache:
    """A new cache made of the given rows of `cache`, in that order and repeated where an index repeats."""
    selected = _copy(cache)
    selected.reorder_cache(cast(torch.LongTensor, torch.tensor(rows)))
    return selected


def last_logits(model: PreTrainedModel, count: int = 1, cache: Cache | None = None, **inputs: Any) -> torch.Tensor:
    """Runs the model and returns the logits of the last positions, the only ones it computes if it can.

    Args:
        model: A causal language model.
        count: How many positions are wanted.
        cache: What was read before; it grows.
        **inputs: `input_ids` (B, T) int64 and what else `forward` takes; `position_ids` are left out where
            the model does not know them.

    Returns:
        Logits, (B, count, V), in the model's dtype.
    """
    if not accepts(model, "position_ids"):
        inputs.pop("position_ids", None)
    if accepts(model, "logits_to_keep"):
        inputs["logits_to_keep"] = count
    if cache is not None:
        inputs[cache_argument(model) or CACHE] = cache
    return model(**inputs, use_cache=cache is not None).logits[:, -count:]


def _empty_cache(model: PreTrainedModel) -> DynamicCache:
    return DynamicCache(config=model.config.get_text_config(decoder=True))


def _copy(cache: Cache) -> Cache:
    # Layers replace their tensors and never write into them, so the copies can share them.
    copied = copy.copy(cache)
    copied.layers = [copy.copy(layer) for layer in cache.layers]
    return copied


def accepts(model: torch.nn.Module, argument: str) -> bool:
    """Whether the model's `forward` has an argument of that name."""
    return argument in inspect.signature(model.forward).parameters
