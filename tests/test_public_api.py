"""The public API against its record: what is removed, added or changed has to be meant, and be said in CHANGELOG.md.

`python tests/test_public_api.py` writes the record, `tests/public_api.json`, and the list of it in the documentation,
`docs/reference/public.md`. Annotations are left out: they may become more exact without anybody's program breaking.
"""

import dataclasses
import enum
import importlib
import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

from visual_sentence_cli.main import app

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "tests" / "public_api.json"
PAGE = ROOT / "docs" / "reference" / "public.md"
COMMAND = "python tests/test_public_api.py"
PACKAGE = "visual_sentence"
# Rooms whose `__all__` is public. The others serve the commands.
ROOMS = (
    *("", "captioning", "codebook", "completion", "conversion", "data", "encoders", "features", "few_shot"),
    *("frozen_prefix", "masked_restoration", "metrics", "modeling", "offline", "pipelines", "reconstruction"),
    *("restoration", "sentence_completion", "sentence_training", "training", "video"),
)
HEAD = f"""# Public names

What a program may rely on: the names below, with the parameters and defaults that their pages show, and the commands
with their options. A test holds them against a record, `tests/public_api.json`; whoever changes one on purpose says so
in `CHANGELOG.md` and runs `{COMMAND}`, which writes the record and this page anew.

## Python

| import from | names |
|---|---|
"""


def described_pages() -> list[str]:
    """The names that the pages of the reference describe."""
    pages = sorted((ROOT / "docs" / "reference").glob("*.md"))
    return [name for page in pages for name in re.findall(r"^::: ([\w.]+)$", page.read_text(encoding="utf-8"), re.M)]


def public_names() -> dict[str, list[str]]:
    """Module -> its public names: `__all__` of the rooms, and what the reference describes beside them."""
    found = {}
    for room in ROOMS:
        module = f"{PACKAGE}.{room}".rstrip(".")
        found[module] = set(importlib.import_module(module).__all__)
    for name in described_pages():
        module, _, attribute = name.rpartition(".")
        found.setdefault(module, set()).add(attribute)
    return {module: sorted(names) for module, names in sorted(found.items())}


def shown(value: Any) -> str:
    """A default or a constant, in a way that is the same in every process and on every system."""
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, type) or inspect.isroutine(value):
        return value.__qualname__
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, Path):
        return repr(value.as_posix())
    if isinstance(value, (list, tuple, set, frozenset)):
        inside = [shown(part) for part in value]
        return f"{type(value).__name__}({', '.join(sorted(inside) if isinstance(value, (set, frozenset)) else inside)})"
    if isinstance(value, dict):
        return f"dict({', '.join(f'{shown(key)}: {shown(part)}' for key, part in value.items())})"
    if dataclasses.is_dataclass(value):
        fields = ", ".join(f"{field.name}={shown(getattr(value, field.name))}" for field in dataclasses.fields(value))
        return f"{type(value).__name__}({fields})"
    if isinstance(value, torch.dtype):
        return str(value)
    return f"<{type(value).__name__.strip('_')}>"


def parameters(function: Any) -> list[str]:
    """A callable's parameters: `name`, `name=default`, with the stars and slashes of a signature."""
    found, positional, starred = [], False, False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.POSITIONAL_ONLY:
            positional = True
        elif positional:
            found.append("/")
            positional = False
        if parameter.kind is parameter.VAR_POSITIONAL:
            starred = True
        elif parameter.kind is parameter.KEYWORD_ONLY and not starred:
            found.append("*")
            starred = True
        star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        default = "" if parameter.default is parameter.empty else f"={shown(parameter.default)}"
        found.append(f"{star}{parameter.name}{default}")
    return [*found, "/"] if positional else found


def is_ours(cls: type) -> bool:
    """Whether a class is of this package, and not of a library, whose own signatures change with its versions."""
    return cls.__module__.partition(".")[0] == PACKAGE


def describe(value: Any) -> dict[str, Any] | list[str] | str:
    """A public object: a function's parameters; those of a class's constructor and methods; a constant's value."""
    if not isinstance(value, type):
        return parameters(value) if callable(value) else shown(value)
    found: dict[str, Any] = {"__new__": list(value._fields)} if hasattr(value, "_fields") else {}
    for cls in reversed([cls for cls in value.__mro__ if is_ours(cls)]):
        for name, member in vars(cls).items():
            if isinstance(member, (staticmethod, classmethod)):
                member = member.__func__
            if name == "__init__" or (inspect.isfunction(member) and (name == "__call__" or not name.startswith("_"))):
                found[name] = parameters(member)
            elif isinstance(member, property) and not name.startswith("_"):
                found[name] = "property"
            elif issubclass(value, enum.Enum) and isinstance(member, value):
                found[name] = shown(member.value)
    return found


