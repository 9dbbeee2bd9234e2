"""Teaches transformers the package's model types and pipeline tasks."""

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForCausalLM, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

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
    VisualGRUConfig,
    VisualGRUForCausalLM,
    VQGANConfig,
    VQGANImageProcessor,
    VQGANModel,
)
from .pipelines import PIPELINES, SENTENCE_TASK
from .shipped import shipped_folder

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


def register() -> None:
    """Registers everything; a second call changes nothing.

    Models saved afterwards carry the code that loads them (`auto_map` and the files of `modeling/`), so that they
    load with `trust_remote_code=True` where this package is not installed.
    """
    for config_class, model_class, processor_class in MODELS:
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
        AutoModel.register(config_class, model_class, exist_ok=True)
        AutoImageProcessor.register(config_class, image_processor_classes={"pil": processor_class}, exist_ok=True)
        config_class.register_for_auto_class()
        model_class.register_for_auto_class("AutoModel")
        processor_class.register_for_auto_class("AutoImageProcessor")
    for config_class, processor_class in PROCESSORS:
        AutoProcessor.register(config_class, processor_class, exist_ok=True)
        processor_class.register_for_auto_class("AutoProcessor")
    AutoConfig.register(VisualGRUConfig.model_type, VisualGRUConfig, exist_ok=True)
    AutoModelForCausalLM.register(VisualGRUConfig, VisualGRUForCausalLM, exist_ok=True)
    VisualGRUConfig.register_for_auto_class()
    VisualGRUForCausalLM.register_for_auto_class("AutoModelForCausalLM")
    for pipeline_class in PIPELINES:
        kind = "simlvm" if pipeline_class.task_name == SENTENCE_TASK else "v2l"  # the models that ship
        PIPELINE_REGISTRY.register_pipeline(
            pipeline_class.task_name,
            pipeline_class=pipeline_class,
            pt_model=AutoModel,
            default={"model": (str(shipped_folder(kind)), "main")},
            type="multimodal",
        )
