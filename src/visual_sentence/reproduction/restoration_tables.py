"""The V2L Tokenizer's table 4 and figure 11: restoration in context, by tokenizer, and by steps and conditions."""

from typing import Any

import torch

from ..features import FrechetStatistics, frechet_distance
from ..restoration import RestorationSetting, load_picture_restorer, view_of
from ..restoration.evaluation import Networks
from ..restoration.pictures import PAPER
from ..restoration.tasks import hole_of
from ..words import batched
from .cells import cell, mean_cell
from .context import Context
from .tables import Column, Experiment, Ordering, Row, Table
from .tokenizers import SEED, tokenizer, tokenizer_settings

DATA = ("test-pictures",)
TASKS = ("inpainting", "outpainting", "deblurring", "rotation", "shift")
TOKENIZERS = {"vqgan-llm": "VQ-GAN*", "lqae-llm": "LQAE*", "spae-map": "SPAE*", "v2l": "V2L"}
LANGUAGE_MODELS = {"llm": "7B", "llm-13b": "13B", "llm-70b": "70B"}
# FID and LPIPS of each task, in the order of TASKS.
NUMBERS = {
    ("vqgan-llm", "llm"): (16.44, 0.1404, 18.22, 0.1571, 13.79, 0.1252, 14.08, 0.1285, 13.91, 0.1270),
    ("lqae-llm", "llm"): (18.77, 0.1736, 19.61, 0.1833, 18.09, 0.1711, 18.18, 0.1725, 18.26, 0.1722),
    ("spae-map", "llm"): (14.89, 0.1211, 16.10, 0.1363, 15.89, 0.1299, 16.25, 0.1318, 16.55, 0.1333),
    ("v2l", "llm"): (13.13, 0.1219, 15.28, 0.1442, 10.09, 0.1033, 10.64, 0.1064, 10.53, 0.1058),
    ("vqgan-llm", "llm-13b"): (15.56, 0.1350, 16.47, 0.1449, 14.78, 0.1334, 16.15, 0.1417, 15.60, 0.1378),
    ("lqae-llm", "llm-13b"): (18.45, 0.1720, 18.78, 0.1762, 18.62, 0.1740, 19.04, 0.1778, 18.87, 0.1770),
    ("spae-map", "llm-13b"): (13.89, 0.1168, 14.69, 0.1257, 16.46, 0.1345, 18.34, 0.1436, 17.71, 0.1405),
    ("v2l", "llm-13b"): (11.70, 0.1134, 12.56, 0.1275, 10.60, 0.1085, 11.36, 0.1128, 11.84, 0.1176),
    ("vqgan-llm", "llm-70b"): (14.08, 0.1256, 14.70, 0.1358, 14.30, 0.1312, 14.39, 0.1313, 14.35, 0.1310),
    ("lqae-llm", "llm-70b"): (18.01, 0.1692, 18.54, 0.1755, 18.17, 0.1713, 18.16, 0.1715, 18.09, 0.1713),
    ("spae-map", "llm-70b"): (12.79, 0.1103, 13.41, 0.1191, 18.08, 0.1615, 18.30, 0.1619, 18.19, 0.1609),
    ("v2l", "llm-70b"): (10.11, 0.1021, 10.73, 0.1128, 10.42, 0.1058, 10.48, 0.1058, 10.79, 0.1093),
}
# Fréchet distances of fewer pictures say nothing of restorations.
ENOUGH = 2000


def _paper(row: tuple[float, ...]) -> dict[str, float]:
    return {f"{task}-{name}": row[2 * i + j] for i, task in enumerate(TASKS) for j, name in enumerate(("fid", "lpips"))}


def _columns() -> list[Column]:
    found = []
    for task in TASKS:
        fid = ("offline-tower-frechet-distance", 1, False)
        found.append(Column(f"{task}-fid", f"{task}: FID", *fid, is_plotted=False, data=DATA))
        found.append(Column(f"{task}-lpips", f"{task}: LPIPS", "offline-tower-distance", 2, False, data=DATA))
    return found


