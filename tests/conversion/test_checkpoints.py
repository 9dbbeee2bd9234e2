"""Files that must not be trusted, and results that appear whole or not at all."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from visual_sentence.conversion import Options, convert, convert_checkpoint
from visual_sentence.conversion.checkpoints import read_checkpoint
from visual_sentence.errors import UserError

YAML = """
model:
  target: taming.models.vqgan.VQModel
  params:
    embed_dim: 8
    n_embed: 40
    ddconfig: {double_z: false, z_channels: 16, resolution: 16, in_channels: 3, out_ch: 3, ch: 32, ch_mult: [1, 2],
      num_res_blocks: 2, attn_resolutions: []}
"""


class MakesAFile:
    """What a pickle needs to make a file on the machine that opens it."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class ModelCheckpoint:
    """Stands for the classes of Lightning that its checkpoints name."""


@pytest.fixture
def state(make_vqgan) -> dict[str, torch.Tensor]:
    return make_vqgan().state


@pytest.fixture
def write(tmp_path):
    """Writes a checkpoint and the yaml that belongs to it."""

    def written(content, name: str = "last.ckpt", **arguments) -> Path:
        (tmp_path / "model.yaml").write_text(YAML)
        torch.save(content, tmp_path / name, **arguments)
        return tmp_path / name

    return written


