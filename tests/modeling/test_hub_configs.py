"""Every config under hub_configs/ builds, and has the documented size."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel

HUB_CONFIGS = Path(__file__).resolve().parents[2] / "hub_configs"
# millions of trainable parameters, tokens an image
SIZES = {
    "vqgan-f16-8192": (146.24, 256),
    "vqgan-f16-4096": (145.98, 256),
    "vqgan-f16-2048": (145.85, 256),
    "vqgan-f16-1024": (145.79, 256),
    "vqgan-small-64": (6.87, 64),
    "v2l-f8-128": (65.70, 256),
    "v2l-small-64": (6.86, 64),
}


def test_every_config_is_known_here():
    assert {path.parent.name for path in HUB_CONFIGS.glob("*/config.json")} == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_config_builds_with_the_documented_size(name):
    folder = HUB_CONFIGS / name
    given = json.loads((folder / "config.json").read_text())
    fields = {}
    if name == "v2l-small-64":  # its vocabulary comes with the local codebook: here the offline language model's
        fields = {"local_codebook_size": 49_152, "local_embedding_dim": 384}
    config = AutoConfig.from_pretrained(folder, **fields)
    assert given.keys() <= config.to_dict().keys()  # no field is misspelt
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    millions = sum(parameter.numel() for parameter in model.trainable_parameters()) / 1e6
    assert (round(millions, 2), config.image_seq_length) == SIZES[name]
