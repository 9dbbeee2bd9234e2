"""Masked-image restoration: a language model, tuned to continue local words, fills the holes (V2L Tokenizer, 4.3)."""

from .adapters import AdapterRecord, TunedLanguageModel, load_tuned, save_adapter
from .evaluation import evaluate_masked_restoration
from .pictures import MaskedPictures, masked_patches
from .restorer import MaskedRestorer, random_known
from .sequences import ImageSequences, SequenceFormat, SequenceWriter, load_finder

__all__ = [
    "ImageSequences",
    "SequenceFormat",
    "SequenceWriter",
    "load_finder",
    "MaskedPictures",
    "masked_patches",
    "MaskedRestorer",
    "random_known",
    "AdapterRecord",
    "TunedLanguageModel",
    "load_tuned",
    "save_adapter",
    "evaluate_masked_restoration",
]
