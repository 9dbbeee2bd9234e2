"""Tiny models and a few pictures in place of what the tables are measured with."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from datasets import Dataset, Features, List, Value
from datasets import Image as ImageFeature
from PIL import Image
from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessor, CLIPModel

from visual_sentence.language import entry_texts
from visual_sentence.modeling import (
    LocalVocabulary,
    SPAEConfig,
    SPAEModel,
    V2LConfig,
    V2LImageProcessor,
    V2LModel,
    VQGANConfig,
    VQGANImageProcessor,
    VQGANModel,
)
from visual_sentence.reconstruction import ImageCodec
from visual_sentence.reproduction import reconstruction_tables, restoration_tables
from visual_sentence.reproduction.budgets import Data, find_budget
from visual_sentence.reproduction.context import Context
from visual_sentence.reproduction.workspace import Workspace

from ..conftest import TOWERS

CODEC = {
    "image_size": 16,
    "block_out_channels": [8, 8, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "latent_channels": 8,
}
WORDS = [" ", "  Ġspaced ", *(f"word{index}" for index in range(38))]


def spread(model: V2LModel | VQGANModel) -> None:
    """Makes different pictures take different codes, which a random encoder does not do by itself."""
    quantizer = model.quantizer if hasattr(model, "quantizer") else model.local_quantizer
    with torch.no_grad():
        latents = model.encode_pixels(torch.rand(40, 3, 16, 16) * 2 - 1).permute(0, 2, 3, 1).flatten(0, 2)
        quantizer.codebook.copy_(latents[torch.randperm(len(latents))[: len(quantizer.codebook)]])


def local_v2l(words: list[str]) -> V2LModel:
    """A V2L model without an image tower, whose codes are those words: 16 pixels to 4 x 4 tokens."""
    torch.manual_seed(0)
    config = V2LConfig(
        encoder_type=None,
        **CODEC,
        local_codebook_size=len(words),
        local_embedding_dim=8,
        local_projector=False,
        cross_attention=None,
    )
    model = V2LModel(config).eval()
    spread(model)
    model.set_local_vocabulary(LocalVocabulary(words, "tiny"))
    return model


@pytest.fixture
def codec() -> ImageCodec:
    """A V2L model whose codes are `WORDS`."""
    return ImageCodec(local_v2l(WORDS), V2LImageProcessor(local_size=16), "tiny-v2l")


@pytest.fixture
def spae(vocabulary) -> ImageCodec:
    """A SPAE of 1 + 4 + 16 tokens with an image tower."""
    torch.manual_seed(0)
    encoder_type, encoder_config = TOWERS["clip"]
    config = SPAEConfig(
        encoder_type=encoder_type,
        encoder_config=encoder_config,
        embedding_dim=16,
        num_words=12,
        **CODEC,
        local_codebook_size=len(WORDS),
        local_embedding_dim=16,
        semantic_layers=2,
        semantic_thresholds=[0.9, 0.7],
        layer_sizes=[1, 2, 4],
    )
    model = SPAEModel(config).eval()
    model.load_codebook(torch.nn.functional.normalize(torch.randn(12, 16)), torch.zeros(16), vocabulary)
    model.load_local_codebook(torch.randn(len(WORDS), 16), LocalVocabulary(WORDS, "tiny"))
    model.quant_conv.weight.data.mul_(20)
    return ImageCodec(model, V2LImageProcessor(local_size=16, global_size=32), "tiny-spae")


@pytest.fixture
def vqgan() -> ImageCodec:
    """A VQGAN of 40 codes, which are no words."""
    torch.manual_seed(0)
    model = VQGANModel(VQGANConfig(**CODEC, codebook_size=40, codebook_dim=8)).eval()
    spread(model)
    return ImageCodec(model, VQGANImageProcessor(local_size=16), "tiny-vqgan")


@pytest.fixture
def save(tmp_path) -> Callable[[ImageCodec], Path]:
    """Saves a codec's model and processor as a folder that the tables take."""

    def to_folder(codec: ImageCodec) -> Path:
        folder = tmp_path / codec.name
        codec.model.save_pretrained(folder)
        codec.image_processor.save_pretrained(folder)
        return folder

    return to_folder


