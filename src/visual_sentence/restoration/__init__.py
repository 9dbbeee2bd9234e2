"""Restoration in context: a frozen language model mends the local tokens of damaged pictures."""

from .copies import NoisyCopy, noisy_copies
from .degradation import Degradation, View, view_of
from .examples import Examples, NoisyCopyExamples, SharedExamples, draw_examples
from .local_tokens import LocalTokensOnly
from .pictures import (
    MODES,
    PictureRestorer,
    RestorationSetting,
    RestoredPictures,
    load_picture_restorer,
)
from .prompts import VARIANTS, Pair, PromptWriter
from .restorer import InContextRestorer
from .tasks import HOLE_TASKS, TASKS, WHOLE_TASKS, hole_of, seeded, steps_of

__all__ = [
    "TASKS",
    "HOLE_TASKS",
    "WHOLE_TASKS",
    "hole_of",
    "steps_of",
    "seeded",
    "Degradation",
    "View",
    "view_of",
    "NoisyCopy",
    "noisy_copies",
    "VARIANTS",
    "Pair",
    "PromptWriter",
    "Examples",
    "SharedExamples",
    "NoisyCopyExamples",
    "draw_examples",
    "LocalTokensOnly",
    "InContextRestorer",
    "MODES",
    "RestorationSetting",
    "RestoredPictures",
    "PictureRestorer",
    "load_picture_restorer",
]
