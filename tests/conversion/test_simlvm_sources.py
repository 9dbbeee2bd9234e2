"""LVM and DeLVM: the logits of transformers' Llama on the same weights, the tokens of their VQGAN, what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import VQModel
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoProcessor, LlamaConfig, LlamaForCausalLM

from visual_sentence.conversion import Options, convert_checkpoint
from visual_sentence.errors import UserError
from visual_sentence.modeling import VQGANConfig, VQGANModel

K, T = 40, 64  # entries of the codebook, tokens of an image of 16 pixels
TOLERANCE = 1e-4
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.3,
}


def language_model(vocabulary: int, positions: int, **options) -> LlamaForCausalLM:
    torch.manual_seed(1)
    config = LlamaConfig(vocab_size=vocabulary, max_position_embeddings=positions, **{**SIZES, **options})
    model = LlamaForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "norm" in name:  # nothing that a conversion could lose without notice
            torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.3)
    return model


def write_lvm(folder: Path, shards: bool = True, half: bool = False, **options) -> LlamaForCausalLM:
    """As on the Hub: safetensors in several files, ids of texts in the configuration, no tokenizer."""
    model = language_model(K + 100, 16 * T, rms_norm_eps=1e-6, rope_theta=5000.0, **options)
    if half:
        model.half()
    model.save_pretrained(folder, max_shard_size="20KB" if shards else "1GB")
    assert len(list(folder.glob("*.safetensors"))) == 1 or shards
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def write_delvm(folder: Path, **changes) -> LlamaForCausalLM:
    """As `convert2hf` writes it: code of its own, `pytorch_model.bin`, biases."""
    model = language_model(K, 8 * T, rms_norm_eps=1e-5, attention_bias=True)
    folder.mkdir(parents=True)
    config = {
        "architectures": ["InternLMForCausalLM"],
        "auto_map": {"AutoModel": "modeling_internlm.InternLMForCausalLM"},
        "bias": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": 32,
        "intermediate_size": 48,
        "max_position_embeddings": 8 * T,
        "model_type": "internlm",
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "pad_token_id": -1,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "vocab_size": K,
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_internlm.py").write_text("raise SystemExit('this code was run')")
    state = {f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": torch.ones(4) for layer in range(2)}
    torch.save({**model.state_dict(), **state}, folder / "pytorch_model.bin")
    return model


@pytest.fixture
def write_vqgan(make_vqgan, tmp_path):
    """Writes a VQGAN as LVM's: openMUSE's layout, 16 px to 8 x 8 tokens; gives its functions."""

    def write(folder: Path | None = None, **sizes):
        source, folder = make_vqgan(unit=True, mid_attention=False, **sizes), folder or tmp_path / "vqvae_ckpts"
        folder.mkdir()
        config = {
            "_class_name": "VQGANModel",
            "attn_resolutions": [],
            "channel_mult": [1, 2],
            "hidden_channels": source.sizes.ch,
            "no_attn_mid_block": True,
            "num_embeddings": source.sizes.n_embed,
            "num_res_blocks": 2,
            "quantized_embed_dim": source.sizes.embed_dim,
            "resolution": 16,
            "z_channels": source.sizes.z_channels,
        }
        (folder / "config.json").write_text(json.dumps(config))
        torch.save(source.state, folder / "pytorch_model.bin")
        return source

    return write


@pytest.fixture
def vqgan(write_vqgan):
    return write_vqgan()


def convert(tmp_path: Path, kind: str, vqgan: str = "vqvae_ckpts", **options) -> dict:
    given = Options(vqgan=str(tmp_path / vqgan), **options)
    return convert_checkpoint(str(tmp_path / "source"), kind, tmp_path / "out", given)


def assert_same_logits(folder: Path, source: LlamaForCausalLM, dtype: torch.dtype = torch.float32) -> None:
    model = AutoModel.from_pretrained(folder, dtype=dtype).eval()
    ids = torch.randint(0, K, (2, 3 * T), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = source(ids).logits, model(input_ids=ids).logits
    assert expected.std() > 0.5
    assert torch.allclose(found, expected, atol=TOLERANCE)


@pytest.mark.parametrize("shards", [True, False])
def test_lvm(shards, vqgan, pixel_values, tmp_path):
    source = write_lvm(tmp_path / "source", shards)
    report = convert(tmp_path, "lvm")
    assert_same_logits(tmp_path / "out", source)
    model = AutoModel.from_pretrained(tmp_path / "out").eval()
    assert (model.config.max_images, model.config.special_token_ids) == (16, {"pad": K})
    assert model.config.text_config.eos_token_id is None and model.generation_config.eos_token_id is None
    assert set(report["used"].values()) == set(source.state_dict())
    assert report["left_out"] == {} and len(report["notes"]) == 1
    files = {path.name for path in (tmp_path / "source").glob("model*")}
    assert len(files) > 3 if shards else files == {"model.safetensors"}
    assert set(report["sha256"]) == files if shards else len(report["sha256"]) == 64
    assert json.loads((tmp_path / "out" / "conversion.json").read_text()) == report
    assert str(tmp_path) not in json.dumps(report)
    # the image tokenizer is the source's, on its own range of pixels
    tokens = vqgan.tokens(pixel_values)
    assert tokens.unique().numel() > 3
    assert torch.equal(model.tokenize(pixel_values), tokens.flatten(1))
    assert torch.allclose(model.draw(tokens), vqgan.image(tokens), atol=TOLERANCE)
    assert model.config.vq_config.value_range == "unit"


@pytest.mark.parametrize("bias", [True, False])
def test_delvm(bias, vqgan, tmp_path):
    source = write_delvm(tmp_path / "source")
    if not bias:
        source = language_model(K, 8 * T, rms_norm_eps=1e-5)
        torch.save(source.state_dict(), tmp_path / "source" / "pytorch_model.bin")
        path = tmp_path / "source" / "config.json"
        path.write_text(path.read_text().replace('"bias": true', '"bias": false'))
    report = convert(tmp_path, "delvm")
    assert_same_logits(tmp_path / "out", source)
    model = AutoModel.from_pretrained(tmp_path / "out")
    assert (model.config.max_images, model.config.special_token_ids, model.config.embedding) == (8, {}, "table")
    assert model.config.text_config.attention_bias == bias
    assert set(report["used"].values()) == set(source.state_dict())
    assert len(report["left_out"]) == 2 * bias


def test_torch_files_under_an_index(vqgan, tmp_path):
    source = write_delvm(tmp_path / "source")
    folder = tmp_path / "source"
    state = list(torch.load(folder / "pytorch_model.bin").items())
    (folder / "pytorch_model.bin").unlink()
    halves = {"pytorch_model-00001-of-00002.bin": state[:7], "pytorch_model-00002-of-00002.bin": state[7:]}
    for name, part in halves.items():
        torch.save(dict(part), folder / name)
    places = {tensor: name for name, part in halves.items() for tensor, _ in part}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    report = convert(tmp_path, "delvm")
    assert_same_logits(tmp_path / "out", source)
    assert set(report["sha256"]) == {"pytorch_model.bin.index.json", *halves}


@pytest.mark.parametrize("rotary", [{"base": 5000, "type": "dynamic"}, {"base": 5000.0, "type": "origin"}])
def test_delvm_with_rotary_positions_of_another_base(rotary, vqgan, tmp_path):
    write_delvm(tmp_path / "source", rotary=rotary)
    convert(tmp_path, "delvm")
    source = language_model(K, 8 * T, rms_norm_eps=1e-5, attention_bias=True, rope_theta=5000.0)
    assert_same_logits(tmp_path / "out", source)


def test_the_result_answers(vqgan, tmp_path):
    write_delvm(tmp_path / "source")
    convert(tmp_path, "delvm")
    model = AutoModel.from_pretrained(tmp_path / "out").eval()
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    assert (processor.max_images, processor.tokens_per_image, processor.pad_id) == (8, T, 0)
    assert processor.image_processor.local_size == 16 and processor.image_processor.local_fit == "crop"
    pictures = list(torch.rand(3, 3, 20, 20))
    found = model.complete(**processor(pairs=[tuple(pictures[:2])], query=pictures[2]))
    assert found.image_tokens.shape == (1, 1, 8, 8) and int(found.image_tokens.max()) < K
    assert not any(parameter.requires_grad for parameter in model.vqgan.parameters())


def test_half_precision_stays_where_it_is(vqgan, pixel_values, tmp_path):
    source = write_lvm(tmp_path / "source", half=True)
    convert(tmp_path, "lvm")
    stored = load_file(tmp_path / "out" / "model.safetensors")
    kinds = {name: tensor.dtype for name, tensor in stored.items()}
    assert {kinds[name] for name in kinds if name.startswith("language_model.")} == {torch.float16}
    assert {kinds[name] for name in kinds if name.startswith("vqgan.")} == {torch.float32}
    assert_same_logits(tmp_path / "out", source)
    model = AutoModel.from_pretrained(tmp_path / "out")
    assert model.dtype == torch.float16
    assert torch.equal(model.tokenize(pixel_values), vqgan.tokens(pixel_values).flatten(1))


def test_vqgans_of_other_layouts(vqgan, pixel_values, tmp_path):
    write_lvm(tmp_path / "source")
    convert_checkpoint(str(tmp_path / "vqvae_ckpts"), "muse", tmp_path / "ours")
    convert(tmp_path, "lvm", vqgan="ours")
    tokens = AutoModel.from_pretrained(tmp_path / "out").tokenize(pixel_values)
    assert torch.equal(tokens, vqgan.tokens(pixel_values).flatten(1))
    shutil.rmtree(tmp_path / "out")
    options = {"block_out_channels": (32,) * 5, "num_vq_embeddings": K, "latent_channels": 4}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 5, "up_block_types": ("UpDecoderBlock2D",) * 5}
    VQModel(**options, **blocks, mid_block_add_attention=False).save_pretrained(tmp_path / "diffusers")
    with pytest.raises(UserError, match="max_images"):  # of 256 px: 256 tokens an image
        change(tmp_path / "source", max_position_embeddings=300)
        convert(tmp_path, "lvm", vqgan="diffusers")
    change(tmp_path / "source", max_position_embeddings=1024)
    convert(tmp_path, "lvm", vqgan="diffusers")
    config = AutoModel.from_pretrained(tmp_path / "out").config
    assert (config.tokens_per_image, config.max_images) == (256, 4)


def change(folder: Path, **values) -> None:
    """Changes values of a folder's configuration."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "gpt2"}, 'model_type: "gpt2"'),
        ({"tie_word_embeddings": True}, "tie_word_embeddings: true"),
        ({"vocab_size": None}, "vocab_size must be a whole number"),
        ({"vocab_size": K}, r"vocab_size 40, but the VQGAN .* has a codebook of 40, and LVM's vocabulary is"),
        ({"vocab_size": 8292}, r"vocab_size 8292, but the VQGAN .* codebook of 40"),
        ({"vocab_size": K + 101}, r"embed_tokens.weight has shape \(140, 32\), but the configuration asks for"),
        ({"num_hidden_layers": 3}, r"lacks 9 tensors that its configuration asks for, the first is model.layers.2"),
        ({"num_hidden_layers": 1}, r"holds 9 tensors that have no place in the model, the first is model.layers.1"),
        ({"attention_bias": True}, r"lacks 8 tensors .*_proj.bias"),
        ({"max_position_embeddings": 2 * T - 1}, "max_images is 1"),
    ],
)
def test_lvm_that_is_none(changes, said, vqgan, tmp_path):
    write_lvm(tmp_path / "source")
    change(tmp_path / "source", **changes)
    assert_refused(tmp_path, "lvm", said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "llama"}, 'model_type: "llama"'),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"num_key_value_heads": 2}, "num_key_value_heads"),
        ({"vocab_size": K + 1}, r"vocab_size 41, but the VQGAN .* codebook of 40, and DeLVM's vocabulary"),
        ({"bias": False}, r"holds 8 tensors that have no place in the model, the first is .*_proj.bias"),
        ({"rotary": {"base": "wide"}}, "rotary.base must be a number"),
    ],
)
def test_delvm_that_is_none(changes, said, vqgan, tmp_path):
    write_delvm(tmp_path / "source", **changes)
    assert_refused(tmp_path, "delvm", said)