def refused(path: Path, *parts: str) -> None:
    """Checks that a file is refused in one line that says all `parts`, and that nothing is left behind."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(UserError) as error:
        convert_checkpoint(str(path), "taming", path.parent / "out")
    assert "\n" not in str(error.value)
    for part in (path.name, *parts):
        assert part in str(error.value), str(error.value)
    assert sorted(path.parent.iterdir()) == before


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_does_not_run(zipped, state, write, tmp_path):
    mark = tmp_path / "code-has-run"
    path = write({"state_dict": state, "x": MakesAFile(mark)}, _use_new_zipfile_serialization=zipped)
    refused(path, "system", "not read", "weights_only=False", "tensors.ckpt")
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists()  # opened the usual way, it would have run


def test_a_bare_pickle_does_not_run(tmp_path, write):
    mark = tmp_path / "code-has-run"
    path = write({})
    path.write_bytes(pickle.dumps(MakesAFile(mark)))
    refused(path)
    assert not mark.exists()


def test_lightnings_own_objects_are_named_with_the_way_round(state, write, tmp_path):
    path = write({"callbacks": {ModelCheckpoint: {"best": 1}}, "state_dict": state})
    refused(path, "ModelCheckpoint", "weights_only=False")
    # the two lines of the message
    checkpoint = torch.load(path, map_location="cpu", weights_only=False)
    saved = {name: checkpoint[name] for name in ("state_dict", "model") if name in checkpoint}
    torch.save(saved, tmp_path / "tensors.ckpt")
    convert_checkpoint(str(tmp_path / "tensors.ckpt"), "taming", tmp_path / "out")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0, 0.3, 0.98])
def test_a_file_that_is_cut_off(kept, zipped, state, write):
    path = write({"state_dict": state}, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    refused(path, "cannot be read")


@pytest.mark.parametrize("kept", [0, 0.01, 0.6])
def test_a_safetensors_file_that_is_cut_off(kept, state, write, tmp_path):
    write({}, "other.ckpt").unlink()
    path = tmp_path / "last.safetensors"
    save_file(state, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    refused(path, "cannot be read", "fetch it again")


@pytest.mark.parametrize("content", [b"only text\n", bytes(range(256)), b"PK\x03\x04nothing"])
def test_a_file_of_something_else(content, write):
    path = write({})
    path.write_bytes(content)
    refused(path, "cannot be read")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([torch.ones(2)], "a list"),
        ({"state_dict": {}}, "empty"),
        ({"state_dict": {"a": 3}}, "'a' is no tensor"),
        ({"epoch": 3}, "'state_dict' or 'model'"),
    ],
    ids=str,
)
def test_a_file_without_a_state_dict(content, found, write):
    refused(write(content), found)


def test_a_missing_tensor_is_named(state, write):
    del state["decoder.up.1.block.0.conv2.weight"]
    refused(write({"state_dict": state}), "lacks 1 tensor ", "decoder.up.1.block.0.conv2.weight")


def test_a_tensor_too_many_is_named(state, write):
    state["decoder.up.1.block.7.conv2.weight"] = torch.ones(1)
    refused(write({"state_dict": state}), "holds 1 tensor ", "decoder.up.1.block.7.conv2.weight")


@pytest.mark.parametrize("shape", [(40, 9), (41, 8), (40,), ()])
def test_an_ill_shaped_tensor_is_named_with_both_shapes(shape, state, write):
    state["quantize.embedding.weight"] = torch.ones(shape)
    refused(write({"state_dict": state}), "quantize.embedding.weight", str(shape), "(40, 8)")


def test_attention_as_a_true_convolution_is_ill_shaped(state, write):
    state["encoder.mid.attn_1.q.weight"] = torch.ones(64, 64, 3, 3)
    refused(write({"state_dict": state}), "encoder.mid.attn_1.q.weight", "(64, 64, 3, 3)", "(64, 64)")


def test_values_that_are_not_finite(state, write):
    state["quant_conv.bias"][0] = torch.inf
    refused(write({"state_dict": state}), "quant_conv.bias", "not finite")


def test_settings_beside_the_weights_are_read_but_do_nothing(state, write):
    tensors, rest = read_checkpoint(write({"state_dict": OrderedDict(state), "epoch": 4}), ("model", "state_dict"))
    assert (set(tensors), rest) == (set(state), {"epoch": 4})


def test_a_full_folder_is_left_alone(state, write, tmp_path):
    path = write({"state_dict": state})
    output = tmp_path / "out"
    output.mkdir()
    (output / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="not empty"):
        convert_checkpoint(str(path), "taming", output)
    assert [file.read_text() for file in output.iterdir()] == ["dear"]
    with pytest.raises(UserError, match="is a file"):
        convert_checkpoint(str(path), "taming", output / "letter.txt")


def test_an_empty_folder_is_filled_and_its_parents_are_made(state, write, tmp_path):
    path = write({"state_dict": state})
    (tmp_path / "empty").mkdir()
    for output in (tmp_path / "empty", tmp_path / "deep" / "down"):
        convert_checkpoint(str(path), "taming", output)
        assert (output / "conversion.json").is_file()
        assert [other for other in output.parent.iterdir() if "unfinished" in other.name] == []


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), SafetensorError("I/O error: No space left"), KeyboardInterrupt()],
    ids=lambda error: type(error).__name__,
)
def test_nothing_is_left_of_a_result_that_could_not_be_finished(error, state, write, tmp_path, monkeypatch):
    path = write({"state_dict": state})

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(convert.json, "dumps", fail)  # the last step: weights and code are written already
    before = sorted(tmp_path.iterdir())
    with pytest.raises((UserError, KeyboardInterrupt)) as raised:
        convert_checkpoint(str(path), "taming", tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before
    assert "No space left" in str(raised.value) or isinstance(error, KeyboardInterrupt)


@pytest.mark.parametrize("source", ["gone.ckpt", "./gone/last.ckpt"])
def test_a_source_that_is_not_there(source, tmp_path):
    for kind in ("taming", "v2l"):
        with pytest.raises(UserError, match="found nothing"):
            convert_checkpoint(source, kind, tmp_path / "out")


def test_a_hub_id_that_cannot_be_reached(tmp_path):
    for kind in ("muse", "amused"):
        with pytest.raises(UserError, match="no-such-owner/no-such-model is neither"):
            convert_checkpoint("no-such-owner/no-such-model", kind, tmp_path / "out")


def test_a_folder_with_two_checkpoints(state, write, tmp_path):
    for name in ("first.ckpt", "second.ckpt"):
        write({"state_dict": state}, name)
    with pytest.raises(UserError, match=r"2 files of weights \(first.ckpt, second.ckpt\)"):
        convert_checkpoint(str(tmp_path), "taming", tmp_path / "out")


def test_a_folder_without_weights(tmp_path):
    for kind in convert.READERS:
        if kind in ("lvm", "delvm"):  # folders of a language model, see test_simlvm_sources.py
            continue
        with pytest.raises(UserError, match="no file of weights"):
            convert_checkpoint(str(tmp_path), kind, tmp_path / "out")


@pytest.mark.parametrize(
    ("files", "found"),
    [({}, "no yaml"), ({"a.yaml": YAML, "b.yaml": YAML}, "several yaml"), ({"a.yaml": "- 1"}, "no named values")],
    ids=str,
)
def test_a_yaml_that_cannot_be_used(files, found, state, write, tmp_path):
    path = write({"state_dict": state})
    (tmp_path / "model.yaml").unlink()
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=found):
        convert_checkpoint(str(path), "taming", tmp_path / "out")


def test_a_yaml_that_wants_to_make_objects(state, write, tmp_path):
    path = write({"state_dict": state})
    (tmp_path / "model.yaml").write_text(f"model: !!python/object/apply:os.system ['touch {tmp_path}/code-has-run']")
    with pytest.raises(UserError, match="cannot be read as a configuration"):
        convert_checkpoint(str(path), "taming", tmp_path / "out")
    assert not (tmp_path / "code-has-run").exists()


@pytest.mark.parametrize("option", ["local_only", "encoder", "global_words", "language_model"])
@pytest.mark.parametrize("kind", ["taming", "muse", "amused"])
def test_options_of_another_source_are_refused(kind, option, tmp_path):
    flag = {"language_model": "llm"}.get(option, option.replace("_", "-"))
    with pytest.raises(UserError, match=f"--{flag} has no meaning for a checkpoint of {kind}"):
        convert_checkpoint("x", kind, tmp_path / "out", Options(**{option: True}))


def test_an_unknown_source(tmp_path):
    with pytest.raises(UserError, match="choose one of v2l, taming, muse, amused"):
        convert_checkpoint("x", "vqvae", tmp_path / "out")
