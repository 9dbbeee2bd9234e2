"""How good restorations are, beside references that ask no language model.

Measured is what files hold: views, degraded and restored pictures in 8 bits. Pictures are taken as they are needed.
"""

import math
import time
from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from PIL import Image

from ..errors import UserError
from ..features import (
    MIN_SIZE,
    FrechetStatistics,
    PerceptualDistance,
    PooledFeatures,
    frechet_distance,
    load_frechet_features,
    load_perceptual_distance,
)
from ..image_io import ImageSource
from ..metrics import ImageQuality, RunningMean
from ..progress import progress_bar
from ..reconstruction import ImageTokens
from ..reconstruction.evaluation import as_batch
from ..words import batched
from .degradation import View, view_of
from .files import EXAMPLE_POOL, example_views
from .pictures import PictureRestorer, RestorationSetting, RestoredPictures, check_examples, fingerprint
from .tasks import HOLE_TASKS, fill_with_nearest, hole_of, map_bytes, seeded

NONE = "none"
# In the order of the report.
COMPARED = ("degraded", "degraded_tokens", "random_tokens", "restored", "clean_tokens")


def evaluate_restoration(
    restorer: PictureRestorer,
    source: ImageSource,
    setting: RestorationSetting,
    examples: ImageSource | None = None,
    limit: int | None = None,
    batch_size: int = 8,
    perceptual: str = "auto",
    frechet: str = "auto",
) -> dict[str, Any]:
    """Degrades, restores and measures pictures; docs/restoration.md defines every number.

    Args:
        restorer: What is measured.
        source: Pictures, any number; they are read as they are needed.
        setting: What is done.
        examples: Mode "leak-free": where examples are drawn from, the first 100 that are not measured themselves; by
            default the pictures of `source` behind the first `limit`.
        limit: Only the first so many.
        batch_size: Pictures that are restored together.
        perceptual: A kind of `load_perceptual_distance`, or "none".
        frechet: A kind of `load_frechet_features`, or "none".

    Returns:
        `model, llm, data, examples`, the setting's fields, `pictures, resolution, grid`, for each of `degraded,
        degraded_tokens, random_tokens, restored, clean_tokens` a dict of `psnr, ssim, identical`, the perceptual and
        the Fréchet measure under their true names and `token_accuracy`; and `seconds_per_image, device, dtype`.

    Raises:
        UserError: If there is no picture, no example, one cannot be read, or a measure is unknown or not at hand.
    """
    networks = Networks(perceptual, frechet, restorer.codec.model.device)
    side, shown, name = restorer.codec.resolution, [], None
    if setting.mode == "leak-free":
        shown, name = _find_examples(source, examples, limit, side)
    check_examples(setting, shown, False)
    measures = {compared: Measures(networks) for compared in COMPARED}
    originals, pictures, seconds = FrechetStatistics(networks.features.dim) if networks.features else None, 0, 0.0
    total = source.count if limit is None else min(limit, source.count or limit)
    with progress_bar("measuring restorations", total) as bar:
        for batch in batched(islice(source, limit), batch_size):
            views = [view_of(picture, side) for picture in batch]
            start = time.perf_counter()
            found = restorer.restore(views, setting, shown)
            seconds += time.perf_counter() - start
            pictures += len(batch)
            if originals is not None and networks.features is not None:
                originals.update(networks.features(networks.pixels(found.known_originals)))
            for compared, (drawn, hits) in _compare(restorer, setting, found).items():
                measures[compared].update(drawn, found.known_originals, hits)
            bar.advance(len(batch))
    if not pictures:
        raise UserError(f"{source.name} holds no picture, so there is nothing to measure: give other data.")
    model = restorer.language_model.model
    return {
        "model": restorer.codec.name,
        "llm": restorer.language_model.reference,
        "data": source.name,
        "examples": name,
        **setting.as_dict(),
        "pictures": pictures,
        "resolution": side,
        "grid": list(restorer.grid),
        **{compared: measure.compute(originals) for compared, measure in measures.items()},
        "seconds_per_image": seconds / pictures,
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
    }


def _find_examples(
    source: ImageSource, examples: ImageSource | None, limit: int | None, side: int
) -> tuple[list[View], str]:
    """Pictures that examples are drawn from, none of them measured; and what they are called."""
    measured = {fingerprint(view_of(picture, side)) for picture in islice(source, limit)}
    if examples is not None:
        return example_views(examples, side, measured), examples.name
    if limit is None:
        raise UserError(
            "Mode leak-free shows other pictures as examples, but all of the data is measured: give --examples, or "
            "--limit to leave some."
        )
    name = f"{source.name} behind the first {limit}"
    others = ImageSource(name, None, lambda: islice(iter(source), limit, limit + EXAMPLE_POOL))
    return example_views(others, side, measured), name


