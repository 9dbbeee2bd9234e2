"""Measures: the arithmetic once, as streaming accumulators, and on top of it thin `evaluate` modules, one a folder.

Load a module offline by `evaluate.load(metric_path(name))`; docs/metrics.md defines every measure.
"""

from importlib.resources import files

from ..errors import UserError
from .codes import CodebookCounts
from .image_quality import ImageQuality, RunningMean
from .instances import AggregatedJaccard
from .overlap import SegmentationOverlap

METRICS = (
    "aji",
    "bleu",
    "cider",
    "clip_r",
    "clip_score",
    "codebook_usage",
    "dice",
    "few_shot_accuracy",
    "frechet",
    "iou",
    "lpips",
    "perceptual_distance",
    "psnr",
    "rouge",
    "ssim",
    "vqa_accuracy",
)


def metric_path(name: str) -> str:
    """The folder of a metric that ships with this package, for `evaluate.load`.

    Args:
        name: One of `METRICS`.

    Raises:
        UserError: If there is no such metric.
    """
    if name not in METRICS:
        raise UserError(f"{name!r} is no metric of this package: use one of {', '.join(METRICS)}.")
    return str(files(__name__) / name)


__all__ = [
    "METRICS",
    "AggregatedJaccard",
    "CodebookCounts",
    "ImageQuality",
    "RunningMean",
    "SegmentationOverlap",
    "metric_path",
]
