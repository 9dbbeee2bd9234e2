"""`visual-sentence info`: what it tells, that it tells no secret, asks no network, and outlives what is broken."""

import importlib.util
import json
import re
import socket
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import constants

from visual_sentence import environment
from visual_sentence.features.perceptual import LPIPS_BACKBONES
from visual_sentence.offline import OFFLINE_PACKAGES
from visual_sentence.offline.cache import HOME_VARIABLE, model_folder

ROOT = Path(__file__).resolve().parents[2]
SECRETS = {"HF_TOKEN": "hf_a-secret", "OPENAI_API_KEY": "sk-a-secret"}


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch, tmp_path):
    """No tokens, no caches, and no way out."""
    for name in (*environment.HUB_TOKENS, environment.SERVER_KEY):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def call(*args, **kwargs):
        pytest.fail("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", call)
    monkeypatch.setattr(socket, "getaddrinfo", call)


@pytest.fixture
def info(run):
    """What `info --json` prints."""

    def call() -> dict:
        outcome = run("info", "--json")
        assert (outcome.status, outcome.err) == (0, "")
        assert outcome.out.count("\n") == 1
        return json.loads(outcome.out)

    return call


@pytest.fixture
def told(run):
    """What `info` prints for people."""

    def call() -> str:
        outcome = run("info")
        assert (outcome.status, outcome.err) == (0, "")
        return outcome.out

    return call


def part(found: dict, name: str) -> dict:
    return next(part for part in found["parts"] if part["name"] == name)


def test_versions_and_devices(info, told):
    found, text = info(), told()
    assert found["problems"] == []
    assert found["version"] == version("visual-sentence") and f"visual-sentence {found['version']}\n" in text
    assert found["python"]["version"] == sys.version.split()[0] and sys.executable in text
    assert set(found["packages"]) == set(environment.PACKAGES)
    for name, number in found["packages"].items():
        assert number == version(name) and f"{name} {number}" in text
    assert found["cpu"]["threads"] == torch.get_num_threads()
    assert found["cpu"]["formats"] in (["float32"], ["float32", "bfloat16"])
    assert f"CPU multiplies natively: {found['cpu']['formats'][0]}" in text
    assert found["platform"] in text


def test_folders_and_models(info, told, tmp_path):
    converted = model_folder("encoder")
    converted.mkdir(parents=True)
    (converted / "model.safetensors").write_bytes(bytes(3_000_000))
    found, text = info(), told()
    assert found["folders"]["cache"] == str(tmp_path / "home") and str(tmp_path / "home") in text
    offline = {model["kind"]: model for model in found["models"]["offline"]}
    assert (offline["encoder"]["folder"], offline["encoder"]["bytes"]) == (str(converted), 3_000_000)
    assert f"offline encoder: 3 MB in {converted}\n" in text
    assert (offline["v2l"]["folder"], offline["v2l"]["bytes"]) == (None, 0)
    assert "offline v2l: not converted yet" in text
    for model in found["models"]["shipped"]:
        assert Path(model["folder"]).name == model["name"] and model["bytes"] > 1e6
        assert f"shipped {model['kind']}: {model['bytes'] / 1e6:.0f} MB in {model['folder']}\n" in text


def test_tokens_are_told_of_and_not_told(run, monkeypatch, tmp_path):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    for arguments in (["info"], ["info", "--json"]):
        outcome = run(*arguments)
        assert not any(value in outcome.out + outcome.err for value in SECRETS.values())
    found = json.loads(outcome.out)
    assert found["hub"]["token"] is True and found["server_key"] is True
    text = run("info").out
    assert "\na Hugging Face token: set\na key for model servers (OPENAI_API_KEY): set\n" in text
    for name in SECRETS:
        monkeypatch.delenv(name)
    assert "\na Hugging Face token: not set\na key for model servers (OPENAI_API_KEY): not set\n" in run("info").out
    (tmp_path / "token").write_text(SECRETS["HF_TOKEN"])  # as `hf auth login` leaves it
    text = run("info").out
    assert "\na Hugging Face token: set\n" in text and SECRETS["HF_TOKEN"] not in text


def test_whether_the_hub_may_be_asked(info, told, monkeypatch):
    for is_offline, said in ((True, "HF_HUB_OFFLINE: set: only"), (False, "HF_HUB_OFFLINE: not set: what")):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", is_offline)
        assert info()["hub"]["offline"] is is_offline and said in told()


def test_what_is_missing_is_told_with_what_adds_it(info, told, monkeypatch):
    find_spec = importlib.util.find_spec
    optional = {module for part in environment.PARTS for module in part.modules.values()}
    optional |= {package.module for package in OFFLINE_PACKAGES}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *args: None if name in optional else find_spec(name, *args)
    )
    found, text = info(), told()
    assert found["problems"] == [] and len(found["parts"]) == len(environment.PARTS) + 1
    for one in found["parts"]:
        assert one["present"] is False and set(one["packages"].values()) == {None}
        assert f"{one['name']}: absent: {one['get']} adds {one['adds']}\n" in text
    assert part(found, "videos")["get"] == "`pip install 'visual-sentence[video]'`"
    assert part(found, "offline models")["get"] == "`visual-sentence offline install` (194 MB)"


