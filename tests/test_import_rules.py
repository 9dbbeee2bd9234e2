"""Who may import whom (docs/architecture.md), and what the Hub's code loader can follow."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODELING = sorted(path for path in (ROOT / "modeling").glob("*.py") if path.name != "__init__.py")
SOURCE = sorted((ROOT / "src").rglob("*.py"))
MODELING_MAY_IMPORT = {"torch", "transformers", "numpy", "PIL"}
STANDARD_LIBRARY = {
    *("abc", "collections", "copy", "dataclasses", "hashlib", "importlib"),
    *("inspect", "json", "math", "os", "pathlib", "typing"),
}
# Files of modeling/ by level; each may import from lower levels only.
LEVELS = {
    "configuration_conse": 0,
    "configuration_visual_gru": 0,
    "convolutional_codec": 0,
    "image_token_converter": 0,
    "image_processing_v2l": 0,
    "cache_names": 0,
    "nearest_code": 0,
    "vocabulary_v2l": 0,
    "configuration_v2l": 1,
    "configuration_vqgan": 1,
    "aligned_embedding": 1,
    "branching_cache": 0,
    "generation_simlvm": 1,
    "image_processing_vqgan": 1,
    "modeling_visual_gru": 1,
    "processing_v2l": 1,
    "quantization_v2l": 1,
    "vector_quantization": 1,
    "modeling_conse": 2,
    "configuration_frozen": 2,
    "configuration_lqae": 2,
    "configuration_spae": 2,
    "normalized_quantization": 2,
    "pyramid_quantization": 2,
    "configuration_simlvm": 2,
    "image_codec": 2,
    "processing_simlvm": 2,
    "image_tower_v2l": 3,
    "modeling_vqgan": 3,
    "modeling_frozen": 4,
    "modeling_simlvm": 4,
    "modeling_v2l": 4,
    "modeling_lqae": 5,
    "modeling_spae": 5,
}
# Rooms of the library, each with the rooms it may import from; files directly in the package are rooms too.
ROOMS = {
    "errors": set(),
    "progress": set(),
    "shipped": {"errors", "hub_configs"},
    "references": {"errors", "offline", "progress", "shipped"},
    "image_io": {"errors", "modeling"},
    "language": {"errors", "references"},
    "metrics": {"errors", "features"},
    "encoders": {"errors", "modeling", "references"},
    "codebook": {"encoders", "errors", "language", "modeling", "progress"},
    "hub": {"codebook", "encoders", "errors", "modeling"},
    "offline": {"errors", "progress", "references", "modeling", "codebook", "encoders", "hub", "hub_configs"},
    "words": {"errors", "image_io", "language", "modeling", "progress", "references"},
    "features": {"errors", "modeling", "offline", "references"},
    "conversion": {"codebook", "encoders", "errors", "language", "modeling", "progress", "references"},
    "reconstruction": {
        *("codebook", "errors", "features", "image_io", "language"),
        *("metrics", "modeling", "progress", "references", "words"),
    },
    "training": {"codebook", "errors", "features", "image_io", "language", "modeling", "progress", "references"},
    "completion": {"errors", "language", "modeling"},
    "few_shot": {"completion", "errors", "image_io", "language", "metrics", "modeling", "progress", "words"},
    "frozen_prefix": {
        *("completion", "errors", "few_shot", "image_io", "language", "modeling", "progress", "references"),
        *("training", "words"),
    },
    "captioning": {"completion", "errors", "image_io", "language", "metrics", "modeling", "progress", "words"},
    "restoration": {
        *("completion", "errors", "features", "image_io", "language", "metrics"),
        *("modeling", "progress", "reconstruction", "words"),
    },
    "masked_restoration": {
        *("completion", "errors", "image_io", "language", "metrics", "modeling"),
        *("progress", "reconstruction", "references", "restoration", "training", "words"),
    },
    "data": {"errors", "image_io", "modeling", "progress", "reconstruction"},
    "video": {"captioning", "data", "errors", "image_io", "modeling", "progress", "words"},
    "sentence_completion": {
        *("data", "errors", "image_io", "language", "metrics", "modeling", "progress", "reconstruction", "references"),
        "shipped",
    },
    "sentence_training": {"data", "errors", "language", "modeling", "references", "training"},
    "reproduction": {
        *("codebook", "completion", "conversion", "data", "encoders", "errors", "features", "few_shot"),
        *("frozen_prefix", "hub", "image_io", "language", "metrics", "modeling", "reconstruction", "restoration"),
        *("sentence_completion", "sentence_training", "shipped", "training", "words"),
    },
    "hub_code": {"errors"},
    "environment": {"features", "language", "offline", "shipped"},
    "pipelines": {
        *("captioning", "completion", "errors", "few_shot", "hub_code", "image_io", "language", "masked_restoration"),
        *("modeling", "reconstruction", "references", "restoration", "sentence_completion", "words"),
    },
    "app": {
        *("captioning", "completion", "data", "demo", "errors", "few_shot", "image_io", "metrics", "reconstruction"),
        *("references", "restoration", "sentence_completion", "shipped", "video", "words"),
    },
    "demo": {
        *(
            "completion",
            "data",
            "errors",
            "few_shot",
            "image_io",
            "language",
            "metrics",
            "reconstruction",
            "references",
        ),
        *("restoration", "sentence_completion", "shipped", "words"),
    },
    "model_types": {"modeling"},
    "registration": {"model_types", "modeling", "pipelines", "publishing", "shipped"},
    "publishing": {
        *("errors", "hub_code", "model_types", "modeling", "pipelines", "progress", "references", "shipped"),
    },
    "__init__": {"errors", "hub", "image_io", "language", "modeling", "offline", "registration"},
}


def imports(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """(dots, module, names) of every import statement in a file, nested ones included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", [alias.name for alias in node.names]


