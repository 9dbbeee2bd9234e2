"""A cache of rows that go on from one beginning: what they share is held once, and read once for all of them. Level 0.

Draws behind a query share all that stands before the first drawn token, queries behind the same pairs share the pairs.
With a copy of the beginning for each row, reading these copies for every token takes most of a step's time. Here the
queries of all rows meet the beginning in one matrix product, and the attention to it is joined with that to a row's own
tokens by their sums of exponentials (Hydragen, https://arxiv.org/abs/2402.05099, section 3.2).
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional as F
from transformers import Cache
from transformers.cache_utils import DynamicLayer

# Places that are added whenever there is no room left: an image of 16 x 16 tokens.
ROOM = 256


class BranchedStates(torch.Tensor):
    """Keys or values [R, heads, P + L, width] of which several rows share the beginning.

    Scaled dot-product attention reads its parts; for everything else it becomes an ordinary tensor, with the beginning
    copied for each row. Made by `BranchedStates.of`.
    """

    parts: tuple[torch.Tensor, ...]

    @classmethod
    def of(cls, parts: Sequence[torch.Tensor]) -> "BranchedStates":
        """Joins parts [R / f, heads, L, width] along L, each for f rows; f is 1 for the last."""
        own = parts[-1]
        shape = (*own.shape[:2], sum(part.shape[2] for part in parts), own.shape[3])
        found = own.new_empty(()).expand(shape).as_subclass(cls)
        found.parts = tuple(parts)
        return found

    def whole(self) -> torch.Tensor:
        """The ordinary tensor."""
        rows = self.parts[-1].shape[0]
        return torch.cat([part.repeat_interleave(rows // part.shape[0], dim=0) for part in self.parts], dim=2)

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Attention by parts, shapes as they are, everything else of the ordinary tensor."""
        kwargs = kwargs or {}
        if func in SHAPES:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if func is F.scaled_dot_product_attention and _goes_by_parts(*args, **kwargs):
            query, keys, values = args
            return attend(query, keys, values, kwargs.get("attn_mask"), kwargs.get("scale"))
        args = [part.whole() if isinstance(part, cls) else part for part in args]
        kwargs = {name: part.whole() if isinstance(part, cls) else part for name, part in kwargs.items()}
        return func(*args, **kwargs)


SHAPES = {torch.Tensor.size, torch.Tensor.dim} | {
    getattr(torch.Tensor, name).__get__ for name in ("shape", "ndim", "dtype", "device", "is_cuda", "requires_grad")
}


def _goes_by_parts(*args: Any, **kwargs: Any) -> bool:
    """Whether a call of attention is one that `attend` knows."""
    states = len(args) == 3 and all(isinstance(part, BranchedStates) for part in args[1:])
    known = {"attn_mask", "scale", "dropout_p", "is_causal", "enable_gqa"} >= kwargs.keys()
    plain = not (kwargs.get("dropout_p") or kwargs.get("is_causal") or kwargs.get("enable_gqa"))
    return states and known and plain and args[0].shape[1] == args[1].parts[-1].shape[1]


def attend(
    query: torch.Tensor,
    keys: BranchedStates,
    values: BranchedStates,
    mask: torch.Tensor | None = None,
    scale: float | None = None,
) -> torch.Tensor:
    """Scaled dot-product attention.

    Args:
        query: [R, heads, L, d].
        keys: [R, heads, W, d].
        values: [R, heads, W, D].
        mask: [R or 1, heads or 1, L, W]: bool, false where a query must not look, or float, added to the scores.
        scale: Of the products; 1 / sqrt(d) by default.

    Returns:
        [R, heads, L, D].
    """
    rows, _, length, width = query.shape
    query = query * (width**-0.5 if scale is None else scale)
    found, start = [], 0
    for key, value in zip(keys.parts, values.parts, strict=True):
        groups = key.shape[0]
        scores = (_grouped(query, groups) @ key.transpose(-2, -1)).float()
        if mask is not None:
            part = mask[..., start : start + key.shape[2]].expand(rows, -1, length, -1)
            part = _grouped(part, groups)
            scores = scores.masked_fill(~part, -torch.inf) if part.dtype == torch.bool else scores + part
        highest = scores.amax(-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).min)
        weights = (scores - highest).exp()
        answers = weights.to(value.dtype) @ value
        found.append([_apart(one, rows, length) for one in (highest, weights.sum(-1, keepdim=True), answers.float())])
        start += key.shape[2]
    highest = torch.stack([one for one, _, _ in found]).amax(0)
    factors = [(one - highest).exp() for one, _, _ in found]
    nothing = torch.zeros((), device=query.device)
    total = sum((factor * weight for factor, (_, weight, _) in zip(factors, found, strict=True)), nothing)
    answer = sum((factor * answer for factor, (_, _, answer) in zip(factors, found, strict=True)), nothing)
    return (answer / total).to(query.dtype)


