"""Pipelines that travel with a model: their code, made flat, in the model's folder.

`pipeline(task, model=folder_or_hub_id, trust_remote_code=True)` then works where this package is not installed. The
Hub's code loader wants flat files, looks for the lines `from .file import name` in them with a regular expression,
and brings those files along. So a pipeline's module and all that it imports of this package, also inside functions,
is written as one flat file each, with every relative import rewritten to name the file that defines what is imported.
"""

import ast
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from transformers.pipelines import PIPELINE_REGISTRY

from .errors import UserError

PACKAGE = __name__.rpartition(".")[0]
# Rooms that stay at home: where they are asked for, the installed package is used, or its absence is explained.
LEFT_BEHIND = {"offline"}
# The finder of transformers.dynamic_module_utils.get_relative_imports; it reads text and comments too.
FINDER = re.compile(r"^\s*from\s+\.(\S+)\s+import", re.MULTILINE)
HEADER = "# {file} of the visual-sentence package, its imports made flat.\n"
ABSENT = """\
try:
    from {module} import {names}
except ImportError as error:
    from .errors import UserError as Unavailable

    raise Unavailable(
        "'{room}' needs the visual-sentence package, which is not installed here: install it, "
        "or name a folder or a Hub id instead."
    ) from error
"""


@dataclass(frozen=True)
class Module:
    """A module of the package.

    Args:
        name: Dotted, as imported.
        path: Its file.
        is_package: Whether the file is an `__init__.py`.
    """

    name: str
    path: Path
    is_package: bool

    @property
    def flat_name(self) -> str:
        """What its file is called in a model folder, without the suffix; files of `modeling/` keep their names."""
        inner = self.name.removeprefix(f"{PACKAGE}.")
        return inner.removeprefix("modeling.").replace(".", "_")

    @property
    def is_flat_already(self) -> bool:
        """Whether it is a file of `modeling/`, which models carry as it is."""
        return self.name.startswith(f"{PACKAGE}.modeling.")


@dataclass(frozen=True)
class Import:
    """Where a name comes from that a relative import brings.

    Args:
        module: The module that defines it, or the module itself.
        name: The name in that module; None where the module itself is imported.
        local: What the importing file calls it.
    """

    module: str
    name: str | None
    local: str


def add_pipelines(folder: str | Path, tasks: Iterable[str | type]) -> None:
    """Lets a saved model bring its own pipelines.

    Writes the code (see `write_pipeline_code`) and names the tasks in `config.json`, beside those already there.

    Args:
        folder: A model folder, as `save_pretrained` wrote it with this package imported.
        tasks: Registered tasks of this package, or pipeline classes of it.

    Raises:
        UserError: If the folder holds no model, its model code is missing, or a task is not one of this package.
    """
    folder = Path(folder)
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise UserError(f"{folder} has no config.json, so it is no model folder: save the model there first.")
    config = json.loads(config_file.read_text(encoding="utf-8"))
    if "AutoModel" not in config.get("auto_map", {}):
        raise UserError(
            f"{config_file} names no code for the model itself (auto_map), so its pipelines would be of no use where "
            "visual-sentence is not installed: save the model again with visual_sentence imported."
        )
    classes = {named.task_name: named for named in map(pipeline_class, tasks)}
    write_pipeline_code(folder, classes.values())
    described = {
        task: {"impl": f"{code_name(found.__module__)}.{found.__name__}", "pt": ["AutoModel"]}
        for task, found in classes.items()
    }
    config["custom_pipelines"] = {**config.get("custom_pipelines", {}), **described}
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_pipeline_code(folder: str | Path, tasks: Iterable[str | type]) -> list[Path]:
    """Writes the code of pipelines into a model folder, flat.

    Called from code that is flat itself, because it came with a model, it copies the files that came.

    Args:
        folder: Where to write; files of the same names are replaced.
        tasks: Registered tasks of this package, or pipeline classes of it.

    Returns:
        The files, in order of name. The same package gives the same bytes.

    Raises:
        UserError: If a task is not one of this package.
    """
    classes = [pipeline_class(task) for task in tasks]
    if is_flat():
        here = Path(__file__).parent
        texts = {path.name: path.read_text(encoding="utf-8") for path in here.glob("*.py") if path.stem != "__init__"}
    else:
        texts = {f"{name}.py": text for name, text in flat_code(found.__module__ for found in classes).items()}
    for name, text in texts.items():
        (Path(folder) / name).write_text(text, encoding="utf-8")
    return [Path(folder) / name for name in sorted(texts)]


def pipeline_class(task: str | type) -> type:
    """The class of a task of this package.

    Raises:
        UserError: If there is none.
    """
    registered = {name: entry["impl"] for name, entry in PIPELINE_REGISTRY.supported_tasks.items()}
    found = registered.get(task) if isinstance(task, str) else task
    if isinstance(found, type) and found.__module__.startswith(f"{PACKAGE}."):
        return found
    ours = (name for name, named in registered.items() if getattr(named, "__module__", "").startswith(f"{PACKAGE}."))
    raise UserError(f"{task} is no pipeline of visual-sentence, so its code is not known: use {', '.join(ours)}.")


def is_flat() -> bool:
    """Whether this very file came with a model and lies among other flat files."""
    return not (Path(__file__).parent / "pipelines").is_dir()


def code_name(module: str) -> str:
    """The flat name of a module, of the package or flat already."""
    return module.rpartition(".")[2] if is_flat() else find(module).flat_name


