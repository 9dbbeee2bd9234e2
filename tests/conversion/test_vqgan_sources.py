"""VQGANs of three kinds: the same tokens and images as the source, every tensor accounted for."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from diffusers import VQModel
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, AutoModel

from visual_sentence.conversion import Options, convert_checkpoint, folders
from visual_sentence.errors import UserError

TOLERANCE = 1e-4
RESOLUTION = 16
FOR_TRAINING = {
    "loss.discriminator.main.0.weight": torch.ones(4, 3, 4, 4),
    "loss.discriminator.main.3.num_batches_tracked": torch.tensor(7),
    "loss.perceptual_loss.lin0.model.1.weight": torch.ones(1, 8, 1, 1),
}
ARCHITECTURES = [
    {},
    {"blocks": 1, "ch_mult": (1,)},
    {"ch_mult": (1, 2, 2), "attention_levels": (1, 2)},
    {"attention_levels": (1,), "embed_dim": 16, "z_channels": 8},
]


def attended(source) -> list[int]:
    return [RESOLUTION // 2**level for level in source.sizes.attention_levels]


def write_taming(source, folder: Path, extra=None, **changes) -> Path:
    """A run of taming-transformers as its authors share it: `last.ckpt` and `model.yaml`."""
    folder.mkdir()
    sizes = source.sizes
    layers = {
        "double_z": False,
        "z_channels": sizes.z_channels,
        "resolution": RESOLUTION,
        "in_channels": 3,
        "out_ch": 3,
        "ch": sizes.ch,
        "ch_mult": list(sizes.ch_mult),
        "num_res_blocks": sizes.blocks,
        "attn_resolutions": attended(source),
        "dropout": 0.0,
        **changes,
    }
    params = {"embed_dim": sizes.embed_dim, "n_embed": sizes.n_embed, "ddconfig": layers}
    described = {"model": {"target": "taming.models.vqgan.VQModel", "params": params}}
    (folder / "model.yaml").write_text(yaml.safe_dump(described))
    checkpoint = {"epoch": 3, "global_step": 7, "state_dict": {**source.state, **(extra or {})}}
    torch.save(checkpoint, folder / "last.ckpt")
    return folder


def write_muse(source, folder: Path, **changes) -> Path:
    folder.mkdir()
    sizes = source.sizes
    config = {
        "_class_name": "VQGANModel",
        "_version": "0.0.1",
        "attn_resolutions": attended(source),
        "channel_mult": list(sizes.ch_mult),
        "commitment_cost": 0.3,
        "dropout": 0.0,
        "hidden_channels": sizes.ch,
        "no_attn_mid_block": not sizes.mid_attention,
        "num_channels": 3,
        "num_embeddings": sizes.n_embed,
        "num_res_blocks": sizes.blocks,
        "quantized_embed_dim": sizes.embed_dim,
        "resample_with_conv": True,
        "resolution": RESOLUTION,
        "z_channels": sizes.z_channels,
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(source.state, folder / "pytorch_model.bin")
    return folder


def load(folder: Path) -> torch.nn.Module:
    return AutoModel.from_pretrained(folder).eval()


def assert_same(model, source, pixel_values: torch.Tensor) -> None:
    tokens = source.tokens(pixel_values)
    assert tokens.unique().numel() > 3  # of one token alone anything could be said
    assert torch.equal(model.encode(pixel_values).image_tokens, tokens)
    assert torch.allclose(model.decode(tokens), source.image(tokens), atol=TOLERANCE)


@pytest.mark.parametrize("sizes", ARCHITECTURES, ids=str)
def test_taming(sizes, make_vqgan, pixel_values, tmp_path):
    source = make_vqgan(**sizes)
    report = convert_checkpoint(str(write_taming(source, tmp_path / "run", FOR_TRAINING)), "taming", tmp_path / "out")
    model = load(tmp_path / "out")
    assert_same(model, source, pixel_values)
    assert model.config.value_range == "symmetric"
    assert set(report["used"].values()) == set(source.state)
    assert set(report["left_out"]) == set(FOR_TRAINING)
    assert set(report["used"]) == set(load_file(tmp_path / "out" / "model.safetensors"))
    assert (model.config.codebook_loss_weight, model.config.commitment_loss_weight) == (0.25, 1.0)


@pytest.mark.parametrize("sizes", [{"mid_attention": False}, *ARCHITECTURES], ids=str)
def test_muse(sizes, make_vqgan, pixel_values, tmp_path):
    source = make_vqgan(unit=True, **sizes)
    report = convert_checkpoint(str(write_muse(source, tmp_path / "muse")), "muse", tmp_path / "out")
    model = load(tmp_path / "out")
    assert_same(model, source, pixel_values)
    assert set(report["used"].values()) == set(source.state)
    assert report["left_out"] == {}
    assert model.config.codebook_loss_weight == 0.3


@pytest.fixture
def vq_model() -> VQModel:
    """A random aMUSEd-like `VQModel` with attention on its lower level."""
    torch.manual_seed(0)
    model = VQModel(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        layers_per_block=1,
        latent_channels=8,
        vq_embed_dim=6,
        num_vq_embeddings=40,
        mid_block_add_attention=False,
        lookup_from_codebook=True,
    ).eval()
    torch.nn.init.normal_(model.quantize.embedding.weight)
    return model


def assert_same_as_diffusers(model, vq_model: VQModel, pixel_values: torch.Tensor) -> None:
    with torch.no_grad():
        latents = vq_model.encode((pixel_values + 1) / 2).latents
        tokens = vq_model.quantize(latents)[2][2].view(len(pixel_values), *latents.shape[2:])
        image = vq_model.decode(latents).sample * 2 - 1
    assert tokens.unique().numel() > 3
    assert torch.equal(model.encode(pixel_values).image_tokens, tokens)
    assert torch.allclose(model.decode(tokens), image, atol=TOLERANCE)


@pytest.mark.parametrize("safe", [True, False])
def test_amused(safe, vq_model, pixel_values, tmp_path):
    vq_model.save_pretrained(tmp_path / "vq", safe_serialization=safe)
    report = convert_checkpoint(str(tmp_path / "vq"), "amused", tmp_path / "out", Options(image_size=16))
    assert_same_as_diffusers(load(tmp_path / "out"), vq_model, pixel_values)
    assert set(report["used"].values()) == set(vq_model.state_dict())
    assert report["source"].endswith("safetensors" if safe else "bin")


def test_amused_takes_the_size_of_its_pipeline(vq_model, tmp_path):
    vq_model.save_pretrained(tmp_path / "pipeline" / "vqvae")
    (tmp_path / "pipeline" / "transformer").mkdir()
    (tmp_path / "pipeline" / "transformer" / "config.json").write_text('{"sample_size": 12}')
    convert_checkpoint(str(tmp_path / "pipeline"), "amused", tmp_path / "out")
    assert load(tmp_path / "out").config.image_size == 12 * 2
    assert AutoImageProcessor.from_pretrained(tmp_path / "out").local_size == 24


def test_amused_knows_diffusers_early_names(vq_model, pixel_values, tmp_path):
    vq_model.save_pretrained(tmp_path / "vq")
    early = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for name, tensor in vq_model.state_dict().items():
        for new, old in early.items():
            name = name.replace(f".{new}.", f".{old}.")
        state[name] = tensor
    assert any(".query." in name for name in state)
    save_file(state, tmp_path / "vq" / "diffusion_pytorch_model.safetensors")
    convert_checkpoint(str(tmp_path / "vq"), "amused", tmp_path / "out")
    assert_same_as_diffusers(load(tmp_path / "out"), vq_model, pixel_values)


def test_safetensors_come_first(make_vqgan, pixel_values, tmp_path):
    source, other = make_vqgan(unit=True), make_vqgan(unit=True)
    folder = write_muse(other, tmp_path / "muse")
    save_file(source.state, folder / "model.safetensors")
    convert_checkpoint(str(folder), "muse", tmp_path / "out")
    assert_same(load(tmp_path / "out"), source, pixel_values)


def test_half_precision_is_widened(make_vqgan, tmp_path):
    source = make_vqgan()
    folder = write_taming(source, tmp_path / "run")
    halved = {name: tensor.half() for name, tensor in source.state.items()}
    torch.save({"state_dict": halved}, folder / "last.ckpt")
    convert_checkpoint(str(folder), "taming", tmp_path / "out")
    model = load(tmp_path / "out")
    assert model.dtype == torch.float32
    assert torch.equal(model.quantizer.codebook, halved["quantize.embedding.weight"].float())


@pytest.mark.parametrize("place", ["run/anything.yaml", "run/last.yml", "configs/2020-11-09-project.yaml"])
def test_where_the_yaml_may_lie(place, make_vqgan, tmp_path):
    folder = write_taming(make_vqgan(), tmp_path / "run")
    (tmp_path / "configs").mkdir()
    (folder / "model.yaml").rename(tmp_path / place)
    (tmp_path / "configs" / "2020-11-09-lightning.yaml").write_text("trainer: {}")
    convert_checkpoint(str(folder / "last.ckpt"), "taming", tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_the_result_says_where_it_comes_from(make_vqgan, tmp_path):
    folder = write_taming(make_vqgan(), tmp_path / "run", FOR_TRAINING)
    report = convert_checkpoint(str(folder), "taming", tmp_path / "out", Options(image_size=32))
    assert json.loads((tmp_path / "out" / "conversion.json").read_text()) == report
    assert (report["source"], report["from"], len(report["sha256"])) == ("last.ckpt", "taming", 64)
    assert report["source_config"]["model"]["params"]["ddconfig"]["ch"] == 32
    assert report["config"]["image_size"] == 32
    assert str(tmp_path) not in json.dumps(report)
    assert AutoImageProcessor.from_pretrained(tmp_path / "out").local_size == 32


@pytest.fixture
def hub(monkeypatch):
    """Stands for the Hub: gives of a local folder what is asked for, and notes it."""

    def serve(folder: Path) -> set[str]:
        fetched = set()

        def snapshot_download(repo_id: str, allow_patterns: list[str]) -> str:
            names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
            fetched.update(filter_repo_objects(names, allow_patterns=allow_patterns))
            for name in fetched:
                target = folder.parent / "cache" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(folder / name, target)
            return str(folder.parent / "cache")

        monkeypatch.setattr(folders, "snapshot_download", snapshot_download)
        return fetched

    return serve


def test_of_a_pipeline_on_the_hub_only_its_autoencoder_is_fetched(vq_model, pixel_values, hub, tmp_path):
    vq_model.save_pretrained(tmp_path / "pipeline" / "vqvae")
    for name in ("transformer", "text_encoder"):
        (tmp_path / "pipeline" / name).mkdir()
        (tmp_path / "pipeline" / name / "config.json").write_text('{"sample_size": 8}')
        (tmp_path / "pipeline" / name / "diffusion_pytorch_model.safetensors").write_bytes(b"large")
    fetched = hub(tmp_path / "pipeline")
    convert_checkpoint("amused/amused-256", "amused", tmp_path / "out")
    assert fetched == {"vqvae/config.json", "vqvae/diffusion_pytorch_model.safetensors", "transformer/config.json"}
    assert_same_as_diffusers(load(tmp_path / "out"), vq_model, pixel_values)


def test_muse_from_the_hub(make_vqgan, pixel_values, hub, tmp_path):
    source = make_vqgan(unit=True)
    fetched = hub(write_muse(source, tmp_path / "muse"))
    convert_checkpoint("openMUSE/vqgan-f16-8192-laion", "muse", tmp_path / "out")
    assert fetched == {"config.json", "pytorch_model.bin"}
    assert_same(load(tmp_path / "out"), source, pixel_values)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"double_z": True}, "double_z"),
        ({"in_channels": 182}, "in_channels"),
        ({"resamp_with_conv": False}, "resamp_with_conv"),
        ({"ch": None}, "model.params.ddconfig.ch must be a whole number"),
        ({"ch_mult": "1,2"}, "ch_mult must be a list"),
        ({"ch": 20}, "20"),
    ],
)
def test_other_networks_of_taming_are_refused(changes, found, make_vqgan, tmp_path):
    folder = write_taming(make_vqgan(), tmp_path / "run", **changes)
    with pytest.raises(UserError, match=found):
        convert_checkpoint(str(folder), "taming", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_gumbel_quantizer_is_refused(make_vqgan, tmp_path):
    folder = write_taming(make_vqgan(), tmp_path / "run")
    text = (folder / "model.yaml").read_text().replace("vqgan.VQModel", "vqgan.GumbelVQ")
    (folder / "model.yaml").write_text(text)
    with pytest.raises(UserError, match="GumbelVQ"):
        convert_checkpoint(str(folder), "taming", tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"_class_name": "MOVQ"}, "MOVQ"),
        ({"decoder_hidden_channels": 64}, "decoder_hidden_channels"),
        ({"num_res_blocks": 1, "attn_resolutions": [8]}, "num_res_blocks 1"),
        ({"commitment_cost": "small"}, "commitment_cost must be a number"),
        ({"no_attn_mid_block": 1}, "no_attn_mid_block must be true or false"),
    ],
)
def test_other_networks_of_muse_are_refused(changes, found, make_vqgan, tmp_path):
    folder = write_muse(make_vqgan(unit=True), tmp_path / "muse", **changes)
    with pytest.raises(UserError, match=found):
        convert_checkpoint(str(folder), "muse", tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"norm_type": "spatial"}, "spatial"),
        ({"_class_name": "AutoencoderKL"}, "AutoencoderKL"),
        ({"up_block_types": ["UpDecoderBlock2D", "AttnUpDecoderBlock2D"]}, "mirrors"),
        ({"down_block_types": ["DownBlock2D", "DownEncoderBlock2D"]}, "DownBlock2D"),
    ],
)
def test_other_models_of_diffusers_are_refused(changes, found, vq_model, tmp_path):
    vq_model.save_pretrained(tmp_path / "vq")
    path = tmp_path / "vq" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(UserError, match=found):
        convert_checkpoint(str(tmp_path / "vq"), "amused", tmp_path / "out")
