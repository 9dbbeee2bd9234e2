"""The package's model types: which classes belong together."""

from .modeling import (
    ConseConfig,
    ConseModel,
    FrozenConfig,
    FrozenModel,
    LQAEConfig,
    LQAEModel,
    SimLVMConfig,
    SimLVMForVisualSentence,
    SimLVMProcessor,
    SPAEConfig,
    SPAEModel,
    V2LConfig,
    V2LImageProcessor,
    V2LModel,
    V2LProcessor,
    VQGANConfig,
    VQGANImageProcessor,
    VQGANModel,
)

# config, model, image processor
MODELS = (
    (ConseConfig, ConseModel, V2LImageProcessor),
    (V2LConfig, V2LModel, V2LImageProcessor),
    (LQAEConfig, LQAEModel, V2LImageProcessor),
    (SPAEConfig, SPAEModel, V2LImageProcessor),
    (FrozenConfig, FrozenModel, V2LImageProcessor),
    (VQGANConfig, VQGANModel, VQGANImageProcessor),
    (SimLVMConfig, SimLVMForVisualSentence, VQGANImageProcessor),
)
PROCESSORS = (
    (V2LConfig, V2LProcessor),
    (LQAEConfig, V2LProcessor),
    (SPAEConfig, V2LProcessor),
    (SimLVMConfig, SimLVMProcessor),
)

__all__ = ["MODELS", "PROCESSORS"]