def assert_refused(tmp_path: Path, kind: str, said: str, **options) -> None:
    with pytest.raises(UserError, match=said) as caught:
        convert(tmp_path, kind, **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_damaged_sources(vqgan, tmp_path):
    write_lvm(tmp_path / "source")
    source = tmp_path / "source"
    shard = sorted(source.glob("model-*.safetensors"))[1]
    content = shard.read_bytes()
    shard.unlink()
    assert_refused(tmp_path, "lvm", f"names {shard.name}, which is not beside it: fetch all files")
    shard.write_bytes(content[:-100])
    assert_refused(tmp_path, "lvm", "cannot be read as weights")
    shard.write_bytes(content)
    tensors = load_file(shard)
    name = sorted(tensors)[0]
    save_file({**tensors, name: tensors[name].fill_(float("nan"))}, shard)
    assert_refused(tmp_path, "lvm", f"{name} holds values that are not finite")
    save_file({**tensors, "other": torch.zeros(1)}, shard)
    assert_refused(tmp_path, "lvm", "do not agree on other")
    index = source / "model.safetensors.index.json"
    for text in ("{", "[]", '{"weight_map": {}}', '{"weight_map": {"a": "../../secret.safetensors"}}'):
        index.write_text(text)
        assert_refused(tmp_path, "lvm", "cannot be read as an index of weights")
    index.unlink()
    assert_refused(tmp_path, "lvm", "files of weights")


def test_a_file_that_would_run_something(vqgan, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "trapped"), "w"))

    write_delvm(tmp_path / "source")
    torch.save({"model.norm.weight": Trap()}, tmp_path / "source" / "pytorch_model.bin")
    assert_refused(tmp_path, "delvm", "reading it would load")
    assert not (tmp_path / "trapped").exists()


