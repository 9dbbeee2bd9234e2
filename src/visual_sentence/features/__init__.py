"""Frozen networks as measures: how far two images are apart, and how far two sets of images.

Each measure carries its true name: LPIPS and FID are called so only where the weights that define them are at hand.
"""

from .frechet import FrechetStatistics, frechet_distance
from .frozen import MIN_SIZE
from .perceptual import PerceptualDistance, load_perceptual_distance
from .pooled import PooledFeatures, load_frechet_features

__all__ = [
    "MIN_SIZE",
    "FrechetStatistics",
    "PerceptualDistance",
    "PooledFeatures",
    "frechet_distance",
    "load_frechet_features",
    "load_perceptual_distance",
]
