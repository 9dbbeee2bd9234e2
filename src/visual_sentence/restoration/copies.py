"""Noisy copies of a map: the examples of the paper's procedure (V2L Tokenizer, figure 4, after SPAE).

They are made of the ground truth, at the very positions that are asked for: examples that hold most of the answer. What
is measured with them says how well a language model reads through noise, not how well it restores.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .tasks import map_bytes, seeded

# From 50 % down to 23 % in steps of 3 %; the published code goes downwards.
RATIOS = tuple(ratio / 100 for ratio in range(50, 22, -3))


@dataclass(frozen=True)
class NoisyCopy:
    """One map and its degraded version, with the same random tokens at the same positions.

    Args:
        degraded: h * w ids in raster order.
        clean: h * w ids in raster order.
    """

    degraded: tuple[int, ...]
    clean: tuple[int, ...]


def noisy_copies(
    degraded: torch.Tensor,
    clean: torch.Tensor,
    vocabulary: torch.Tensor,
    ratios: Sequence[float] = RATIOS,
    *,
    extra_tokens: int = 0,
    seed: int = 0,
) -> list[NoisyCopy]:
    """Replaces random tokens by random ids.

    Args:
        degraded: [h, w] int64, the degraded picture's map.
        clean: [h, w] int64, the undamaged picture's.
        vocabulary: [V] int64, the ids that are drawn from, each equally likely.
        ratios: For each copy the share of tokens to replace.
        extra_tokens: Added to h * w before the share is taken: the published code counts the 21 global tokens, although
            it replaces local ones only.
        seed: Of positions and ids, which also depend on `clean`.

    Returns:
        A copy per ratio; int(ratio x (h * w + extra_tokens)) different positions of it are drawn anew, at most all.
    """
    generator = seeded(seed, "copies", map_bytes(clean))
    copies = []
    for ratio in ratios:
        count = min(clean.numel(), int(ratio * (clean.numel() + extra_tokens)))
        positions = torch.randperm(clean.numel(), generator=generator)[:count]
        drawn = vocabulary[torch.randint(len(vocabulary), (count,), generator=generator)]
        both = []
        for tokens in (degraded, clean):
            flat = tokens.flatten().clone()
            flat[positions] = drawn
            both.append(tuple(flat.tolist()))
        copies.append(NoisyCopy(*both))
    return copies