def test_vqgans_that_are_none(vqgan, write_vqgan, tmp_path):
    write_lvm(tmp_path / "source")
    write_vqgan(tmp_path / "large", n_embed=K + 200)
    assert_refused(tmp_path, "lvm", "codebook of 240", vqgan="large")
    assert_refused(tmp_path, "lvm", "'llama', which is no VQGAN that can be read", vqgan="source")
    assert_refused(tmp_path, "lvm", "nothing there", vqgan="absent/folder/of/nobody")
    config = VQGANConfig(16, 3, [32, 32], 1, latent_channels=4, codebook_size=K + 1, codebook_dim=4)
    VQGANModel(config).save_pretrained(tmp_path / "ours")
    assert_refused(tmp_path, "lvm", "codebook of 41", vqgan="ours")
    (tmp_path / "ours" / "model.safetensors").unlink()
    assert_refused(tmp_path, "lvm", "ours", vqgan="ours")


@pytest.mark.parametrize("kind", ["lvm", "delvm"])
def test_options_of_other_sources(kind, vqgan, tmp_path):
    (write_lvm if kind == "lvm" else write_delvm)(tmp_path / "source")
    with pytest.raises(UserError, match=f"A checkpoint of {kind} is a language model alone.*give --vqgan"):
        convert_checkpoint(str(tmp_path / "source"), kind, tmp_path / "out")
    assert_refused(tmp_path, kind, "--image-size has no meaning", image_size=32)
    assert_refused(tmp_path, kind, "--llm has no meaning", language_model="offline")
    with pytest.raises(UserError, match="--vqgan has no meaning for a checkpoint of muse"):
        convert(tmp_path, "muse")
    (tmp_path / "source" / "config.json").rename(tmp_path / "elsewhere.json")
    convert(tmp_path, kind, config=tmp_path / "elsewhere.json")
    assert (tmp_path / "out" / "model.safetensors").is_file()