def test_what_is_present_is_told_with_what_it_adds(info, told, monkeypatch, tmp_path):
    find_spec = importlib.util.find_spec
    optional = {module for part in environment.PARTS for module in part.modules.values()}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *args: object() if name in optional else find_spec(name, *args)
    )
    found = info()
    without_weights = {one["name"] for one in found["parts"] if not one["present"]} - {"offline models"}
    assert without_weights == {"LPIPS", "FID"}
    checkpoints = tmp_path / "torch" / "hub" / "checkpoints"
    lpips = part(found, "LPIPS")["get"]
    assert lpips == f"{' or '.join(LPIPS_BACKBONES.values())} put into {checkpoints}"  # the package is there
    checkpoints.mkdir(parents=True)
    (checkpoints / LPIPS_BACKBONES["alex"]).write_bytes(b"weights")
    assert part(info(), "LPIPS")["present"] is True
    text = told()
    assert "LPIPS: present (lpips " in text and "): the usual perceptual distance" in text


def test_every_extra_of_the_package_is_told_of():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = text.split("[project.optional-dependencies]")[1].split("dev = [")[0]
    needed = set(re.findall(r'"([\w-]+)>=', extras))
    told_of = {package for one in environment.PARTS for package in one.modules}
    assert needed and needed <= told_of
    for name in re.findall(r"^(\w+) = \[", extras, re.MULTILINE):
        assert any(one.install == f"'visual-sentence[{name}]'" for one in environment.PARTS), name


def test_gpus_are_told_with_their_memory(info, told, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    cards = [
        SimpleNamespace(name="Old card", total_memory=8 * 2**30, major=7),
        SimpleNamespace(name="New card", total_memory=80 * 2**30, major=9),
    ]
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: cards[index])
    found, text = info(), told()
    assert [gpu["memory_bytes"] for gpu in found["gpus"]] == [8 * 2**30, 80 * 2**30]
    assert "GPU cuda:0: Old card, 8.0 GiB, float32, float16\n" in text
    assert "GPU cuda:1: New card, 80.0 GiB, float32, float16, bfloat16\n" in text


def test_accelerators_that_tell_nothing(told, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("mps"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    assert "GPU mps:0: mps\n" in told()
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert "GPU: none that torch can use, which is built for: " in told()


def test_what_is_broken_is_told_too(info, told, monkeypatch):
    def broken(*args, **kwargs):
        raise OSError("the driver\nis gone")

    monkeypatch.setattr(torch.accelerator, "is_available", broken)
    monkeypatch.setattr("visual_sentence.language.cpu_dtype", broken)
    monkeypatch.setattr("visual_sentence.offline.cache.fingerprint", broken)
    monkeypatch.setattr("visual_sentence.features.frozen.hub_checkpoint", broken)
    monkeypatch.setattr("visual_sentence.shipped.shipped_folder", broken)
    monkeypatch.setattr(environment, "version", broken)
    found, text = info(), told()
    assert found["gpus"] == [] and found["cpu"]["formats"] == [] and found["models"]["offline"] == []
    assert set(found["packages"].values()) == {None} and "torch missing" in text
    assert "GPUs: OSError: the driver is gone" in found["problems"] and len(found["problems"]) == 6
    for problem in found["problems"]:
        assert f"problem: {problem}\n" in text


def test_without_torch_the_rest_is_told(run_apart, tmp_path):
    broken = "import sys; sys.modules['torch'] = None"
    outcome = run_apart("info", "--json", first=broken)
    assert (outcome.status, outcome.err) == (0, "")
    found = json.loads(outcome.out)
    assert found["problems"][0] == "visual_sentence: ModuleNotFoundError: import of torch halted; None in sys.modules"
    assert found["packages"]["transformers"] == version("transformers")
    assert part(found, "videos")["packages"].keys() == {"av", "scenedetect-headless"}
    assert "relative import" not in outcome.out
    outcome = run_apart("info", first=broken)
    assert (outcome.status, outcome.err) == (0, "") and "problem: visual_sentence: " in outcome.out


@pytest.mark.slow
def test_the_network_is_not_asked_at_any_time(run_apart):
    first = """
import os, socket
def connect(*args, **kwargs):
    os._exit(99)
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = connect
"""
    outcome = run_apart("info", "--json", first=first, HF_HUB_OFFLINE="0", TRANSFORMERS_OFFLINE="0")
    assert (outcome.status, outcome.err) == (0, "")
    found = json.loads(outcome.out)
    assert found["problems"] == [] and found["hub"]["offline"] is False
