"""`visual-sentence info`: what is installed here, what it can do, and what could be added."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import typer

from . import options

MISSING, UNKNOWN = "missing", "unknown"
IS_SET = {True: "set", False: "not set", None: UNKNOWN}


def info(as_json: options.Json = False) -> None:
    """Say what is installed here, what it can do and what could be added; asks no network, tells no secret."""
    try:
        from visual_sentence import environment
    except Exception as error:  # a library is broken, which is when one asks
        found = environment_alone().describe_environment()
        found["problems"].insert(0, f"visual_sentence: {' '.join(f'{type(error).__name__}: {error}'.split())}")
    else:
        found = environment.describe_environment()
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    for line in lines(found):
        typer.echo(line)


def environment_alone() -> ModuleType:
    """The library's module, without the package around it."""
    package = importlib.util.find_spec("visual_sentence")
    assert package is not None and package.origin is not None  # it came with the command
    path = Path(package.origin).with_name("environment.py")
    spec = importlib.util.spec_from_file_location("visual_sentence_environment", path)
    assert spec is not None and spec.loader is not None  # of a Python file
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look for it
    spec.loader.exec_module(module)
    return module


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The report for people, section by section."""
    sections = (_versions, _devices, _parts, _models, _places, _problems)
    for place, section in enumerate(filter(None, (list(section(found)) for section in sections))):
        if place:
            yield ""
        yield from section


def _versions(found: dict[str, Any]) -> Iterator[str]:
    python = found["python"]
    yield f"visual-sentence {found['version'] or '(not installed)'}"
    yield f"Python {python['version']} ({python['executable']}), {found['platform']}"
    yield f"packages: {', '.join(f'{name} {version or MISSING}' for name, version in found['packages'].items())}"


def _devices(found: dict[str, Any]) -> Iterator[str]:
    cpu = found["cpu"]
    threads = f"{cpu['usable']} of {cpu['cores']} cores usable, {cpu['threads'] or UNKNOWN} threads"
    yield f"CPU: {cpu['name'] or UNKNOWN}, {threads}, instructions {cpu['instructions'] or UNKNOWN}"
    if cpu["formats"]:
        slow = "" if "bfloat16" in cpu["formats"] else "; bfloat16 is no faster here, so --dtype auto takes float32"
        yield f"CPU multiplies natively: {', '.join(cpu['formats'])}{slow}"
    for gpu in found["gpus"]:
        memory = "" if gpu["memory_bytes"] is None else f", {gpu['memory_bytes'] / 2**30:.1f} GiB"
        formats = f", {', '.join(gpu['formats'])}" if gpu["formats"] else ""
        yield f"GPU {gpu['device']}: {gpu['name']}{memory}{formats}"
    if not found["gpus"]:
        yield f"GPU: none that torch can use, which is built for: {found['torch_build'] or UNKNOWN}"


def _parts(found: dict[str, Any]) -> Iterator[str]:
    for part in found["parts"]:
        if part["present"]:
            versions = ", ".join(f"{name} {version}" for name, version in part["packages"].items())
            yield f"{part['name']}: present ({versions}): {part['adds']}"
        else:
            yield f"{part['name']}: absent: {part['get']} adds {part['adds']}"


def _models(found: dict[str, Any]) -> Iterator[str]:
    kinds = {
        "shipped": "its weights are missing: install the package anew",
        "offline": "not converted yet, which its first use does",
    }
    for origin, otherwise in kinds.items():
        for model in found["models"][origin]:
            lies = f"{model['bytes'] / 1e6:.0f} MB in {model['folder']}" if model["folder"] else otherwise
            yield f"{origin} {model['kind']}: {lies}"


def _places(found: dict[str, Any]) -> Iterator[str]:
    folders, hub = found["folders"], found["hub"]
    if folders:
        yield f"converted models are kept in {folders['cache']} (VISUAL_SENTENCE_HOME names another folder)"
        yield f"what comes from the Hub is kept in {folders['hub']}"
        yield f"weights of LPIPS and FID are looked for in {folders['weights']}"
    states = {
        True: "set: only what lies here already is used, nothing is fetched",
        False: "not set: what is named by a Hub id is fetched",
        None: UNKNOWN,
    }
    yield f"HF_HUB_OFFLINE: {states[hub['offline']]}"
    yield f"a Hugging Face token: {IS_SET[hub['token']]}"
    yield f"a key for model servers (OPENAI_API_KEY): {IS_SET[found['server_key']]}"


def _problems(found: dict[str, Any]) -> Iterator[str]:
    for problem in found["problems"]:
        yield f"problem: {problem}"