@pytest.fixture
def readable_folder(llm_folder, save) -> Path:
    """A V2L model whose codes are the entries of the language model in `llm_folder`."""
    texts = entry_texts(AutoTokenizer.from_pretrained(llm_folder))
    return save(ImageCodec(local_v2l(texts), V2LImageProcessor(local_size=16), "readable"))


def write_pictures(folder: Path, count: int) -> Path:
    """Writes smooth pictures of 40 x 40 pixels."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(count):
        small = generator.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(small).resize((40, 40), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def picture_folder(tmp_path) -> Path:
    """Six pictures."""
    return write_pictures(tmp_path / "photographs", 6)


@pytest.fixture
def episodes_file(tmp_path) -> str:
    """Two episodes of each number of ways and shots that table 1 has."""
    generator = np.random.default_rng(1)
    rows = []
    for way in (2, 5):
        for shot in (1, 3, 5):
            for number in range(2):
                pictures = generator.integers(0, 256, (way * shot + 1, 40, 40, 3), dtype=np.uint8)
                *support, query = [Image.fromarray(one) for one in pictures]
                rows.append(
                    {
                        "way": way,
                        "shot": shot,
                        "class_names": ["goldfish", "dog", "tree", "photo", "bulldog"][:way],
                        "support_images": support,
                        "support_labels": [*range(way)] * shot,
                        "query_image": query,
                        "query_label": number,
                    }
                )
    features = Features(
        {
            **{name: Value("int64") for name in ("way", "shot", "query_label")},
            "class_names": List(Value("string")),
            "support_labels": List(Value("int64")),
            "support_images": List(ImageFeature()),
            "query_image": ImageFeature(),
        }
    )
    path = tmp_path / "episodes.parquet"
    Dataset.from_list(rows, features=features).to_parquet(path)
    return str(path)


class Networks:
    """In place of the networks that measure: the mean colour as features, and the mean difference as a distance."""

    class Features:
        name, dim = "mean-colour-frechet-distance", 3

        def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.mean((2, 3))

    class Distance:
        name = "mean-difference"

        def __call__(self, pixels: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
            return (pixels - others).abs().mean((1, 2, 3))

    def __init__(self, perceptual: str, frechet: str, device: torch.device):
        self.distance = self.Distance()
        self.features = None if frechet == "none" else self.Features()

    def pixels(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        return torch.stack([torch.tensor(np.array(one)).permute(2, 0, 1) for one in pictures]) / 127.5 - 1


@pytest.fixture
def simple_networks(monkeypatch) -> None:
    """Lets tables be measured without the offline models."""
    for module in (reconstruction_tables, restoration_tables):
        monkeypatch.setattr(module, "Networks", Networks)


@pytest.fixture(scope="session")
def clip_folder(llm_folder, tmp_path_factory) -> str:
    """A joint encoder of random weights, wide enough that texts and pictures differ."""
    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = AutoTokenizer.from_pretrained(llm_folder)
    tokenizer.pad_token = tokenizer.eos_token
    layers = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"bos_token_id": 1, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.eos_token_id}
    text = {**layers, **ids, "vocab_size": len(tokenizer), "max_position_embeddings": 64}
    vision = {**layers, "image_size": 32, "patch_size": 16}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = {"shortest_edge": 36}
    CLIPImageProcessor(size=size, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def make_context(tmp_path) -> Callable[..., Context]:
    """What a table is measured with: a budget's, with other sizes where some are given."""

    def make(budget: str = "smoke", data: tuple[str, ...] = (), models: dict | None = None, **sizes) -> Context:
        chosen = find_budget(budget)
        chosen = replace(chosen, sizes=replace(chosen.sizes, **sizes))
        workspace = Workspace(tmp_path / "output", lambda line: None)
        return Context(workspace, chosen, Data(data), {**chosen.models, **(models or {})}, "cpu")

    return make


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    """A run that breaks off in a test must not decide over the next one."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    logging.getLogger("visual_sentence.training").setLevel(logging.NOTSET)
