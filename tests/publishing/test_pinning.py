"""Examples that run code of the Hub say of which commit: in README, docs, cards and docstrings."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import ROOT

PLACES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "hub_configs").rglob("README.md")),
    *sorted(path for place in ("modeling", "src") for path in (ROOT / place).rglob("*.py")),
]
TRUSTING = [path for path in PLACES if "trust_remote_code" in path.read_text(encoding="utf-8")]
HUB_ID = re.compile(r"[A-Za-z][\w.-]*/[\w.-]+")
COMMIT = re.compile(r"[0-9a-f]{40}")


def examples(path: Path) -> list[str]:
    """The Python of a page's blocks, or of the docstrings of a module."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    nodes = (
        node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
    )
    lines = [re.findall(r"^\s*(?:>>>|\.\.\.) ?(.*)$", ast.get_docstring(node) or "", re.MULTILINE) for node in nodes]
    return ["\n".join(found) for found in lines if found]


def unpinned(code: str) -> Iterator[str]:
    """The calls of an example that run whatever the Hub holds by then.

    Those that trust a place which is written as a Hub id, or cannot be told from one, and name no commit.
    """
    tree = ast.parse(code)
    values = {
        node.targets[0].id: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        named = {keyword.arg: keyword.value for keyword in node.keywords}
        if "trust_remote_code" not in named:
            continue
        place = named.get("model") or (node.args[0] if node.args else None)
        if is_folder(place):
            continue
        revision = named.get("revision")
        value = values.get(revision.id) if isinstance(revision, ast.Name) else getattr(revision, "value", None)
        if not COMMIT.fullmatch(str(value)):
            yield ast.unparse(node)


def is_folder(place: ast.expr | None) -> bool:
    """Whether a model's place is a folder: text that is no Hub's id, or a variable that is called so."""
    if isinstance(place, ast.Constant):
        return not HUB_ID.fullmatch(str(place.value))
    return isinstance(place, ast.Name) and place.id == "folder"


@pytest.mark.parametrize("path", TRUSTING, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_example_pins_what_it_trusts(path):
    found = [call for code in examples(path) for call in unpinned(code)]
    assert not found, "give revision= and a commit of 40 digits"


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ('AutoModel.from_pretrained("me/model", trust_remote_code=True)', 1),
        ('AutoModel.from_pretrained("me/model", revision="main", trust_remote_code=True)', 1),
        ('R = "main"\nAutoModel.from_pretrained("me/model", revision=R, trust_remote_code=True)', 1),
        ("AutoModel.from_pretrained(name, trust_remote_code=True)", 1),
        ('pipeline("image-reconstruction", model="me/model", trust_remote_code=True)', 1),
        (f'R = "{"0" * 40}"\npipeline("x", model="me/model", revision=R, trust_remote_code=True)', 0),
        ("AutoModel.from_pretrained(folder, trust_remote_code=True)", 0),
        ('AutoModel.from_pretrained("./model", trust_remote_code=True)', 0),
        ('AutoModel.from_pretrained("me/model")', 0),
    ],
)
def test_what_is_not_pinned_is_found(code, count):
    assert len(list(unpinned(code))) == count


def test_there_are_examples_to_look_at():
    trusting = {path.name for path in TRUSTING for code in examples(path) if "trust_remote_code" in code}
    assert {"README.md", "publish.md", "security.md", "pipelines.md", "modeling_v2l.py"} <= trusting


@pytest.mark.slow
def test_the_cards_of_what_is_uploaded(built_repositories):
    for path in built_repositories.glob("*/README.md"):
        calls = [call for code in examples(path) for call in unpinned(code)]
        assert not calls and "trust_remote_code=True" in path.read_text(encoding="utf-8"), path
