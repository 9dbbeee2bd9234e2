"""A vector quantizer that matches by direction and passes on the entries as they are.

Source: LQAE's code, https://github.com/lhao499/language-quantized-autoencoders, lqae.py: distances are those of
latents and codebook scaled to length 1, the value is the codebook's own row. Level 2.
"""

from collections.abc import Callable

import torch
from torch.nn import functional as F

from .vector_quantization import VectorQuantizer


class NormalizedQuantizer(VectorQuantizer):
    """As `VectorQuantizer`, with the nearest entry found among vectors of length 1.

    Both loss terms compare latents and entries as they are: the commitment is mean((entry - latent)^2). An entry of
    zeros has no direction and is chosen only where all are such. (In the published code it stays at the origin, and is
    then the nearest of all to any latent that is 60 degrees or more away from every other entry.)

    Args:
        codebook_size: K.
        embedding_dim: D, width of entries and latents.
        trainable: As of `VectorQuantizer`.
        gradient: As of `VectorQuantizer`; LQAE's is "straight-through".
    """

    def __init__(
        self, codebook_size: int, embedding_dim: int, trainable: bool = False, gradient: str = "straight-through"
    ):
        super().__init__(codebook_size, embedding_dim, trainable=trainable, gradient=gradient)

    def assign(self, latents: torch.Tensor) -> torch.Tensor:
        """Tokens [B, h, w] int64 of latents [B, D, h, w]: the entry at the smallest angle, the first of equals.

        Raises:
            ValueError: If a latent is not finite.
        """
        return super().assign(F.normalize(latents.float(), dim=1))

    def _codes_to_search(self) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
        # a tile at a time, so that nothing has to be kept and nothing can be out of date
        return self.codebook, _directions


def _directions(entries: torch.Tensor) -> torch.Tensor:
    """Entries [n, D] scaled to length 1; those of zeros out of reach."""
    entries = F.normalize(entries, dim=-1)
    is_zero = (entries == 0).all(-1, keepdim=True)
    # unit vectors are 2 apart at most, this one is 3 from each of them or more
    return torch.where(is_zero, 4 * entries.shape[1] ** -0.5, entries)


__all__ = ["NormalizedQuantizer"]
