"""The exact quantizer against the bare matrix product that any search by distance contains."""

from typing import Any

import torch
from torch.nn import functional as F

from visual_sentence.modeling import VectorQuantizer

from .common import Measurement, timed


@torch.inference_mode()
def run(
    codebook_size: int = 32_000,
    width: int = 768,
    images: int = 8,
    side: int = 16,
    *,
    rounds: int = 5,
    checked_latents: int = 64,
    setting: dict[str, Any] | None = None,
) -> Measurement:
    """Measures `VectorQuantizer.assign` in evaluation and `latents @ codebook.T`, which alone gives no token.

    Args:
        codebook_size: K, entries; they are projected, and the projection is kept as in use.
        width: E and D.
        images: B.
        side: h and w of an image's map of latents.
        rounds: How often both are measured in turn; the fastest of each counts.
        checked_latents: Of how many latents, spread evenly, the token is compared with that of all differences
            written out.
        setting: Further facts for the report.

    Returns:
        Seconds of both. The result is the same where every checked token is the naive computation's.
    """
    generator = torch.Generator().manual_seed(0)
    quantizer = VectorQuantizer(codebook_size, width, trainable=False, projector=True).eval()  # searched, not trained
    quantizer.reset_parameters()
    quantizer.codebook.copy_(F.normalize(torch.randn(codebook_size, width, generator=generator), dim=1))
    latents = F.normalize(torch.randn(images, width, side, side, generator=generator), dim=1)
    rows = latents.permute(0, 2, 3, 1).reshape(-1, width)
    codes = quantizer.projector(quantizer.codebook)
    tokens = quantizer.assign(latents)  # keeps the projection
    ours_s = reference_s = float("inf")
    for _ in range(rounds):
        ours_s = min(ours_s, timed(lambda: quantizer.assign(latents))[1])
        reference_s = min(reference_s, timed(lambda: rows @ codes.T)[1])
    checked = torch.arange(0, len(rows), max(1, len(rows) // checked_latents))
    naive = torch.stack([(row - codes).square().sum(-1).argmin() for row in rows[checked]])
    return Measurement(
        name="quantizer",
        setting={
            "codebook": [codebook_size, width],
            "latents": len(rows),
            "dtype": "float32",
            "fastest_of_rounds": rounds,
            "checked_latents": len(checked),
            "threads": torch.get_num_threads(),
            "reference": "bare matrix product",
            **(setting or {}),
        },
        ours_s=ours_s,
        reference_s=reference_s,
        same_result=bool(torch.equal(naive, tokens.flatten()[checked])),
    )
