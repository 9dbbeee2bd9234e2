"""Turns the packages' files into ordinary model folders.

* language model: GGUF to bfloat16 safetensors with its own tokenizer;
* joint encoder: EfficientNet-Lite0 and MiniLM become a `ConseModel`;
* V2L model: that encoder's image half and the global codebook that ships with this package.
"""

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gguf
import torch
from timm.data.imagenet_info import ImageNetInfo
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageClassification, AutoTokenizer
from transformers.image_utils import PILImageResampling
from transformers.models.timm_wrapper.configuration_timm_wrapper import TimmWrapperConfig
from transformers.utils import quantization_config

from ..codebook import GlobalCodebook
from ..encoders.transformers_encoder import ConseJointEncoder
from ..hub import save_v2l_model
from ..modeling import ConseConfig, ConseModel, V2LImageProcessor
from ..references import OFFLINE
from .cache import CODEBOOK, offline_folder
from .packages import IMAGE_CLASSIFIER, LANGUAGE_MODEL, SENTENCE_ENCODER

ARCHITECTURE = "tf_efficientnet_lite0"  # timm's name of the same network
TOP_LABELS = 10
# The weights were trained on (value - 127) / 128; with ImageNet's mean and deviation 10 points are lost.
PIXEL_MEAN, PIXEL_STD = 127 / 255, 128 / 255
# The shorter side becomes RESIZE pixels, of which the central VIEW_SIZE are looked at (the usual ratio 7:8).
RESIZE, VIEW_SIZE = 219, 192


def convert_language_model(folder: Path) -> None:
    """Writes the language model as bfloat16 safetensors, with its tokenizer."""
    source = LANGUAGE_MODEL.locate()
    # on Python 3.10 transformers finds no metadata of packages like gguf, and asks the package for its version
    vars(gguf)["__version__"] = version("gguf")
    arguments: dict[str, Any] = {"gguf_file": source.name}
    tokenizer: Any = AutoTokenizer.from_pretrained(source.parent, **arguments)
    if hasattr(quantization_config, "GgufConfig"):
        # newer versions keep the weights quantized, and then refuse to save them, unless they are told not to
        arguments["quantization_config"] = quantization_config.GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(source.parent, dtype=torch.bfloat16, **arguments)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def convert_encoder(folder: Path) -> None:
    """Writes the joint encoder: classifier, sentence encoder and the embeddings of ImageNet's labels."""
    text_folder = SENTENCE_ENCODER.locate().parent
    text_config = AutoConfig.from_pretrained(text_folder).to_dict()
    tokenizer: Any = AutoTokenizer.from_pretrained(text_folder)
    labels = ImageNetInfo()
    names = [labels.index_to_description(index) for index in range(labels.num_classes())]
    model = ConseModel(
        ConseConfig(
            classifier_config=classifier_config(len(names)).to_dict(),
            text_config=text_config,
            embedding_dim=text_config["hidden_size"],
            top_labels=TOP_LABELS,
            label_ids=labels.label_names(),
            label_words=sorted({word for name in names for word in re.findall(r"[a-z]{3,}", name.lower())}),
        )
    ).eval()
    text_class: Any = type(model.text_model)
    model.text_model = text_class.from_pretrained(text_folder, dtype=torch.float32)
    model.classifier.load_state_dict(classifier_state(model.classifier))
    encoder = ConseJointEncoder("offline", model, tokenizer, image_view())
    model.label_embeddings.copy_(embed_labels(encoder, labels))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    image_view().save_pretrained(folder)


def convert_v2l(folder: Path) -> None:
    """Writes the V2L model: the joint encoder's image half and the codebook that ships with this package."""
    encoder_folder = str(offline_folder("encoder"))
    config = AutoConfig.from_pretrained(encoder_folder)
    encoder = ConseJointEncoder.load(encoder_folder, config, "cpu")
    encoder.name = OFFLINE
    codebook = GlobalCodebook.load(Path(str(CODEBOOK)))
    save_v2l_model(encoder, codebook, folder)


def image_view() -> V2LImageProcessor:
    """The views of a picture, the global one as the classifier was trained on it."""
    return V2LImageProcessor(
        global_size=VIEW_SIZE,
        global_resize=RESIZE,
        global_resample=PILImageResampling.BILINEAR,
        global_mean=[PIXEL_MEAN] * 3,
        global_std=[PIXEL_STD] * 3,
    )


def classifier_config(num_labels: int) -> TimmWrapperConfig:
    """EfficientNet-Lite0 as transformers' wrapper of timm models."""
    names = [str(index) for index in range(num_labels)]
    return TimmWrapperConfig.from_dict(
        {"architecture": ARCHITECTURE, "num_classes": num_labels, "label_names": names, "model_type": "timm_wrapper"}
    )


def classifier_state(classifier: AutoModelForImageClassification) -> dict[str, torch.Tensor]:
    """The package's weights under timm's names.

    Both write the same layers in the same order; a tensor of another shape would be refused on loading.
    """
    source = torch.load(IMAGE_CLASSIFIER.locate(), weights_only=True, map_location="cpu")
    names = list(classifier.timm_model.state_dict())
    return {f"timm_model.{name}": tensor for name, tensor in zip(names, source.values(), strict=True)}


def embed_labels(encoder: ConseJointEncoder, labels: ImageNetInfo) -> torch.Tensor:
    """One unit vector [L, D] for each label: the sum of its name's embedding and that of name and definition."""
    names, definitions = [], []
    for index in range(labels.num_classes()):
        name = labels.index_to_description(index).split(",")[0]
        definition = labels.index_to_description(index, detailed=True).partition(": ")[2]
        names.append(name)
        definitions.append(f"{name}, {definition}")
    embeddings = [
        torch.cat([encoder.encode_texts(texts[start : start + 100]) for start in range(0, len(texts), 100)])
        for texts in (names, definitions)
    ]
    return torch.nn.functional.normalize(embeddings[0] + embeddings[1], dim=-1)


CONVERTERS = {"language-model": convert_language_model, "encoder": convert_encoder, "v2l": convert_v2l}
