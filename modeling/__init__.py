"""The models as they ship to the Hub: flat, self-contained files that import nothing of the package around them."""

from .configuration_conse import ConseConfig
from .configuration_frozen import FrozenConfig
from .configuration_lqae import LQAEConfig
from .configuration_simlvm import SimLVMConfig
from .configuration_spae import SPAEConfig
from .configuration_v2l import V2LConfig
from .configuration_visual_gru import VisualGRUConfig
from .configuration_vqgan import VQGANConfig
from .generation_simlvm import SentencePrefix, SimLVMCompletion
from .image_processing_v2l import V2LImageProcessor
from .image_processing_vqgan import VQGANImageProcessor
from .image_token_converter import ImageTokenConverter
from .modeling_conse import ConseModel
from .modeling_frozen import FrozenModel, FrozenOutput
from .modeling_lqae import LQAEModel
from .modeling_simlvm import SimLVMForVisualSentence, flops_per_token
from .modeling_spae import SPAEModel
from .modeling_v2l import V2LModel, V2LOutput
from .modeling_visual_gru import VisualGRUForCausalLM, VisualGRUModel
from .modeling_vqgan import VQGANModel, VQGANOutput
from .normalized_quantization import NormalizedQuantizer
from .processing_simlvm import SimLVMProcessor, check_palette, nearest_colours, palette_of
from .processing_v2l import V2LProcessor
from .pyramid_quantization import PyramidQuantizer, PyramidQuantizerOutput
from .vector_quantization import VectorQuantizer, VectorQuantizerOutput
from .vocabulary_v2l import LocalVocabulary, WordVocabulary

__all__ = [
    "ImageTokenConverter",
    "SentencePrefix",
    "SimLVMCompletion",
    "SimLVMConfig",
    "SimLVMForVisualSentence",
    "SimLVMProcessor",
    "VisualGRUConfig",
    "VisualGRUForCausalLM",
    "VisualGRUModel",
    "check_palette",
    "flops_per_token",
    "nearest_colours",
    "palette_of",
    "ConseConfig",
    "ConseModel",
    "FrozenConfig",
    "FrozenModel",
    "FrozenOutput",
    "LQAEConfig",
    "LQAEModel",
    "LocalVocabulary",
    "PyramidQuantizer",
    "PyramidQuantizerOutput",
    "SPAEConfig",
    "SPAEModel",
    "NormalizedQuantizer",
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
