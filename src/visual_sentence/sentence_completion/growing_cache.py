"""A cache that many rows read behind one beginning, without copying all of it for every token."""

import torch
from transformers import Cache
from transformers.cache_utils import DynamicLayer

# Places that are added whenever there is no room left: an image of 16 x 16 tokens.
ROOM = 256


class GrowingLayer(DynamicLayer):
    """As transformers' `DynamicLayer`, with room behind the last place, where new keys and values are written.

    `DynamicLayer` joins old and new ones into a new tensor for every token; with 16 rows behind three pairs that is a
    third of the time of a step.
    """

    _buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Adds keys and values [B, heads, L, width] and gives all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if self.keys.numel() == 0:
            return super().update(key_states, value_states, *args, **kwargs)
        length = self.keys.shape[-2]
        whole = length + key_states.shape[-2]
        if not self._has_room(whole):
            self._buffers = (self._moved(self.keys, whole + ROOM), self._moved(self.values, whole + ROOM))
        keys, values = self._buffers
        keys[:, :, length:whole], values[:, :, length:whole] = key_states, value_states
        self.keys, self.values = keys[:, :, :whole], values[:, :, :whole]
        return self.keys, self.values

    def _has_room(self, whole: int) -> bool:
        """Whether the keys lie in the buffer still, which a change of the rows ends, and more fit behind them."""
        if self._buffers is None:
            return False
        keys = self._buffers[0]
        is_view = keys.data_ptr() == self.keys.data_ptr() and keys.shape[:2] == self.keys.shape[:2]
        return is_view and keys.shape[-2] >= whole

    @staticmethod
    def _moved(states: torch.Tensor, places: int) -> torch.Tensor:
        buffer = states.new_empty(*states.shape[:2], places, states.shape[-1])
        buffer[:, :, : states.shape[-2]] = states
        return buffer


def grow_in_place(cache: Cache) -> None:
    """Lets a cache's plain layers grow in place; layers of other kinds stay as they are.

    Args:
        cache: Already filled.
    """
    for place, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer:
            growing = GrowingLayer.__new__(GrowingLayer)
            growing.__dict__.update(vars(layer))
            cache.layers[place] = growing
