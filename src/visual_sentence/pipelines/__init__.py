"""Transformers pipelines, one for each task; all are registered when the package is imported."""

from .base import VisualPipeline
from .captioning import CAPTIONING_TASK, VisualCaptioningPipeline
from .few_shot_classification import FEW_SHOT_TASK, VisualFewShotClassificationPipeline, load_few_shot_pipeline
from .masked_restoration import MASKED_TASK, MaskedImageRestorationPipeline, load_masked_pipeline
from .question_answering import QUESTION_ANSWERING_TASK, VisualQuestionAnsweringPipeline
from .reconstruction import RECONSTRUCTION_TASK, ImageReconstructionPipeline
from .restoration import RESTORATION_TASK, VisualRestorationPipeline
from .visual_sentence import SENTENCE_TASK, VisualSentencePipeline

PIPELINES: tuple[type[VisualPipeline], ...] = (
    VisualFewShotClassificationPipeline,
    VisualCaptioningPipeline,
    VisualQuestionAnsweringPipeline,
    VisualRestorationPipeline,
    MaskedImageRestorationPipeline,
    ImageReconstructionPipeline,
    VisualSentencePipeline,
)

__all__ = [
    "CAPTIONING_TASK",
    "FEW_SHOT_TASK",
    "MASKED_TASK",
    "PIPELINES",
    "QUESTION_ANSWERING_TASK",
    "RECONSTRUCTION_TASK",
    "RESTORATION_TASK",
    "SENTENCE_TASK",
    "ImageReconstructionPipeline",
    "MaskedImageRestorationPipeline",
    "VisualCaptioningPipeline",
    "VisualFewShotClassificationPipeline",
    "VisualPipeline",
    "VisualQuestionAnsweringPipeline",
    "VisualRestorationPipeline",
    "VisualSentencePipeline",
    "load_few_shot_pipeline",
    "load_masked_pipeline",
]
