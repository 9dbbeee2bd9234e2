"""What the `evaluate` modules `lpips` and `perceptual_distance` share."""

from inspect import cleandoc
from typing import Any

import datasets
import evaluate
import torch

from ..features import PerceptualDistance, load_perceptual_distance
from .image_quality import RunningMean, unit_range
from .streaming import Batch, StreamingMetric, columns, pieces

INPUTS = """
Args:
    predictions: images [B, 3, H, W], uint8 in [0, 255] or floating point in [0, 1], at least 32 x 32; or a list of
        [3, H, W] of any sizes. Tensors on a GPU are measured there.
    references: as predictions.
Returns:
    the mean distance over images, under its true name, and n images.
"""


class PerceptualMetric(StreamingMetric):
    """Mean perceptual distance over images, under the name of the network that measured it.

    Class attributes:
        summary: What the module measures.
    """

    summary = ""
    _distance: PerceptualDistance | None = None

    def load(self) -> PerceptualDistance:
        """Loads the network, which happens with the first batch."""
        raise NotImplementedError  # each module of the metrics says which network

    @property
    def distance(self) -> PerceptualDistance:
        """The network."""
        if self._distance is None:
            self._distance = self.load()
        return self._distance

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=cleandoc(self.summary),
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features(
                {"predictions": {"distance": datasets.Value("float64")}, "references": datasets.Value("null")}
            ),
        )

    @torch.no_grad()
    def reduce(self, predictions: Batch, references: Batch) -> dict[str, list]:
        found = []
        for part in pieces(predictions, references):
            images = unit_range(part[0]).float() * 2 - 1
            targets = unit_range(part[1], "references").float() * 2 - 1
            network = self.distance.to(images.device)
            found.append(network(images, targets.to(images.device)).double())
        return columns(distance=torch.cat(found))

    def _compute(self, predictions: list[dict[str, float]], references: list) -> dict[str, Any]:
        mean = RunningMean()
        mean.update([row["distance"] for row in predictions])
        return {self.distance.name: mean.mean, "n": mean.n}


class Lpips(PerceptualMetric):
    """LPIPS and nothing else; the config name is the backbone."""

    summary = """
    LPIPS 0.1 (Zhang et al. 2018) by the lpips package, mean over images; lower is nearer. The config name chooses the
    backbone: "vgg", "alex" or "squeeze", by default the first of them whose weights are in torch.hub's cache. Nothing
    is downloaded, and nothing else is called LPIPS: without the weights use `perceptual_distance`.
    """

    def load(self) -> PerceptualDistance:
        return load_perceptual_distance("lpips", backbone=None if self.config_name == "default" else self.config_name)


class AnyPerceptualDistance(PerceptualMetric):
    """LPIPS or the offline tower's distance; the config name is the kind."""

    summary = """
    A perceptual distance, mean over images; lower is nearer. The config name chooses: "lpips", "offline-tower", or by
    default LPIPS where its weights are at hand and the offline image tower elsewhere. The result's key tells which.
    """

    def load(self) -> PerceptualDistance:
        return load_perceptual_distance("auto" if self.config_name == "default" else self.config_name)
