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
    path = Path(package.origin).with_name("environment.py")
    spec = importlib.util.spec_from_file_location("visual_sentence_environment", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look for it
    spec.loader.exec_module(module)
    return module


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The report for people, section by section."""
    python = found["python"]
    yield f"visual-sentence {found['version'] or '(not installed)'}"
    yield f"Python {python['version']} ({python['executable']}), {found['platform']}"
    packages = ", ".join(f"{name} {version or 'missing'}" for name, version in found["packages"].items())
    yield f"packages: {packages}"
    yield ""
    yield from _devices(found)
    yield ""
    for part in found["parts"]:
        if part["present"]:
            versions = ", ".join(f"{name} {version}" for name, version in part["packages"].items())
            yield f"{part['name']}: present ({versions}): {part['adds']}"
        else:
            yield f"{part['name']}: absent: {part['get']} adds {part['adds']}"
    yield ""
    for model in found["models"]["shipped"]:
        yield f"shipped {model['kind']} model: {_model(model, 'its weights are missing: install the package anew')}"
    for model in found["models"]["offline"]:
        yield f"offline {model['kind']}: {_model(model, 'not converted yet, which the first use does')}"
    yield ""
    folders = found["folders"]
    yield f"converted models are kept in {folders.get('cache', '?')} (VISUAL_SENTENCE_HOME names another folder)"
    yield f"what comes from the Hub is kept in {folders.get('hub', '?')}"
    yield f"weights of torchvision and of FID are looked for in {folders.get('weights', '?')}"
    if found["hub"]["offline"]:
        yield "HF_HUB_OFFLINE is set: only what lies here already is used, nothing is fetched"
    else:
        yield "HF_HUB_OFFLINE is not set: what is named by a Hub id is fetched"
    yield f"{'a' if found['hub']['token'] else 'no'} Hugging Face token is set"
    yield f"{'a' if found['server_key'] else 'no'} key for model servers is set (OPENAI_API_KEY)"
    for problem in found["problems"]:
        yield f"problem: {problem}"


def _devices(found: dict[str, Any]) -> Iterator[str]:
    cpu = found["cpu"]
    threads = f"{cpu['usable']} of {cpu['cores']} cores usable, {cpu['threads'] or '?'} threads"
    yield f"CPU: {cpu['name'] or 'unknown'}, {threads}, {cpu['instructions'] or 'unknown instructions'}"
    if cpu["formats"]:
        slow = "" if "bfloat16" in cpu["formats"] else "; bfloat16 is no faster here, so --dtype auto takes float32"
        yield f"CPU multiplies natively: {', '.join(cpu['formats'])}{slow}"
    for gpu in found["gpus"]:
        memory = "" if gpu["memory_bytes"] is None else f", {gpu['memory_bytes'] / 2**30:.1f} GiB"
        formats = f", {', '.join(gpu['formats'])}" if gpu["formats"] else ""
        yield f"GPU {gpu['device']}: {gpu['name']}{memory}{formats}"
    if not found["gpus"]:
        yield f"GPU: none that torch can use (it is built for {found['torch_build'] or '?'})"


def _model(model: dict[str, Any], otherwise: str) -> str:
    return f"{model['bytes'] / 1e6:.0f} MB in {model['folder']}" if model["folder"] else otherwise
