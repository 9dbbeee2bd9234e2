"""Loading from a Hub that fails: what arrives is whole, or nothing is there that would load."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, constants
from PIL import Image
from transformers import AutoModel

from visual_sentence.modeling import VQGANModel
from visual_sentence.publishing import assemble_repository, publish

from .hub_server import TOKEN, Fault

WEIGHTS = "GET /me/model/resolve/.*/model.safetensors"


@pytest.fixture
def published(hub, vqgan_folder, tmp_path, monkeypatch) -> str:
    """The commit of a published VQGAN, of which nothing was fetched yet."""
    (tmp_path / "assembled").mkdir()
    commit = publish(assemble_repository(str(vqgan_folder), tmp_path / "assembled"), "me/model", private=True).commit
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("transformers.utils.hub.is_offline_mode", lambda: constants.HF_HUB_OFFLINE)
    monkeypatch.setattr("transformers.modeling_utils.is_offline_mode", lambda: constants.HF_HUB_OFFLINE, raising=False)
    hub.requests.clear()
    return commit


@pytest.fixture
def load(published, tmp_path) -> Callable[..., VQGANModel]:
    """Loads the published commit."""
    return lambda **settings: AutoModel.from_pretrained(
        "me/model", revision=published, cache_dir=tmp_path / "cache", **settings
    )


def check_whole(model: VQGANModel, folder: Path) -> None:
    """Compares all weights with those that were published."""
    expected = AutoModel.from_pretrained(folder).state_dict()
    assert model.state_dict().keys() == expected.keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def check_nothing_is_there(load: Callable[..., VQGANModel]) -> None:
    with pytest.raises(OSError):
        load(local_files_only=True)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(WEIGHTS, times=1, cut=1000),
        Fault(WEIGHTS, times=1, status=429, headers={"Retry_After": "1"}),
        Fault(WEIGHTS, times=1, delay=1),
    ],
    ids=["interrupted", "429", "slow"],
)
def test_trouble_that_passes(hub, load, vqgan_folder, quick, monkeypatch, fault):
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    hub.faults.append(fault)
    check_whole(load(), vqgan_folder)
    assert fault.times == 0 and hub.count(WEIGHTS) == 2


@pytest.mark.parametrize(
    "fault",
    [
        Fault(WEIGHTS, cut=1000),
        Fault(WEIGHTS, status=500),
        Fault(WEIGHTS, status=429, headers={"Retry_After": "1"}),
        Fault(WEIGHTS, delay=1),
        Fault("resolve/.*/model.safetensors", status=401, headers={"X_Error_Code": "RepoNotFound"}),
    ],
    ids=["interrupted", "500", "429", "slow", "401"],
)
def test_trouble_that_stays(hub, load, vqgan_folder, quick, monkeypatch, caplog, fault):
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    hub.faults.append(fault)
    with caplog.at_level("DEBUG"), pytest.raises(Exception) as told:
        load()
    assert TOKEN not in str(told.getrepr(chain=True)) and TOKEN not in caplog.text
    check_nothing_is_there(load)
    hub.faults.clear()
    check_whole(load(), vqgan_folder)


def test_other_bytes_are_found_by_their_digest(hub, published, load, tmp_path):
    hub.faults.append(Fault(WEIGHTS, corrupt=True))
    load()
    checked = HfApi().verify_repo_checksums("me/model", revision=published, cache_dir=tmp_path / "cache")
    assert [one["path"] if isinstance(one, dict) else one.path for one in checked.mismatches] == ["model.safetensors"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("GET /me/model/resolve/.*/config.json", status=500), "connection error"),
        (Fault("(GET|HEAD) /me/model/resolve/", status=401, headers={"X_Error_Code": "RepoNotFound"}), "me/model"),
        (Fault(WEIGHTS, cut=1000), "me/model"),
    ],
    ids=["500", "401", "interrupted"],
)
def test_commands_say_it_in_one_line(hub, published, run, quick, monkeypatch, tmp_path, caplog, fault, said):
    Image.new("RGB", (20, 20), "teal").save(tmp_path / "photo.png")
    hub.faults.append(fault)
    with caplog.at_level("DEBUG"):
        outcome = run("reconstruct", tmp_path / "photo.png", "--model", "me/model", "--output", tmp_path / "out")
    outcome.is_one_line("me/model", said)
    assert TOKEN not in outcome.err + caplog.text
