"""The models as they ship to the Hub: flat, self-contained files that import nothing of the package around them."""

from .configuration_conse import ConseConfig
from .configuration_v2l import V2LConfig
from .configuration_vqgan import VQGANConfig
from .image_processing_v2l import V2LImageProcessor
from .image_processing_vqgan import VQGANImageProcessor
from .modeling_conse import ConseModel
from .modeling_v2l import V2LModel, V2LOutput
from .modeling_vqgan import VQGANModel, VQGANOutput
from .processing_v2l import V2LProcessor
from .vector_quantization import VectorQuantizer, VectorQuantizerOutput
from .vocabulary_v2l import LocalVocabulary, WordVocabulary

__all__ = [
    "ConseConfig",
    "ConseModel",
    "LocalVocabulary",
    "V2LConfig",
    "V2LImageProcessor",
    "V2LModel",
    "V2LOutput",
    "V2LProcessor",
    "VQGANConfig",
    "VQGANImageProcessor",
    "VQGANModel",
    "VQGANOutput",
    "VectorQuantizer",
    "VectorQuantizerOutput",
    "WordVocabulary",
]
