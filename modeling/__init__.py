"""The models as they ship to the Hub: flat, self-contained files that import nothing of the package around them."""

from .configuration_conse import ConseConfig
from .configuration_v2l import V2LConfig
from .image_processing_v2l import V2LImageProcessor
from .modeling_conse import ConseModel
from .modeling_v2l import V2LModel, V2LOutput
from .processing_v2l import V2LProcessor
from .vocabulary_v2l import WordVocabulary

__all__ = [
    "ConseConfig",
    "ConseModel",
    "V2LConfig",
    "V2LImageProcessor",
    "V2LModel",
    "V2LOutput",
    "V2LProcessor",
    "WordVocabulary",
]
