"""A folder as the Hub is to hold it: weights, configuration, words, processor, all code, and the card.

Weights are taken as they are, byte by byte: saving them anew would undo what `visual-sentence compact` made of them.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoImageProcessor, AutoProcessor

from ..errors import UserError
from ..hub_code import add_pipelines, find, flat_code
from ..modeling import V2LConfig
from ..modeling.configuration_v2l import without_paths
from ..pipelines import (
    CAPTIONING_TASK,
    FEW_SHOT_TASK,
    MASKED_TASK,
    QUESTION_ANSWERING_TASK,
    RECONSTRUCTION_TASK,
    RESTORATION_TASK,
    SENTENCE_TASK,
)
from ..references import LOADING_ERRORS, unreachable
from .card import linked_files, write_card
from .sources import (
    CARD,
    CONFIG,
    GENERATION_CONFIG,
    LOCAL_WORDS,
    PROCESSOR,
    WORDS,
    Source,
    find_source,
    read_json,
)

OF_WORDS = (FEW_SHOT_TASK, CAPTIONING_TASK, QUESTION_ANSWERING_TASK)
# Where a configuration names something that others are to have too.
REFERENCES = ("language_model", "encoder_name")
CHUNK = 1 << 20


@dataclass(frozen=True)
class RepositoryFile:
    """A file of a repository.

    Args:
        path: Its place in the repository.
        size: In bytes.
        sha256: Its digest, as hexadecimal digits.
    """

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Repository:
    """A folder that is ready to be uploaded.

    Args:
        name: What the model is called.
        folder: Where it lies.
        files: What is in it, in order of path.
        tasks: The pipelines that come with the model.
        processor_class: The class of transformers that loads its processor; None for a model without.
        left_out: Names of what the model's folder has beside that.
        notes: What whoever publishes it should know, a sentence each.
    """

    name: str
    folder: Path
    files: tuple[RepositoryFile, ...]
    tasks: tuple[str, ...]
    processor_class: str | None
    left_out: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)


def assemble_repository(
    model: str, folder: str | Path, repo_id: str | None = None, licence: str | None = None, link: bool = False
) -> Repository:
    """Writes what a repository of a model holds.

    The same model, package and arguments give the same bytes.

    Args:
        model: A model folder, or the name of a folder of hub_configs/ that holds weights.
        folder: Where to write; an empty folder.
        repo_id: Where the repository will be, which the card's examples name.
        licence: What the card says of the licence, as the Hub calls it; the card's own by default.
        link: Point at the weights in place of copying them, which is enough for an upload.

    Raises:
        UserError: If the model cannot be published: see `find_source`; its processor does not load; or its card is
            none.
    """
    source, folder = find_source(model), Path(folder)
    tasks = fitting_tasks(source)
    for name in source.weights:
        _take(source.folder / name, folder / name, link)
    for name in (GENERATION_CONFIG, WORDS, LOCAL_WORDS):
        if source.has(name):
            _take(source.folder / name, folder / name)
    classes = [type(source.config), source.model_class]
    if source.processor is not None:
        _write_processor(model, source, folder)
    for name, text in flat_code(found.__module__ for found in classes).items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    _write_config(source, folder)
    if tasks:
        add_pipelines(folder, tasks)
    for name in write_card(source, folder, tasks, repo_id, licence):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        _take(source.folder / name, folder / name)
    for path in source.folder.glob("LICEN[CS]E*"):
        _take(path, folder / path.name)
    files = tuple(list_files(folder))
    taken = {file.path for file in files} | {"__pycache__"}
    left_out = tuple(sorted(path.name for path in source.folder.iterdir() if path.name not in taken))
    notes = tuple(_notes(source, folder))
    return Repository(source.name, folder, files, tasks, source.processor_class, left_out, notes)


def fitting_tasks(source: Source) -> tuple[str, ...]:
    """The pipelines that a model can be used with, which are those that come with it."""
    config = source.config
    if source.processor is None:
        return ()
    if config.model_type == "simlvm":
        return (SENTENCE_TASK,)
    if config.model_type == "vqgan":
        return (RECONSTRUCTION_TASK,)
    if not isinstance(config, V2LConfig):
        return ()
    tasks = OF_WORDS if config.encoder_type is not None and source.has(WORDS) else ()
    if config.local_codebook_size is None or (config.cross_attention is not None and config.encoder_type is None):
        return tasks
    # tokens of the others are another model's words, or stand in a pyramid
    of_local_words = (RESTORATION_TASK, MASKED_TASK) if config.model_type == V2LConfig.model_type else ()
    return (*tasks, RECONSTRUCTION_TASK, *(of_local_words if source.has(LOCAL_WORDS) else ()))


def list_files(folder: Path) -> Iterable[RepositoryFile]:
    """Every file of a folder with its digest, in order of path."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield RepositoryFile(path.relative_to(folder).as_posix(), path.stat().st_size, digest(path))


def digest(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()


def _take(source: Path, target: Path, link: bool = False) -> None:
    """Puts a file into the folder.

    Raises:
        UserError: If it cannot be read, or the disk is full.
    """
    if link:
        try:
            target.symlink_to(source)
            return
        except OSError:  # where links are not for everybody
            pass
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise UserError(f"{source} could not be copied to {target.parent} ({error.strerror or error}).") from error


def _write_config(source: Source, folder: Path) -> None:
    """The configuration with its fields as they were, and where the code is."""
    fields = without_paths(read_json(source.folder / CONFIG))
    fields.pop("custom_pipelines", None)
    named = {"AutoConfig": type(source.config), "AutoModel": source.model_class}
    fields["auto_map"] = {kind: f"{find(one.__module__).flat_name}.{one.__name__}" for kind, one in named.items()}
    fields.setdefault("architectures", [source.model_class.__name__])
    text = json.dumps(fields, indent=2, sort_keys=True)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def _write_processor(model: str, source: Source, folder: Path) -> None:
    """The processor with its code; the words stay as they are.

    Raises:
        UserError: If it does not load.
    """
    loader = AutoProcessor if source.processor == PROCESSOR else AutoImageProcessor
    words = folder / WORDS
    before = words.read_bytes() if words.is_file() else None
    try:
        processor = loader.from_pretrained(source.folder)
    except LOADING_ERRORS as error:
        raise unreachable(model, error) from error
    processor.save_pretrained(folder)
    if before is not None:
        words.write_bytes(before)


def _notes(source: Source, folder: Path) -> Iterable[str]:
    config = source.config
    for field in REFERENCES:
        value = getattr(config, field, None)
        if isinstance(value, str) and (Path(value).is_absolute() or value.startswith((".", "~"))):
            yield f"config.json names {value} as its {field}, which is a place on this machine that others do not have."
    if source.processor is None:
        yield "It has no processor, so no pipeline comes along and pictures have to be prepared by hand."
    if isinstance(config, V2LConfig) and config.encoder_type is not None and not source.has(WORDS):
        yield f"It has global words but no {WORDS}, so its tokens have no words."
    text = (folder / CARD).read_text(encoding="utf-8")
    if "\nlicense:" not in text.partition("\n---\n")[0]:
        yield "Its card names no licence, so nobody may use it: write one into its README.md, or give --license."
    for name in linked_files(text):
        if not (folder / name).is_file():
            yield f"Its card points at {name}, which is not there."


__all__ = ["Repository", "RepositoryFile", "assemble_repository", "digest", "fitting_tasks", "list_files"]
