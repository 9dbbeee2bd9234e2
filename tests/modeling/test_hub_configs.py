"""Every config under hub_configs/ builds, and has the documented size."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel

HUB_CONFIGS = Path(__file__).resolve().parents[2] / "hub_configs"
# millions of trainable parameters, tokens an image; of a SimLVM those are its language model's, as its VQGAN is frozen:
# with embeddings and head, which for DeLVM means the projection of the codebook (64 to H) and not the table that its
# export makes of it (299.5 and 1164.2 million with that)
SIZES = {
    "vqgan-f16-8192": (146.24, 256),
    "vqgan-f16-4096": (145.98, 256),
    "vqgan-f16-2048": (145.85, 256),
    "vqgan-f16-1024": (145.79, 256),
    "vqgan-small-64": (6.87, 64),
    "vqgan-sentence-96": (2.81, 144),
    "vqgan-sentence-128": (2.81, 256),
    "vqgan-f8-128": (66.94, 256),
    "vqgan-f8-128-llm": (66.82, 256),
    "v2l-f8-128": (65.70, 256),
    "v2l-small": (2.80, 256),
    "v2l-small-128": (2.81, 256),
    "v2l-small-64": (6.86, 64),
    "lqae-f8-128": (65.11, 256),
    "lqae-small-64": (2.84, 64),
    "spae-f8-128": (65.11, 1109),
    "spae-f8-128-256": (65.11, 256),
    "spae-small-64": (2.84, 277),
    "spae-small-64-map": (2.84, 64),
    "simlvm-7b": (6544.20, 256),
    "simlvm-1b": (1147.12, 256),
    "simlvm-300m": (290.97, 256),
    "simlvm-300m-4096": (282.58, 256),
    "simlvm-300m-2048": (278.39, 256),
    "simlvm-300m-1024": (276.29, 256),
    "simlvm-1b-delvm": (1147.55, 256),
    "simlvm-300m-delvm": (291.18, 256),
    "simlvm-gru": (294.15, 256),
    "simlvm-small": (5.91, 256),
    "simlvm-small-96": (4.09, 144),
    "simlvm-gru-small-96": (4.05, 144),
}
# of a SimLVM: millions of parameters in all, the frozen VQGAN's among them; images of the longest sentence; its VQGAN
WHOLE = {
    "simlvm-7b": (6690.44, 16, "vqgan-f16-8192"),
    "simlvm-1b": (1293.36, 16, "vqgan-f16-8192"),
    "simlvm-300m": (437.21, 16, "vqgan-f16-8192"),
    "simlvm-300m-4096": (428.56, 16, "vqgan-f16-4096"),
    "simlvm-300m-2048": (424.24, 16, "vqgan-f16-2048"),
    "simlvm-300m-1024": (422.07, 16, "vqgan-f16-1024"),
    "simlvm-1b-delvm": (1293.79, 8, "vqgan-f16-8192"),
    "simlvm-300m-delvm": (437.43, 8, "vqgan-f16-8192"),
    "simlvm-gru": (440.39, 16, "vqgan-f16-8192"),
    "simlvm-small": (8.72, 8, "vqgan-sentence-128"),
    "simlvm-small-96": (6.90, 12, "vqgan-sentence-96"),
    "simlvm-gru-small-96": (6.86, 12, "vqgan-sentence-96"),
}


def test_every_config_is_known_here():
    assert {path.parent.name for path in HUB_CONFIGS.glob("*/config.json")} == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_config_builds_with_the_documented_size(name):
    folder = HUB_CONFIGS / name
    given = json.loads((folder / "config.json").read_text())
    fields = {}
    if name in ("v2l-small-64", "v2l-small-128", "lqae-small-64", "spae-small-64", "spae-small-64-map"):
        # their vocabulary comes with the local codebook: here the offline language model's
        fields = {"local_codebook_size": 49_152, "local_embedding_dim": 384}
    if name.startswith(("spae-small", "lqae-small")):
        fields["local_latent_dim"] = 384  # without a projector the codebook's width
    if name == "vqgan-f8-128-llm":  # LLaMA-2 7B's
        fields = {"local_codebook_size": 32_000, "local_embedding_dim": 4096, "local_latent_dim": 4096}
    config = AutoConfig.from_pretrained(folder, **fields)
    assert_no_field_is_misspelt(given, config.to_dict())
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    millions = sum(parameter.numel() for parameter in model.trainable_parameters()) / 1e6
    tokens = getattr(config, "image_seq_length", None) or config.tokens_per_image
    assert (round(millions, 2), tokens) == SIZES[name]


def assert_no_field_is_misspelt(given: dict, known: dict) -> None:
    assert given.keys() <= known.keys()
    for name, value in given.items():
        if isinstance(value, dict) and isinstance(known[name], dict) and "model_type" in value:
            assert_no_field_is_misspelt(value, known[name])


@pytest.mark.parametrize("name", WHOLE)
def test_simlvm_with_its_vqgan(name):
    folder = HUB_CONFIGS / name
    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    millions, images, vqgan = WHOLE[name]
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2) == millions
    assert not any(parameter.requires_grad for parameter in model.vqgan.parameters())
    assert config.max_images == images
    assert images * config.tokens_per_image == config.text_config.max_position_embeddings
    if vqgan is not None:
        given = json.loads((folder / "config.json").read_text())["vq_config"]
        assert given == json.loads((HUB_CONFIGS / vqgan / "config.json").read_text())


@pytest.mark.parametrize("name", WHOLE)
def test_layout_of_ids(name):
    config = AutoConfig.from_pretrained(HUB_CONFIGS / name)
    specials = config.vocab_size - config.codebook_size
    assert config.image_token_offset == 0
    if "small" in name or "delvm" in name:
        assert specials == 0 and config.special_token_ids == {}
    else:
        assert specials == 100 and config.special_token_ids == {"pad": config.codebook_size}
    assert config.embedding == ("codebook" if "delvm" in name else "table")
