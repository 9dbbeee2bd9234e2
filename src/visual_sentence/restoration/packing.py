"""Many short prompts behind one long beginning, side by side in a single row: the beginning's cache is never repeated.

Each prompt sees the beginning and itself, and its positions go on where the beginning ends. A batch of rows would copy
the beginning's keys and values for every row, which on a CPU takes longer than the prompts themselves. Knows token ids
and a causal language model, no text.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from transformers import LogitsProcessor, PreTrainedModel
from transformers.cache_utils import Cache

from ..completion.prefix_cache import SharedPrefix, last_logits
from ..language import table_of
from ..modeling.cache_names import CACHE, cache_argument

# Those that take a mask of any form.
ATTENTION = ("sdpa", "eager")
# What a trial's logits may differ by, as a share of the largest.
TOLERANCE = 0.05


class Pack:
    """Prompts in one row behind a cached beginning.

    Args:
        model: A causal language model for which `can_pack` is true.
        cache: One row of keys and values of the beginning, P entries; it grows.
        prompts: B sequences of token ids that go on behind it, none of them empty.
    """

    def __init__(self, model: PreTrainedModel, cache: Cache, prompts: Sequence[Sequence[int]]):
        self.model, self.cache = model, cache
        self.beginning = cache.get_seq_length()
        self.owners = torch.empty(0, dtype=torch.int64)  # of every token behind the beginning, the prompt's index
        self.lengths = torch.zeros(len(prompts), dtype=torch.int64)
        self.new = list(prompts)

    def logits(self) -> torch.Tensor:
        """Runs what was added last; [B, V] float32, the logits behind each prompt."""
        counts = torch.tensor([len(ids) for ids in self.new])
        owners = torch.arange(len(counts)).repeat_interleave(counts)
        offsets = torch.cat([torch.arange(count) for count in counts.tolist()])
        positions = self.beginning + self.lengths[owners] + offsets
        before = len(self.owners)
        self.owners = torch.cat([self.owners, owners])
        self.lengths = self.lengths + counts
        places = torch.arange(len(self.owners))
        visible = (owners[:, None] == self.owners) & (places[before:, None] >= places)  # [Q, N]
        visible = torch.cat([visible.new_ones(len(owners), self.beginning), visible], dim=1)
        mask = torch.zeros(visible.shape, dtype=self.model.dtype)
        mask.masked_fill_(~visible, torch.finfo(mask.dtype).min)
        device = self.model.device
        return _logits_at(
            self.model,
            (counts.cumsum(0) - 1).to(device),
            input_ids=torch.tensor([[token for ids in self.new for token in ids]], device=device),
            attention_mask=mask[None, None].to(device),
            position_ids=positions[None].to(device),
            cache=self.cache,
        ).float()

    def append(self, tokens: Sequence[int]) -> None:
        """Adds one token to each prompt."""
        self.new = [[token] for token in tokens]


def write_packed(
    prefix: SharedPrefix, prompts: Sequence[Sequence[int]], count: int, processor: LogitsProcessor
) -> list[list[int]]:
    """Greedy continuations of prompts behind the beginning that a cache holds.

    Args:
        prefix: Holds model and cache.
        prompts: B sequences of token ids.
        count: Tokens to write behind each.
        processor: Says which tokens may be written.

    Returns:
        B lists of `count` ids.
    """
    pack = Pack(prefix.model, prefix.rows(1), prompts)
    written: list[list[int]] = []
    for _ in range(count):
        logits = pack.logits()
        tokens = processor(None, logits).argmax(-1).tolist()
        pack.append(tokens)
        written.append(tokens)
    return [list(ids) for ids in zip(*written, strict=True)]


@torch.inference_mode()
def can_pack(prefix: SharedPrefix) -> bool:
    """Whether a model reads packed prompts as it reads them alone; found by a trial on a few tokens.

    Args:
        prefix: Of the model; what it holds is replaced.
    """
    model = prefix.model
    if not prefix.allows_padding or getattr(model.config, "_attn_implementation", None) not in ATTENTION:
        return False
    size = len(table_of(model.get_input_embeddings()))
    beginning, *prompts = ([place % size for place in ids] for ids in ((11, 12, 13), (14, 15), (16,), (17, 18, 14)))
    prefix.move_to([(*beginning, 0)])
    try:
        pack = Pack(model, prefix.rows(1), prompts)
        pack.logits()
        pack.append([13] * len(prompts))
        packed = pack.logits()
    except (TypeError, ValueError, RuntimeError, IndexError):
        return False
    alone = [torch.tensor([[*beginning, *ids, 13]], device=model.device) for ids in prompts]
    expected = torch.cat([last_logits(model, input_ids=ids)[:, -1].float() for ids in alone])
    return bool((packed - expected).abs().max() <= TOLERANCE * expected.abs().max())


def _logits_at(model: PreTrainedModel, places: torch.Tensor, cache: Cache, **inputs: Any) -> torch.Tensor:
    """Logits [B, V] at B places of a single row, the only ones that are computed if the model can."""
    inputs[cache_argument(model) or CACHE] = cache
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        return model(**inputs, logits_to_keep=places, use_cache=True).logits[0]
    return model(**inputs, use_cache=True).logits[0, places]
