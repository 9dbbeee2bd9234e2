"""Training SimLVM on visual sentences: batches of token sentences, losses, distillation, LoRA, the loop."""

from .config import SentenceTrainingConfig
from .trainer import SentenceTrainer

__all__ = ["SentenceTrainer", "SentenceTrainingConfig"]
