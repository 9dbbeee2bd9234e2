"""A VQGAN of ours as diffusers' `VQModel`: the same tokens and images, in both directions."""

from pathlib import Path

import pytest
import torch
from diffusers import VQModel
from safetensors.torch import load_file

from visual_sentence.conversion import convert_checkpoint, export_checkpoint
from visual_sentence.errors import UserError
from visual_sentence.modeling import VQGANConfig, VQGANModel

SIZES = {
    "image_size": 16,
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "latent_channels": 8,
    "codebook_size": 30,
    "codebook_dim": 6,
}


def saved(folder: Path, **changes) -> VQGANModel:
    torch.manual_seed(0)
    model = VQGANModel(VQGANConfig(**{**SIZES, **changes})).eval()
    with torch.no_grad():
        for parameter in model.quantizer.parameters():
            parameter *= 0.2  # as long as the latents are
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize(
    "changes",
    [{"value_range": "unit"}, {"codebook": "simvq"}, {"attention_levels": [1], "mid_block_attention": True}],
    ids=str,
)
def test_diffusers_says_the_same(changes, pixel_values, tmp_path):
    model = saved(tmp_path / "ours", **changes)
    report = export_checkpoint(str(tmp_path / "ours"), "amused", tmp_path / "theirs")
    theirs = VQModel.from_pretrained(tmp_path / "theirs").eval()
    unit = model.config.value_range == "unit"
    with torch.no_grad():
        latents = theirs.encode((pixel_values + 1) / 2 if unit else pixel_values).latents
        tokens = theirs.quantize(latents)[2][2].view(2, 8, 8)
        image = theirs.decode(tokens, force_not_quantize=True, shape=(2, 8, 8, 6)).sample
    assert tokens.unique().numel() > 3
    assert torch.equal(model.encode(pixel_values).image_tokens, tokens)
    assert torch.allclose(model.decode(tokens), image * 2 - 1 if unit else image, atol=1e-4)
    assert bool(report["notes"]) is not unit


def test_there_and_back(tmp_path):
    model = saved(tmp_path / "ours", value_range="unit")
    export_checkpoint(str(tmp_path / "ours"), "amused", tmp_path / "theirs")
    convert_checkpoint(str(tmp_path / "theirs"), "amused", tmp_path / "again")
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert again.keys() == model.state_dict().keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(("field", "value"), [("normalize_latents", True), ("patch_size", 2)])
def test_what_diffusers_cannot_express(tmp_path, field, value):
    saved(tmp_path / "ours", **{field: value})
    with pytest.raises(UserError, match=field):
        export_checkpoint(str(tmp_path / "ours"), "amused", tmp_path / "theirs")
    assert not (tmp_path / "theirs").exists()


def test_other_models(v2l_folder, tmp_path):
    with pytest.raises(UserError, match="is a v2l model"):
        export_checkpoint(str(v2l_folder), "amused", tmp_path / "theirs")
    with pytest.raises(UserError, match="Unknown target 'taming'"):
        export_checkpoint(str(v2l_folder), "taming", tmp_path / "theirs")