def flat_code(modules: Iterable[str]) -> dict[str, str]:
    """The texts of modules and of everything of the package that they need: flat name -> text, in order of name.

    Args:
        modules: Dotted names.

    Raises:
        ValueError: If an import cannot be made flat, or two modules would get one name.
    """
    waiting, seen, texts = list(modules), set(), {}
    while waiting:
        module = find(waiting.pop())
        if module.name in seen:
            continue
        seen.add(module.name)
        if module.flat_name in texts:
            raise ValueError(f"{module.name} and another module would both be written as {module.flat_name}.py.")
        texts[module.flat_name] = flatten(module)
        needed = [entry for _, imported in relative_imports(module) for entry in imported]
        waiting += [entry.module if travels(entry) else f"{PACKAGE}.errors" for entry in needed]
    return dict(sorted(texts.items()))


def flatten(module: Module) -> str:
    """The text of a module with every relative import rewritten.

    Raises:
        ValueError: If an import stands where it cannot be rewritten, or other text reads like one.
    """
    text = module.path.read_text(encoding="utf-8")
    expected = set()
    lines = text.splitlines(keepends=True)
    for node, imported in sorted(relative_imports(module), key=lambda pair: -pair[0].lineno):
        expected |= {find(entry.module).flat_name for entry in imported if travels(entry)}
        if not all(travels(entry) for entry in imported):
            expected.add("errors")
        if module.is_flat_already:
            continue
        first, last = node.lineno - 1, node.end_lineno or node.lineno
        before, behind = lines[first].encode()[: node.col_offset], lines[last - 1].encode()[node.end_col_offset :]
        if before.strip() or (behind.strip() and not behind.strip().startswith(b"#")):
            raise ValueError(f"{module.path}, line {node.lineno}: a relative import must stand on lines of its own.")
        indent = before.decode()
        lines[first:last] = [indent + line if line.strip() else line for line in rewritten(imported, bool(indent))]
    text = "".join(lines)
    if set(FINDER.findall(text)) != expected:
        raise ValueError(
            f"{module.path}: a line of text reads like a relative import, which confuses the Hub's loader."
        )
    if module.is_flat_already:
        return text
    inner = module.path.relative_to(find(PACKAGE).path.parent).as_posix()
    return HEADER.format(file=inner) + text


def rewritten(imported: Sequence[Import], inside_function: bool) -> Iterator[str]:
    """The lines that stand for one relative import.

    Raises:
        ValueError: If a room that stays at home is needed at the top of a file.
    """
    by_module: dict[str, list[Import]] = {}
    for entry in imported:
        by_module.setdefault(entry.module, []).append(entry)
    for module, entries in by_module.items():
        names = ", ".join(
            entry.name if entry.name == entry.local else f"{entry.name} as {entry.local}"
            for entry in entries
            if entry.name
        )
        if not travels(entries[0]):
            if not inside_function or not names:
                raise ValueError(f"{module} stays at home, so it may only be imported as a name inside a function.")
            filled = ABSENT.format(module=module, names=names, room=room_of(module))
            yield from filled.splitlines(keepends=True)
            continue
        flat = find(module).flat_name
        if names:
            yield f"from .{flat} import {names}\n"
        for entry in entries:
            if entry.name is None:  # the loader does not see the second line, and brings the file for the first
                yield f"from .{flat} import __name__ as _{flat}\n"
                yield f"from . import {flat} as {entry.local}\n"


def relative_imports(module: Module) -> list[tuple[ast.ImportFrom, list[Import]]]:
    """Every relative import of a module, those inside functions too, with where its names are defined.

    Raises:
        ValueError: If everything of a module is imported, or the package by its own name.
    """
    package = module.name if module.is_package else module.name.rpartition(".")[0]
    found = []
    for node in ast.walk(parsed(module.path)):
        absolute = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            absolute = [node.module or ""]
        if any(name.partition(".")[0] == PACKAGE for name in absolute):
            line = getattr(node, "lineno", None)
            raise ValueError(f"{module.path}, line {line}: inside the package imports must be relative to travel.")
        if not isinstance(node, ast.ImportFrom) or node.level == 0:
            continue
        source = ".".join(part for part in (absolute_name(package, node.level), node.module) if part)
        found.append((node, [definition(source, alias.name, alias.asname or alias.name) for alias in node.names]))
    return found


def definition(source: str, name: str, local: str) -> Import:
    """The module that defines what is imported from `source`, which may only pass it on.

    Raises:
        ValueError: If it is not found, or stands for everything.
    """
    module = find(source)
    if name == "*":
        raise ValueError(f"Everything of {source} is imported: name what is needed, so that it can travel.")
    if not module.is_package or room_of(source) in LEFT_BEHIND:
        return Import(source, name, local)
    for node in parsed(module.path).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    passed_on = ".".join(part for part in (absolute_name(source, node.level), node.module) if part)
                    return definition(passed_on, alias.name, local)
    if find_spec(f"{source}.{name}") is not None:
        return Import(f"{source}.{name}", None, local)
    return Import(source, name, local)


def absolute_name(package: str, level: int) -> str:
    """The package that `level` dots mean in a file of `package`."""
    return package if level == 1 else package.rsplit(".", level - 1)[0]


def room_of(module: str) -> str:
    """The part of the package that a module belongs to."""
    return module.removeprefix(f"{PACKAGE}.").partition(".")[0]


def travels(entry: Import) -> bool:
    """Whether the module of an import goes with the model."""
    return room_of(entry.module) not in LEFT_BEHIND


@cache
def find(name: str) -> Module:
    """A module of the package by its dotted name.

    Raises:
        ValueError: If there is none.
    """
    spec = find_spec(name)
    if spec is None or spec.origin is None or name.partition(".")[0] != PACKAGE:
        raise ValueError(f"There is no module {name} in the package.")
    return Module(name, Path(spec.origin), spec.submodule_search_locations is not None)


@cache
def parsed(path: Path) -> ast.Module:
    """A file as a syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))
