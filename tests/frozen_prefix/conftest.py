"""A tiny language model, a tiny tower, and pictures of four colours."""

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from datasets import Image as ImageFeature
from PIL import Image

from visual_sentence import LanguageModel, load_language_model
from visual_sentence.frozen_prefix.models import build_frozen_model
from visual_sentence.frozen_prefix.pairs import Pairs, load_pairs

COLOURS = ["red", "green", "blue", "white"]


@pytest.fixture
def language_model(llm_folder) -> LanguageModel:
    return load_language_model(str(llm_folder), "float32", "cpu")


@pytest.fixture
def frozen(v2l_folder, language_model):
    """The model and its image processor, for that language model."""
    torch.manual_seed(0)
    return build_frozen_model(str(v2l_folder), language_model)


@pytest.fixture
def colour_table(tmp_path) -> str:
    """Twelve pictures with class, number and captions."""
    features = Features(
        {
            "image": ImageFeature(),
            "class_name": Value("string"),
            "label": ClassLabel(names=COLOURS),
            "number": Value("int64"),
            "captions": List(Value("string")),
        }
    )
    rows = [
        {
            "image": Image.new("RGB", (32, 32), COLOURS[index % 4]),
            "class_name": f"{COLOURS[index % 4]}_thing",
            "label": index % 4,
            "number": index,
            "captions": [f"all {COLOURS[index % 4]}", f"number {index} "],
        }
        for index in range(12)
    ]
    path = tmp_path / "colours.parquet"
    Dataset.from_list(rows, features=features).to_parquet(path)
    return str(path)


@pytest.fixture
def pairs(colour_table) -> Pairs:
    return load_pairs(colour_table, label_column="class_name")