def describe_commands(command: Any, path: str) -> dict[str, dict[str, str]]:
    """Command -> option or argument -> how it is given and what it is without."""
    if hasattr(command, "commands"):
        inside = (describe_commands(part, f"{path} {name}") for name, part in sorted(command.commands.items()))
        return {name: options for found in inside for name, options in found.items()}
    options = {}
    for parameter in command.params:
        names = "/".join([*parameter.opts, *parameter.secondary_opts])
        default = parameter.default
        words = ["required"] if parameter.required else []
        words += ["repeatable"] if parameter.nargs == -1 or getattr(parameter, "multiple", False) else []
        # versions of typer differ in whether a flag that is not set is False or nothing
        words += [] if default in (None, False) or callable(default) or parameter.required else [f"= {shown(default)}"]
        options[names] = " ".join(words)
    return {path: options}


def public_api() -> dict[str, dict[str, Any]]:
    """All of it, as the record has it."""
    return {
        "python": {
            f"{module}.{name}": describe(getattr(importlib.import_module(module), name))
            for module, names in public_names().items()
            for name in names
        },
        "commands": describe_commands(typer.main.get_command(app), "visual-sentence"),
    }


def flat(api: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Every name of the record -> how it is used: names of objects, their methods, commands and their options."""
    found = {}
    for names in api.values():
        for name, description in names.items():
            inside = description if isinstance(description, dict) else {}
            found[name] = "" if isinstance(description, dict) else used(description)
            found |= {f"{name} {part}" if " " in name else f"{name}.{part}": used(inside[part]) for part in inside}
    return found


def used(description: list[str] | str) -> str:
    """How a callable is called; of an option or a constant what it is."""
    return f"({', '.join(description)})" if isinstance(description, list) else f" {description}".rstrip()


def differences(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """What was removed, added and changed."""
    return [
        *(f"removed: {name}{before[name]}" for name in before if name not in now),
        *(f"added: {name}{now[name]}" for name in now if name not in before),
        *(
            f"changed: {name}: {before[name]} -> {now[name]}"
            for name in before
            if now.get(name, before[name]) != before[name]
        ),
    ]


def page() -> str:
    """The page that lists everything public."""
    rows = [
        f"| `{module}` | {', '.join(f'`{name}`' for name in names)} |\n" for module, names in public_names().items()
    ]
    commands = [
        f"| `{name}` | {', '.join(f'`{option}`' for option in options)} |\n"
        for name, options in public_api()["commands"].items()
    ]
    return f"{HEAD}{''.join(rows)}\n## Commands\n\n| command | arguments and options |\n|---|---|\n{''.join(commands)}"


def test_the_public_api_is_that_of_the_record():
    found = differences(flat(json.loads(RECORD.read_text(encoding="utf-8"))), flat(public_api()))
    assert not found, "\n".join(
        [
            "the public API is not that of tests/public_api.json:",
            *found,
            f"If this is meant, CHANGELOG.md must say so; `{COMMAND}` then writes the record anew.",
        ]
    )


def test_the_page_lists_what_is_public():
    assert PAGE.read_text(encoding="utf-8") == page(), f"write it anew: {COMMAND}"


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda api: api["python"].pop("visual_sentence.open_image"), "added: visual_sentence.open_image(path)"),
        (lambda api: api["python"].update(gone=["x"]), "removed: gone(x)"),
        (
            lambda api: api["python"].update({"visual_sentence.open_image": ["path", "mode='RGB'"]}),
            "changed: visual_sentence.open_image: (path, mode='RGB') -> (path)",
        ),
        (
            lambda api: api["commands"]["visual-sentence describe"].pop("--words"),
            "added: visual-sentence describe --words",
        ),
        (
            lambda api: api["python"]["visual_sentence.V2LModel"].pop("encode"),
            "added: visual_sentence.V2LModel.encode(",
        ),
    ],
    ids=("name", "removal", "parameter", "option", "method"),
)
def test_a_change_is_named(change, message):
    before = json.loads(json.dumps(public_api()))
    change(before)
    (found,) = differences(flat(before), flat(public_api()))
    assert found.startswith(message)


if __name__ == "__main__":
    RECORD.write_text(json.dumps(public_api(), indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"wrote {RECORD.relative_to(ROOT)} and {PAGE.relative_to(ROOT)}\n")
