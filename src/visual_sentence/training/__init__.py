"""Training of image tokenizers: data, losses, the loop, checkpoints."""

from .config import TrainingConfig
from .loop import Trainer
from .pictures import PictureSource, open_pictures
from .presets import PRESETS, make_training_config
from .report import TrainingReport

__all__ = [
    "PRESETS",
    "PictureSource",
    "Trainer",
    "TrainingConfig",
    "TrainingReport",
    "make_training_config",
    "open_pictures",
]
