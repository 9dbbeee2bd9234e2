"""The V2L Tokenizer's tables 3 and 6: reconstruction, by system and by the local codebook's embeddings."""

from typing import Any

import numpy as np
import torch

from ..features import FrechetStatistics, frechet_distance
from ..image_io import ImageSource
from ..metrics import CodebookCounts
from ..metrics.image_quality import psnr
from ..reconstruction import ImageCodec, load_image_codec
from ..reconstruction.evaluation import as_batch
from ..restoration.evaluation import Networks
from ..words import batched
from .cells import cell, mean_cell
from .context import Context
from .tables import Column, Experiment, Ordering, Row, Table
from .tokenizers import SEED, tokenizer, tokenizer_settings
from .workspace import NotRunnableError, UnpublishedError

DATA = ("test-pictures",)
COLUMNS = (
    Column("fid", "FID", "offline-tower-frechet-distance", 1, higher_is_better=False, data=DATA),
    Column("lpips", "LPIPS", "offline-tower-distance", 2, higher_is_better=False, data=DATA),
    Column("psnr", "PSNR", "PSNR, dB", 2, is_same_measure=True, data=DATA),
)
NOTE = (
    "64 pixels, a map of 8 x 8 = 64 tokens where the paper has 128 pixels and 16 x 16 = 256, and the first 32,000 "
    "words of the language model; every tokenizer has the same convolutions, pictures and steps. FID and LPIPS need "
    "weights that are not at hand; what stands in their columns is named and on another scale."
)
RECONSTRUCTION = Table(
    name="v2l-table3",
    title="Reconstruction",
    source="V2L Tokenizer, table 3",
    columns=COLUMNS,
    rows=(
        Row("vqgan", "VQ-GAN, learned codes, 256 tokens (here 64)", {"fid": 5.48, "lpips": 0.13}, "learnable"),
        Row("vqgan-palm", "VQ-GAN, 256 tokens, PaLM-2's embeddings", {"fid": 7.44, "lpips": 0.17}, "PaLM-2"),
        Row(
            "vqgan-llm",
            "VQ-GAN*, 256 (64), the language model's embeddings",
            {"fid": 9.51, "lpips": 0.17, "psnr": 21.48},
            "LLaMA-2",
        ),
        Row("lqae-llm", "LQAE*, 64, the language model's embeddings"),
        Row("lqae", "LQAE, 64, a masked language model reads the codes"),
        Row("spae:4", "SPAE, 341 (85)", {"fid": 9.49, "lpips": 0.17}, "PaLM-2"),
        Row("spae:5", "SPAE, 597 (149)", {"fid": 4.41, "lpips": 0.12}, "PaLM-2"),
        Row("spae:7", "SPAE, 1109 (277)", {"fid": 3.89, "lpips": 0.11}, "PaLM-2"),
        Row("spae-map", "SPAE*, one layer of 64"),
        Row(
            "projected",
            "V2L, 256 (64), trained as the paper says",
            {"fid": 3.41, "lpips": 0.08, "psnr": 23.56},
            "LLaMA-2",
        ),
        Row("v2l", "V2L, 64, codes moved to the latents"),
        Row("v2l-hybrid", "V2L, 277 (64 + 21), codes moved", {"fid": 2.88, "lpips": 0.08, "psnr": 23.25}, "Hybrid"),
    ),
    orderings=(
        Ordering("projected", "vqgan-llm", ("lpips", "psnr"), "V2L above VQ-GAN*"),
        Ordering("v2l", "vqgan-llm", ("lpips", "psnr"), "V2L, codes moved, above VQ-GAN*"),
        Ordering("v2l", "lqae-llm", ("lpips", "psnr"), "V2L, codes moved, above LQAE*"),
        Ordering("v2l", "spae-map", ("lpips", "psnr"), "V2L, codes moved, above SPAE*"),
        Ordering("v2l", "spae:7", ("lpips", "psnr"), "V2L of 64 tokens above SPAE of 277"),
        Ordering("v2l-hybrid", "v2l", ("lpips",), "local and global words above local ones"),
        Ordering("spae:7", "spae:4", ("lpips", "psnr"), "more layers of SPAE above fewer"),
        Ordering("vqgan", "vqgan-llm", ("lpips", "psnr"), "learned codes above the language model's embeddings"),
    ),
    note=NOTE,
)
EMBEDDINGS = Table(
    name="v2l-table6",
    title="Embeddings of the local codebook",
    source="V2L Tokenizer, table 6",
    columns=COLUMNS,
    rows=(
        Row("vqgan-llm", "the language model's own", {"fid": 9.51, "lpips": 0.17, "psnr": 21.48}, "LLaMA-2"),
        Row("text", "of the joint encoder (CLIP)", {"fid": 4.58, "lpips": 0.11, "psnr": 23.58}, "CLIP"),
        Row("projected", "these, projected", {"fid": 3.41, "lpips": 0.08, "psnr": 23.56}, "P-LLaMA-2"),
        Row("v2l", "these, projected to 32, codes moved to the latents"),
    ),
    orderings=(
        Ordering("text", "vqgan-llm", ("lpips", "psnr"), "joint encoder's above the language model's"),
        Ordering("projected", "text", ("lpips",), "projected above plain"),
        Ordering("v2l", "text", ("lpips", "psnr"), "projected and moved above plain"),
    ),
    note=NOTE,
)


