"""Transformers pipelines; each task is registered when the package is imported."""

from .few_shot_classification import FEW_SHOT_TASK, VisualFewShotClassificationPipeline, load_few_shot_pipeline

__all__ = ["FEW_SHOT_TASK", "VisualFewShotClassificationPipeline", "load_few_shot_pipeline"]
