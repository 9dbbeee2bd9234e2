"""`visual-sentence convert` as a user types it."""

import json

import pytest
import torch
import yaml
from diffusers import VQModel
from transformers import AutoModel

from visual_sentence.conversion.tables import LEARNED_CODEBOOK, TAMING
from visual_sentence.conversion.transfer import translate
from visual_sentence.modeling import (
    LocalVocabulary,
    V2LConfig,
    V2LImageProcessor,
    V2LModel,
    V2LProcessor,
    VQGANConfig,
    VQGANModel,
)


@pytest.fixture
def vq_folder(tmp_path):
    """A random `VQModel` as diffusers saves it."""
    torch.manual_seed(0)
    model = VQModel(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        num_vq_embeddings=8,
        mid_block_add_attention=False,
    )
    model.save_pretrained(tmp_path / "vq")
    return tmp_path / "vq"


def test_convert(run, vq_folder, tmp_path):
    outcome = run("convert", vq_folder, "--from", "amused", "--output", tmp_path / "out", "--image-size", 32)
    assert outcome.status == 0, outcome.err
    assert outcome.err == ""
    report = json.loads((tmp_path / "out" / "conversion.json").read_text())
    assert f"{len(report['used'])} tensors of diffusion_pytorch_model.safetensors: {tmp_path / 'out'}" in outcome.out
    assert AutoModel.from_pretrained(tmp_path / "out").config.image_size == 32


def test_the_report_as_json(run, vq_folder, tmp_path):
    outcome = run("convert", vq_folder, "--from", "amused", "--output", tmp_path / "ours", "--json")
    assert (outcome.status, outcome.err) == (0, ""), outcome.err
    written = json.loads((tmp_path / "ours" / "conversion.json").read_text())
    assert json.loads(outcome.out) == {"output": str(tmp_path / "ours"), **written}
    outcome = run("convert", tmp_path / "ours", "--to", "amused", "--output", tmp_path / "theirs", "--json")
    found = json.loads(outcome.out)
    assert (outcome.status, outcome.err) == (0, "")
    assert (found["source"], found["to"]) == (str(tmp_path / "ours"), "amused")
    assert found["output"] == str(tmp_path / "theirs")


def test_what_is_left_out_is_counted(run, tmp_path):
    widths = {"ch": 32, "ch_mult": [1], "num_res_blocks": 1, "attn_resolutions": [], "z_channels": 4}
    layers = {**widths, "double_z": False, "resolution": 16, "in_channels": 3, "out_ch": 3}
    params = {"embed_dim": 4, "n_embed": 8, "ddconfig": layers}
    (tmp_path / "my-settings.yml").write_text(yaml.safe_dump({"model": {"params": params}}))
    model = VQGANModel(
        VQGANConfig(16, 3, [32], 1, latent_channels=4, codebook_size=8, codebook_dim=4, mid_block_attention=True)
    )
    rules = (*TAMING, *LEARNED_CODEBOOK)
    named = ((translate(name, rule, 1), tensor) for name, tensor in model.state_dict().items() for rule in rules)
    state = {name: tensor for name, tensor in named if name is not None}
    torch.save({"state_dict": {**state, "loss.a": torch.ones(1), "loss.b": torch.ones(1)}}, tmp_path / "last.ckpt")
    arguments = ("convert", tmp_path / "last.ckpt", "--from", "taming", "--output", tmp_path / "out")
    run(*arguments, "--config", tmp_path / "no.yaml").is_one_line("no.yaml cannot be read")
    outcome = run(*arguments, "--config", tmp_path / "my-settings.yml")
    assert "left out: 2 tensors (training only" in outcome.out, outcome.err


def test_back_to_diffusers(run, vq_folder, tmp_path):
    run("convert", vq_folder, "--from", "amused", "--output", tmp_path / "ours")
    outcome = run("convert", tmp_path / "ours", "--to", "amused", "--output", tmp_path / "theirs")
    assert outcome.status == 0, outcome.err
    before, after = (VQModel.from_pretrained(folder).state_dict() for folder in (vq_folder, tmp_path / "theirs"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--from", "amused", "--llm", "offline"], ["--llm has no meaning"]),
        (["--from", "amused", "--vqgan", "vq"], ["--vqgan has no meaning"]),
        (["--from", "lvm"], ["give --vqgan"]),
        (["--from", "vqvae"], ["choose one of v2l, taming, muse, amused"]),
        (["--from", "v2l"], ["no file of weights"]),
        ([], ["either --from"]),
        (["--from", "amused", "--to", "amused"], ["either --from"]),
        (["--to", "amused", "--image-size", "8"], ["no meaning with --to"]),
        (["--to", "taming"], ["Unknown target 'taming'"]),
    ],
)
def test_mistakes_are_answered_in_one_line(arguments, parts, run, vq_folder, tmp_path):
    (vq_folder / "diffusion_pytorch_model.safetensors").unlink()
    run("convert", vq_folder, *arguments, "--output", tmp_path / "out").is_one_line(*parts)
    assert not (tmp_path / "out").exists()


def test_compact(run, tmp_path, pictures):
    torch.manual_seed(0)
    sizes = {"image_size": 16, "block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4}
    config = V2LConfig(encoder_type=None, **sizes, local_codebook_size=20, local_embedding_dim=6, local_latent_dim=4)
    model = V2LModel(config)
    model.load_local_codebook(torch.randn(20, 6), LocalVocabulary([f"word{index}" for index in range(20)], "tiny"))
    model.save_pretrained(tmp_path / "model")
    V2LProcessor(V2LImageProcessor(local_size=16, do_global_view=False)).save_pretrained(tmp_path / "model")
    (tmp_path / "photos").mkdir()
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / "photos" / f"{number}.png")
    outcome = run("compact", tmp_path / "model", "-o", tmp_path / "small", "--data", tmp_path / "photos", "--json")
    assert outcome.status == 0, outcome.err
    report = json.loads(outcome.out)
    assert report["folded"] and 0.9 < report["equal_tokens"] <= 1
    assert AutoModel.from_pretrained(tmp_path / "small").config.local_projector is False
    outcome = run("compact", tmp_path / "model", "-o", tmp_path / "small")
    outcome.is_one_line("nothing is overwritten")