def settings(context: Context, row: str) -> dict[str, Any]:
    """What a row's numbers depend on."""
    name = row.partition(":")[0]
    if name == "vqgan-palm":
        return {"row": row}
    data = context.data.described("test-pictures", context.sizes.test_slice)
    return {**tokenizer_settings(context, name), "row": row, "data": data}


def measure(context: Context, row: str) -> dict[str, Any]:
    """The cells of a row."""
    name, _, layer = row.partition(":")
    if name == "vqgan-palm":
        raise UnpublishedError("needs PaLM-2's embeddings, which are not published")
    codec = load_image_codec(tokenizer(context, name), context.device)
    if layer:
        counts = getattr(codec.model.config, "token_counts", ())
        if len(counts) < int(layer):
            raise NotRunnableError(f"needs a SPAE of {layer} layers or more: {codec.name} has {len(counts) or 'none'}")
        codec.take_first(counts[int(layer) - 1])
    return _measure(codec, context.data.pictures("test-pictures", context.sizes.test_slice))


def _measure(codec: ImageCodec, source: ImageSource) -> dict[str, Any]:
    """The three measures of a tokenizer."""
    networks = Networks("auto", "auto", codec.model.device)
    features, distance = networks.features, networks.distance
    assert features is not None and distance is not None  # both were asked for
    of_originals, of_others = (FrechetStatistics(features.dim) for _ in range(2))
    ratios: list[float] = []
    distances: list[float] = []
    codes = CodebookCounts(codec.codebook_size)
    tokens = 0
    for batch in batched(source, 16):
        found = codec.reconstruct(batch)
        tokens = int(np.size(found[0].image_tokens))
        originals, others = [one.original for one in found], [one.reconstruction for one in found]
        ratios += psnr(as_batch(others), as_batch(originals)).tolist()
        shown, drawn = networks.pixels(originals), networks.pixels(others)
        with torch.no_grad():
            distances += distance(drawn, shown).tolist()
            of_originals.update(features(shown))
            of_others.update(features(drawn))
        codes.update(np.concatenate([np.ravel(one.image_tokens) for one in found]))
    moments = (part for one in (of_originals, of_others) for part in (one.mean, one.cov))
    record = {"codebook": codes.compute(), "tokens": tokens}
    return {
        "fid": cell(frechet_distance(*moments), None, len(ratios), measure=features.name, **record),
        "lpips": mean_cell(distances, SEED, measure=distance.name, **record),
        "psnr": mean_cell(ratios, SEED, measure="PSNR of RGB, dB", **record),
    }


EXPERIMENTS = tuple(Experiment(table, settings, measure) for table in (RECONSTRUCTION, EMBEDDINGS))

__all__ = ["EXPERIMENTS"]
