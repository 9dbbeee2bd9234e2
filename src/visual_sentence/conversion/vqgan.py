"""What the three published kinds of VQGAN have in common.

All three trained their codebook with the weights of the two loss terms the other way round than the paper, the small
one on the term that moves the codebook (taming-transformers, taming/modules/vqvae/quantize.py: "legacy"). The configs
that are made here say so, and training goes on as it began.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..modeling import VQGANConfig, VQGANImageProcessor, VQGANModel
from .plan import Plan, checked_config
from .settings import Settings
from .tables import Rule

LEGACY_BETA = 0.25
NOTE = (
    "The source trained with the weight of the commitment term at 1 and the small one on the codebook term; the "
    "configuration says so."
)


def levels_of_resolutions(resolution: int, attended: Sequence[int], levels: int) -> list[int]:
    """The levels with attention, where a source names them by their side in pixels.

    Args:
        resolution: Side of the full image.
        attended: Sides at which there is attention.
        levels: How many levels there are, each half as large as the one before.
    """
    return [level for level in range(levels) if resolution // 2**level in attended]


def vqgan_plan(
    weights: Path,
    tensors: Mapping[str, torch.Tensor],
    settings: Settings,
    rules: Sequence[Rule],
    left_out: Mapping[str, str] | None = None,
    **values: Any,
) -> Plan:
    """Builds the model that a source's tensors go into.

    Args:
        weights: The file that was read.
        tensors: Its tensors.
        settings: What the source's configuration says.
        rules: Which tensor is which.
        left_out: What the names may begin with that has no place in the model, and why.
        **values: Those of `VQGANConfig`.

    Raises:
        UserError: If the values contradict each other.
    """
    values = {"codebook_loss_weight": LEGACY_BETA, "commitment_loss_weight": 1.0, **values}
    config = checked_config(VQGANConfig, settings.path, **values)
    return Plan(
        weights=weights,
        tensors=tensors,
        model=VQGANModel(config).eval(),  # filled and saved, not trained
        processor=VQGANImageProcessor(local_size=config.image_size),
        rules=rules,
        left_out=left_out or {},
        settings=settings.values,
        notes=(NOTE,),
    )


__all__ = ["LEGACY_BETA", "levels_of_resolutions", "vqgan_plan"]
