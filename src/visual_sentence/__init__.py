"""Images written as sentences: the words of a frozen language model.

Importing this package teaches transformers its model types and its pipeline tasks.
"""

from .errors import UserError
from .hub import build_v2l_model, save_v2l_model
from .image_io import open_image
from .language import LanguageModel, load_language_model
from .modeling import (
    ConseConfig,
    ConseModel,
    LocalVocabulary,
    V2LConfig,
    V2LImageProcessor,
    V2LModel,
    V2LOutput,
    V2LProcessor,
    VQGANConfig,
    VQGANImageProcessor,
    VQGANModel,
    VQGANOutput,
    WordVocabulary,
)
from .offline import offline_folder
from .registration import register

__version__ = "0.1.0"

register()

__all__ = [
    "ConseConfig",
    "ConseModel",
    "LanguageModel",
    "LocalVocabulary",
    "UserError",
    "V2LConfig",
    "V2LImageProcessor",
    "V2LModel",
    "V2LOutput",
    "V2LProcessor",
    "VQGANConfig",
    "VQGANImageProcessor",
    "VQGANModel",
    "VQGANOutput",
    "WordVocabulary",
    "build_v2l_model",
    "load_language_model",
    "offline_folder",
    "open_image",
    "save_v2l_model",
]