def _grouped(states: torch.Tensor, groups: int) -> torch.Tensor:
    """[R, h, L, d] as [groups, h, R / groups * L, d]: rows that share a part as further places of one row."""
    rows, heads, length, width = states.shape
    if rows == groups:
        return states
    return states.view(groups, rows // groups, heads, length, width).transpose(1, 2).flatten(2, 3)


def _apart(states: torch.Tensor, rows: int, length: int) -> torch.Tensor:
    """Undoes `_grouped`."""
    if states.shape[0] == rows:
        return states
    return states.unflatten(2, (rows // states.shape[0], length)).transpose(1, 2).flatten(0, 1)


class BranchingLayer(DynamicLayer):
    """Keys and values of rows that share beginnings, with room behind the last place, where new ones are written.

    Args:
        beginnings: Keys and values [R / f, heads, P, d] in the order in which they stand, each for f rows.
        keys: [R, heads, L, d], each row's own, which stand behind.
        values: [R, heads, L, D].
    """

    def __init__(
        self, beginnings: Sequence[tuple[torch.Tensor, torch.Tensor]], keys: torch.Tensor, values: torch.Tensor
    ):
        super().__init__()
        self.lazy_initialization(keys, values)
        self.beginnings, self.keys, self.values = tuple(beginnings), keys, values
        self._buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Adds keys and values [R, heads, L, ...] and gives all of them."""
        own_keys, own_values = self._own()
        length = own_keys.shape[-2]
        whole = length + key_states.shape[-2]
        if self._buffers is None or not self._has_room(self._buffers[0], whole):
            self._buffers = (_moved(own_keys, whole + ROOM), _moved(own_values, whole + ROOM))
        keys, values = self._buffers
        keys[:, :, length:whole], values[:, :, length:whole] = key_states, value_states
        self.keys, self.values = keys[:, :, :whole], values[:, :, :whole]
        return self.states()

    def _own(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Each row's own keys and values."""
        assert self.keys is not None and self.values is not None  # given from the start
        return self.keys, self.values

    def states(self) -> tuple[torch.Tensor, torch.Tensor]:
        """All keys and values."""
        if not self.beginnings:
            return self._own()
        keys, values = zip(*self.beginnings, self._own(), strict=True)
        return BranchedStates.of(keys), BranchedStates.of(values)

    def _has_room(self, keys: torch.Tensor, whole: int) -> bool:
        """Whether the keys lie in the buffer still, which a change of the rows ends, and more fit behind them."""
        own, _ = self._own()
        is_view = keys.data_ptr() == own.data_ptr() and keys.shape[:2] == own.shape[:2]
        return is_view and keys.shape[-2] >= whole

    def get_seq_length(self) -> int:
        """P + L."""
        return sum(keys.shape[-2] for keys, _ in self.beginnings) + self._own()[0].shape[-2]

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """Other rows in other places."""
        self._join()
        super().reorder_cache(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Each row several times."""
        self._join()
        super().batch_repeat_interleave(repeats)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Some rows only."""
        self._join()
        super().batch_select_indices(indices)

    def crop(self, tokens_to_remove: int) -> None:
        """Without the last tokens."""
        self._join()
        super().crop(tokens_to_remove)

    def _join(self) -> None:
        """Gives each row a beginning of its own."""
        keys, values = self.states()
        if isinstance(keys, BranchedStates) and isinstance(values, BranchedStates):
            self.keys, self.values, self.beginnings = keys.whole(), values.whole(), ()


def _moved(states: torch.Tensor, places: int) -> torch.Tensor:
    """A buffer of so many places that begins with these states."""
    buffer = states.new_empty(*states.shape[:2], places, states.shape[-1])
    buffer[:, :, : states.shape[-2]] = states
    return buffer


def branch(cache: Cache, times: int) -> Cache:
    """A cache of `times` rows for each row of another, which they go on from and which stays as it is.

    Args:
        cache: Filled. Layers that are neither plain nor branching, such as those with a sliding window, are copied for
            each row.
        times: How many.
    """
    found = copy.copy(cache)
    found.layers = []
    for layer in cache.layers:
        if not isinstance(layer, DynamicLayer) or type(layer) not in (DynamicLayer, BranchingLayer):
            layer: Any = copy.deepcopy(layer)  # what else there is keeps no whole beginning
            layer.batch_repeat_interleave(times)
            found.layers.append(layer)
            continue
        keys, values, beginnings = layer.keys, layer.values, getattr(layer, "beginnings", ())
        assert keys is not None and values is not None  # the cache is filled
        if keys.shape[2] > 1:
            beginnings = (*beginnings, (keys[:, :, :-1], values[:, :, :-1]))
        # the last place is each row's own, for layers that ask for the state behind it
        own_keys, own_values = (states[:, :, -1:].repeat_interleave(times, dim=0) for states in (keys, values))
        found.layers.append(BranchingLayer(beginnings, own_keys, own_values))
    return found


__all__ = ["BranchedStates", "BranchingLayer", "attend", "branch"]