RESTORATION = Table(
    name="v2l-table4",
    title="Restoration in context",
    source="V2L Tokenizer, table 4",
    columns=_columns(),
    rows=[
        Row(f"{name}:{llm}", f"{label}, {size}", _paper(NUMBERS[name, llm]), f"LLaMA-2 {size}")
        for llm, size in LANGUAGE_MODELS.items()
        for name, label in TOKENIZERS.items()
    ],
    orderings=[
        Ordering("v2l:llm", f"{name}:llm", [f"{task}-lpips" for task in TASKS], f"V2L above {label}")
        for name, label in TOKENIZERS.items()
        if name != "v2l"
    ],
    note=(
        "The paper's mode, whose examples hold the answer (docs/restoration.md); 64 pixels and a map of 8 x 8. In "
        "place of LLaMA-2 7B stands the budget's language model. V2L is the model whose codes were moved, without "
        "global words."
    ),
)
STEPS = ((1, 16), (2, 16), (4, 16), (2, 8), (2, 32))
ABLATION = Table(
    name="v2l-figure11",
    title="Tokens a step (m) and tokens before it (n), inpainting",
    source="V2L Tokenizer, figure 11",
    columns=(
        Column("fid", "FID", "offline-tower-frechet-distance", 1, higher_is_better=False, data=DATA),
        Column("lpips", "LPIPS", "offline-tower-distance", 2, higher_is_better=False, data=DATA),
        Column("tokens", "tokens found", "share of the hole's tokens that are the original's, %", 1, data=DATA),
    ),
    rows=[Row(f"m{m}-n{n}", f"m = {m}, n = {n}", {}, "LLaMA-2 7B; the figure has no numbers") for m, n in STEPS],
    orderings=(
        Ordering("m1-n16", "m2-n16", ("lpips", "tokens"), "one token a step above two"),
        Ordering("m2-n16", "m4-n16", ("lpips", "tokens"), "two tokens a step above four"),
        Ordering("m2-n16", "m2-n32", ("lpips", "tokens"), "16 tokens before above 32"),
    ),
    note="V2L with its codes moved, 64 pixels, a map of 8 x 8, the paper's mode.",
)


def restoration_settings(context: Context, row: str) -> dict[str, Any]:
    """What a row of table 4 depends on."""
    name, _, llm = row.partition(":")
    return {**tokenizer_settings(context, name), "row": row, "reader": context.models.get(llm), **_data(context)}


def ablation_settings(context: Context, row: str) -> dict[str, Any]:
    """What a row of figure 11 depends on."""
    reader = {"row": row, "reader": context.models.get("llm")}
    return {**tokenizer_settings(context, "v2l"), **reader, **_data(context), "restored": context.sizes.ablated}


def _data(context: Context) -> dict[str, Any]:
    data = context.data.described("test-pictures", context.sizes.test_slice)
    return {"data": data, "restored": context.sizes.restored}


def measure_restoration(context: Context, row: str) -> dict[str, Any]:
    """The cells of a row of table 4."""
    name, _, llm = row.partition(":")
    reader = context.model(llm, f"a language model in place of LLaMA-2 {LANGUAGE_MODELS[llm]} and a machine for it")
    cells = {}
    for task in TASKS:
        found = _restored(context, name, reader, RestorationSetting(task, PAPER, seed=SEED), context.sizes.restored)
        cells |= {f"{task}-{key}": found[key] for key in ("fid", "lpips")}
    return cells


def measure_ablation(context: Context, row: str) -> dict[str, Any]:
    """The cells of a row of figure 11."""
    m, n = (int(part[1:]) for part in row.split("-"))
    reader = context.model("llm", "a language model")
    setting = RestorationSetting("inpainting", PAPER, n=n, m=m, seed=SEED)
    return _restored(context, "v2l", reader, setting, context.sizes.ablated)


def _restored(context: Context, name: str, reader: str, setting: RestorationSetting, count: int) -> dict[str, Any]:
    """Restores the first pictures with a tokenizer and a language model, and measures them."""
    restorer = load_picture_restorer(tokenizer(context, name), reader, context.device)
    pictures = []
    for picture in context.data.pictures("test-pictures", context.sizes.test_slice):
        pictures.append(view_of(picture, restorer.codec.resolution))
        if len(pictures) == count:
            break
    networks = Networks("auto", "auto" if len(pictures) >= ENOUGH else "none", restorer.codec.model.device)
    features, measure = networks.features, networks.distance
    assert measure is not None  # it was asked for
    statistics = [FrechetStatistics(features.dim) for _ in range(2)] if features else []
    hole = hole_of(setting.task, *restorer.grid)
    distances: list[float] = []
    shares: list[float] = []
    for batch in batched(pictures, 16):
        found = restorer.restore(batch, setting, [])
        shown = networks.pixels(found.restored), networks.pixels(found.known_originals)
        with torch.no_grad():
            distances += measure(*shown).tolist()
            if features is not None:
                for one, pixels in zip(statistics, shown, strict=True):
                    one.update(features(pixels))
        clean = restorer.codec.encode(found.known_originals).image_tokens
        shares += (found.restored_tokens == clean)[:, hole].double().mean(dim=1).tolist()
    record = {"mode": setting.mode, "step": setting.m, "condition": setting.n}
    fid: Any = f"needs {ENOUGH} pictures or more, here are {len(pictures)}: --budget full"
    if features is not None:
        distance = frechet_distance(*(part for one in statistics for part in (one.mean, one.cov)))
        fid = cell(distance, None, len(pictures), measure=features.name, **record)
    return {
        "fid": fid,
        "lpips": mean_cell(distances, SEED, measure=measure.name, **record),
        "tokens": mean_cell(shares, SEED, 100, measure="share of the hole's tokens that are the original's"),
    }


EXPERIMENTS = (
    Experiment(RESTORATION, restoration_settings, measure_restoration),
    Experiment(ABLATION, ablation_settings, measure_ablation),
)

__all__ = ["EXPERIMENTS"]