def _compare(
    restorer: PictureRestorer, setting: RestorationSetting, found: RestoredPictures
) -> dict[str, tuple[list[Image.Image], torch.Tensor | None]]:
    """What is compared with the originals: pictures, and [B] the share of the task's tokens that are the originals'."""
    codec = restorer.codec
    clean = codec.encode(found.known_originals)
    hole = hole_of(setting.task, *restorer.grid)
    given = fill_with_nearest(found.degraded_tokens, hole) if setting.task in HOLE_TASKS else found.degraded_tokens
    vocabulary = restorer.in_context(setting).vocabulary
    drawn_at_random = random_tokens(given, hole, vocabulary, setting.seed)
    shown = {
        "degraded_tokens": ImageTokens(given, found.global_tokens),
        "random_tokens": ImageTokens(drawn_at_random, found.global_tokens),
        "clean_tokens": clean,
    }

    def hits(tokens: torch.Tensor) -> torch.Tensor:
        return (tokens == clean.image_tokens)[:, hole].double().mean(dim=1)

    return {
        **{name: (codec.decode(tokens), hits(tokens.image_tokens)) for name, tokens in shown.items()},
        "degraded": (found.degraded, None),
        "restored": (found.restored, hits(found.restored_tokens)),
    }


def random_tokens(tokens: torch.Tensor, hole: torch.Tensor, vocabulary: torch.Tensor, seed: int) -> torch.Tensor:
    """Maps [B, h, w] whose hole [h, w] holds random ids of a vocabulary [V], drawn for each map by itself."""
    filled = tokens.clone()
    for row in filled:
        generator = seeded(seed, "random", map_bytes(row))
        row[hole] = vocabulary[torch.randint(len(vocabulary), (int(hole.sum()),), generator=generator)]
    return filled


class Networks:
    """The networks that measure, loaded once.

    Args:
        perceptual: A kind of `load_perceptual_distance`, or "none".
        frechet: A kind of `load_frechet_features`, or "none".
        device: Where they run.

    Raises:
        UserError: If one is unknown or not at hand.
    """

    def __init__(self, perceptual: str, frechet: str, device: torch.device):
        self.device = device
        self.distance: PerceptualDistance | None = None
        self.features: PooledFeatures | None = None
        try:
            if perceptual != NONE:
                # enlarging only what no network could look at
                self.distance = load_perceptual_distance(perceptual, device, resolution=MIN_SIZE)
            if frechet != NONE:
                self.features = load_frechet_features(frechet, device)
        except UserError as error:
            option = "--perceptual" if self.distance is None and perceptual != NONE else "--frechet"
            raise UserError(f"{error} To do without this measure: {option} {NONE}.") from error

    def pixels(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """Pictures as [B, 3, R, R] float32 in [-1, 1]."""
        return as_batch(pictures).to(self.device).float() / 127.5 - 1


class Measures:
    """What is measured of one kind of pictures against the originals, batch by batch.

    Args:
        networks: Those of the perceptual and the Fréchet measure.
    """

    def __init__(self, networks: Networks):
        self.networks = networks
        self.quality, self.distances, self.hits = ImageQuality(), RunningMean(), RunningMean()
        self.statistics = FrechetStatistics(networks.features.dim) if networks.features else None

    @torch.no_grad()
    def update(
        self, pictures: Sequence[Image.Image], originals: Sequence[Image.Image], hits: torch.Tensor | None
    ) -> None:
        """Adds one batch; `hits` [B] is the share of tokens that are the originals'."""
        networks = self.networks
        self.quality.update(as_batch(pictures), as_batch(originals))
        if hits is not None:
            self.hits.update(hits)
        if networks.distance is not None:
            self.distances.update(networks.distance(networks.pixels(pictures), networks.pixels(originals)))
        if self.statistics is not None and networks.features is not None:
            self.statistics.update(networks.features(networks.pixels(pictures)))

    def compute(self, originals: FrechetStatistics | None) -> dict[str, Any]:
        """The numbers of all batches; `originals` are the statistics of the undamaged pictures."""
        quality = self.quality.compute()
        found: dict[str, Any] = {name: quality[name] for name in ("psnr", "ssim", "identical")}
        if self.networks.distance is not None:
            found[self.networks.distance.name] = self.distances.mean
        own, features = self.statistics, self.networks.features
        if originals is not None and own is not None and features is not None:
            name = features.name
            found[name] = None
            if quality["n"] > 1:
                found[name] = frechet_distance(own.mean, own.cov, originals.mean, originals.cov)
        found["token_accuracy"] = self.hits.mean if self.hits.n else None
        return {name: None if value == math.inf else value for name, value in found.items()}  # JSON has no infinity
