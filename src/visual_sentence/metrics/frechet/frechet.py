"""Fréchet distance between two sets of images, in the features of Inception (FID) or of the offline image tower."""

import datasets
import evaluate
import numpy as np

from visual_sentence import features
from visual_sentence.metrics import image_quality, streaming

DESCRIPTION = """
Fréchet distance between the normal distributions of two sets of images' features (Heusel et al. 2017); lower is nearer.
The config name chooses the features: "inception" (FID, by torch-fidelity), "offline-tower" (never called FID), or by
default Inception where its weights are at hand and the offline tower elsewhere. The result's key tells which. It
depends on the number of images: compare equal numbers only.
"""
INPUTS = """
Args:
    predictions: images [B, 3, H, W], uint8 in [0, 255] or floating point in [0, 1]; or a list of [3, H, W] of any
        sizes. Tensors on a GPU are measured there.
    references: as many other images.
Returns:
    the distance under its true name ("fid" or "offline-tower-frechet-distance"), n images in each set.
"""
BATCH = 1000  # vectors joined at once


class Frechet(streaming.StreamingMetric):
    """See `inputs_description`."""

    _network = None

    def _info(self):
        row = datasets.Value("binary")  # a vector's float32 numbers; lists of them would be slow
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": row, "references": row}),
        )

    @property
    def network(self):
        """The features, loaded with the first batch."""
        if self._network is None:
            self._network = features.load_frechet_features(
                "auto" if self.config_name == "default" else self.config_name
            )
        return self._network

    def reduce(self, predictions, references):
        rows = {"predictions": [], "references": []}
        for part in streaming.pieces(predictions, references):
            for name, images in zip(rows, part, strict=True):
                images = image_quality.unit_range(images, name).float() * 2 - 1
                vectors = self.network.to(images.device)(images).cpu().numpy()
                rows[name].extend(vector.tobytes() for vector in vectors)
        return rows

    def _compute(self, predictions, references):
        sets = [features.FrechetStatistics(self.network.dim) for _ in range(2)]
        for statistics, rows in zip(sets, (predictions, references), strict=True):
            for start in range(0, len(rows), BATCH):
                vectors = np.frombuffer(b"".join(rows[start : start + BATCH]), dtype=np.float32)
                statistics.update(vectors.reshape(-1, self.network.dim).astype(np.float64))
        distance = features.frechet_distance(sets[0].mean, sets[0].cov, sets[1].mean, sets[1].cov)
        return {self.network.name: distance, "n": sets[0].n}
