"""Teaches transformers the package's model types and pipeline tasks."""

from typing import Any

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForCausalLM, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

from .model_types import MODELS, PROCESSORS
from .modeling import VisualGRUConfig, VisualGRUForCausalLM
from .pipelines import PIPELINES, SENTENCE_TASK
from .shipped import shipped_folder


def register() -> None:
    """Registers everything; a second call changes nothing.

    Models saved afterwards carry the code that loads them (`auto_map` and the files of `modeling/`), so that they
    load with `trust_remote_code=True` where this package is not installed. Their `push_to_hub`, and that of the
    pipelines, publishes all that belongs to a model, which the code that travels cannot do alone.
    """
    for config_class, model_class, processor_class in MODELS:
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
        AutoModel.register(config_class, model_class, exist_ok=True)
        AutoImageProcessor.register(config_class, image_processor_classes={"pil": processor_class}, exist_ok=True)
        config_class.register_for_auto_class()
        model_class.register_for_auto_class("AutoModel")
        model_class.push_to_hub = push_to_hub  # type: ignore[method-assign]
        processor_class.register_for_auto_class("AutoImageProcessor")
    for config_class, processor_class in PROCESSORS:
        AutoProcessor.register(config_class, processor_class, exist_ok=True)
        processor_class.register_for_auto_class("AutoProcessor")
    AutoConfig.register(VisualGRUConfig.model_type, VisualGRUConfig, exist_ok=True)
    AutoModelForCausalLM.register(VisualGRUConfig, VisualGRUForCausalLM, exist_ok=True)
    VisualGRUConfig.register_for_auto_class()
    VisualGRUForCausalLM.register_for_auto_class("AutoModelForCausalLM")
    for pipeline_class in PIPELINES:
        pipeline_class.push_to_hub = push_pipeline_to_hub  # type: ignore[method-assign]
        kind = "simlvm" if pipeline_class.task_name == SENTENCE_TASK else "v2l"  # the models that ship
        PIPELINE_REGISTRY.register_pipeline(
            pipeline_class.task_name,
            pipeline_class=pipeline_class,
            pt_model=AutoModel,
            default={"model": (str(shipped_folder(kind)), "main")},
            type="multimodal",
        )


def push_to_hub(self: Any, repo_id: str, **options: Any) -> str:
    """Publishes this model with words, processor, code, pipelines and a card, in one commit.

    Args:
        repo_id: Where to, OWNER/NAME.
        **options: See `visual_sentence.publishing.push_model`.

    Raises:
        UserError: See `visual_sentence.publishing.push_model`.
    """
    from .publishing import push_model

    return push_model(self, repo_id, **options)


def push_pipeline_to_hub(self: Any, repo_id: str, **options: Any) -> str:
    """Publishes this pipeline's model as the model's own `push_to_hub` does, with the pipeline's image processor.

    Args:
        repo_id: Where to, OWNER/NAME.
        **options: See `visual_sentence.publishing.push_model`.

    Raises:
        UserError: See `visual_sentence.publishing.push_model`.
    """
    return push_to_hub(self.model, repo_id, **{"processor": self.image_processor, **options})


__all__ = ["register"]