@pytest.mark.parametrize("path", MODELING, ids=lambda path: path.stem)
def test_modeling_files_ship_to_the_hub_alone(path: Path):
    for dots, module, names in imports(path):
        if dots:
            assert dots == 1 and module and "." not in module, f"{names}: only `from .file import name` is followed"
            assert LEVELS[module] < LEVELS[path.stem], f"{path.stem} must not import {module}: not of a lower level"
        else:
            assert module.split(".")[0] in MODELING_MAY_IMPORT | STANDARD_LIBRARY, f"{path.stem} imports {module}"


@pytest.mark.parametrize("path", MODELING, ids=lambda path: path.stem)
def test_no_docstring_line_looks_like_a_relative_import(path: Path):
    # the Hub's finder is a regular expression and reads text too
    found = re.findall(r"^\s*from\s+\.(\S+)\s+import", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(found) == sorted(module for dots, module, _ in imports(path) if dots)


def test_no_class_of_modeling_is_called_a_tokenizer():
    # save_pretrained would take it for a text tokenizer and write a folder that cannot be loaded
    names = [
        node.name
        for path in MODELING
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    assert [name for name in names if "Tokenizer" in name] == []


def is_evaluate_module(path: Path) -> bool:
    """Whether `evaluate` copies this file elsewhere and runs it there, where relative imports lead nowhere."""
    return path.parent.parent.name == "metrics" and path.stem == path.parent.name


def room_of(path: Path) -> str:
    """The room that a file of src/visual_sentence/ belongs to."""
    parts = path.relative_to(ROOT / "src" / "visual_sentence").with_suffix("").parts
    return parts[0]


LIBRARY = [path for path in SOURCE if path.is_relative_to(ROOT / "src" / "visual_sentence")]


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(ROOT / "src" / "visual_sentence")))
def test_rooms_import_only_what_they_may(path: Path):
    room = room_of(path)
    depth = len(path.relative_to(ROOT / "src" / "visual_sentence").parts)
    for dots, module, names in imports(path):
        outside = module.split(".")[0] if not dots else ""
        if outside == "visual_sentence" and is_evaluate_module(path):
            targets = {module.split(".")[1]} if "." in module else set(names)
            assert targets <= ROOMS[room] | {room}, f"{room} must not import {targets - ROOMS[room]}"
            continue
        assert outside not in ("visual_sentence", "visual_sentence_cli", "scripts", "modeling"), (
            f"{path}: inside the package imports are relative, and nothing imports scripts or the command"
        )
        if dots == depth:  # from the package's top: another room
            targets = {module.split(".")[0]} if module else set(names)
            assert targets <= ROOMS[room] | {room}, f"{room} must not import {targets - ROOMS[room]}"
        else:
            assert dots < depth, f"{path} reaches out of the package"


def test_the_commands_defaults_are_the_librarys():
    from visual_sentence.few_shot import BEST_SCORING
    from visual_sentence_cli import options

    assert options.BEST_SCORING == BEST_SCORING


def test_the_command_loads_no_model_code_before_it_must():
    for path in (ROOT / "src" / "visual_sentence_cli").glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                assert not (node.module or "").startswith("visual_sentence"), f"{path.name} imports the library on top"
