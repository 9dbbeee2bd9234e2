"""`push_to_hub` of a model or a pipeline: all that `visual-sentence push` publishes, of a model in memory.

A card, a training report and measurements belong to weights. So they go along where the model is still what its folder
holds, and are left out where it was changed since.
"""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, hf_hub_download
from safetensors import safe_open
from transformers import AutoImageProcessor, AutoProcessor, PreTrainedModel, ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor

from ..errors import UserError
from ..references import LOADING_ERRORS
from .assembly import Repository, RepositoryFile, assemble_repository, digest
from .comparison import CHANGED, MAIN, compare
from .connection import safe
from .sources import CARD, IMAGE_PROCESSOR, INDEX, PROCESSOR, RUN_MODEL, Source, find_source
from .upload import check_branch, check_repo_id, check_token, publish

logger = logging.getLogger(__name__)
# Fields of a configuration that say how it was written or loaded.
OF_LOADING = ("_name_or_path", "architectures", "auto_map", "custom_pipelines", "dtype", "transformers_version")


def push_model(
    model: PreTrainedModel,
    repo_id: str,
    *,
    processor: ProcessorMixin | BaseImageProcessor | None = None,
    commit_message: str | None = None,
    commit_description: str | None = None,
    private: bool | None = None,
    token: bool | str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    max_shard_size: int | str = "50GB",
    tags: Sequence[str] | None = None,
) -> str:
    """Publishes a model with words, processor, the code of both and of its pipelines, and a card, in one commit.

    A model that was loaded from a folder and not changed since is published as its folder holds it, with its card,
    training report and measurements; of another one the card says what its configuration does. A card that is on the
    Hub already is kept, unless the folder brings its own.

    Args:
        model: One of this package's models.
        repo_id: Where to, OWNER/NAME.
        processor: Its processor or image processor; that of the folder which it was loaded from by default.
        commit_message: Of the commit.
        commit_description: Of the commit.
        private: Whether a repository that is made is to be private; the owner's own default otherwise.
        token: To upload with; the one that huggingface_hub finds by default.
        revision: Branch, made where it is missing; main by default.
        create_pr: Not for these models, whose upload is compared with what is there: refused.
        max_shard_size: Of a file of weights that are saved anew.
        tags: More tags for the card.

    Returns:
        The commit's address.

    Raises:
        UserError: If the model cannot be published, or the Hub does not take it; see `assemble_repository` and
            `publish`.
    """
    if create_pr:
        raise UserError("create_pr is not taken here: push to a branch (revision=...) and open its request on the Hub.")
    revision = revision or MAIN
    check_repo_id(repo_id), check_branch(revision)
    token = check_token(token if isinstance(token, str) else None)
    source = source_in_memory(model, processor)
    with tempfile.TemporaryDirectory(prefix="visual-sentence-") as place:
        folder = Path(place) / "assembled"
        folder.mkdir()
        if source is None:
            saved = Path(place) / repo_id.partition("/")[2] / RUN_MODEL
            save(model, saved, processor, max_shard_size)
            source = find_source(str(saved))
        repository = assemble_repository(str(source.folder), folder, repo_id, link=True)
        repository = _with_card(repository, source, repo_id, revision, token, tags or ())
        for note in repository.notes:
            logger.warning(note)
        done = publish(
            repository, repo_id, bool(private), revision, commit_message, token=token, description=commit_description
        )
    return done.url


def source_in_memory(
    model: PreTrainedModel, processor: ProcessorMixin | BaseImageProcessor | None = None
) -> Source | None:
    """The folder that a model was loaded from, where the model is still what the folder holds.

    Args:
        model: One of this package's models.
        processor: What has to be the folder's, too.

    Returns:
        None for a model that came from elsewhere or was changed.
    """
    home = _home(model)
    if home is None:
        return None
    try:
        source = find_source(str(home))
    except UserError:  # not what it was
        return None
    if processor is not None:
        loader = AutoProcessor if isinstance(processor, ProcessorMixin) else AutoImageProcessor
        try:
            theirs = loader.from_pretrained(home)
        except LOADING_ERRORS:  # it has none
            return None
        if theirs.to_dict() != processor.to_dict():
            return None
    return source if _same_fields(model, source) and _same_weights(model, source) else None


def _home(model: PreTrainedModel) -> Path | None:
    """The folder that a model was loaded from, if it was."""
    name = str(model.name_or_path or "")
    return Path(name) if name and Path(name).is_dir() else None


def _same_fields(model: PreTrainedModel, source: Source) -> bool:
    one, other = (config.to_dict() for config in (model.config, source.config))
    return _without(one) == _without(other)


def _without(fields: Any) -> Any:
    if isinstance(fields, dict):
        return {name: _without(value) for name, value in fields.items() if name not in OF_LOADING}
    return fields


def _same_weights(model: PreTrainedModel, source: Source) -> bool:
    """Whether a model's numbers are the file's, which are read one after another."""
    held, found = model.state_dict(), set()
    for name in source.weights:
        if name == INDEX:
            continue
        with safe_open(source.folder / name, "pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118  (no mapping)
                tensor = tensors.get_tensor(key)
                if key not in held or held[key].dtype != tensor.dtype or not torch.equal(held[key].cpu(), tensor):
                    return False
                found.add(held[key].data_ptr())
    # a tied weight is written once
    return all(tensor.data_ptr() in found for tensor in held.values())


def save(
    model: PreTrainedModel,
    folder: Path,
    processor: ProcessorMixin | BaseImageProcessor | None,
    max_shard_size: int | str,
) -> None:
    """Saves a model as it is now, with the processor of the folder that it came from.

    Args:
        model: The model.
        folder: Where to; it is made.
        processor: In place of the folder's, or of the image processor in it.
        max_shard_size: Of a file.
    """
    home = _home(model)
    if home is not None and (home / PROCESSOR).is_file() and not isinstance(processor, ProcessorMixin):
        whole = AutoProcessor.from_pretrained(home)
        if processor is not None:
            whole.image_processor = processor
        processor = whole
    elif home is not None and (home / IMAGE_PROCESSOR).is_file() and processor is None:
        processor = AutoImageProcessor.from_pretrained(home)
    if processor is not None:
        processor.save_pretrained(folder)
    # after the processor, whose words may be fewer: see LocalVocabulary
    model.save_pretrained(folder, max_shard_size=max_shard_size)


def _with_card(
    repository: Repository, source: Source, repo_id: str, revision: str, token: str, tags: Sequence[str]
) -> Repository:
    """The repository with the card that is to be there."""
    place, kept = repository.folder / CARD, False
    if not source.has(CARD):
        there = compare(repository, repo_id, revision, token)
        kept = not isinstance(there, str) and there.states.get(CARD) == CHANGED
    others = tuple(file for file in repository.files if file.path != CARD)
    if tags:
        card = ModelCard.load(_fetch_card(repo_id, revision, token) if kept else place)
        before = card.data.get("tags") or []
        card.data["tags"] = [*before, *(tag for tag in tags if tag not in before)]
        card.save(place)
        return replace(repository, files=(*others, RepositoryFile(CARD, place.stat().st_size, digest(place))))
    if kept:
        place.unlink()
        return replace(repository, files=others)
    return repository


def _fetch_card(repo_id: str, revision: str, token: str) -> str:
    """The file of the card that is on the Hub."""
    try:
        return hf_hub_download(repo_id, CARD, revision=revision, token=token)
    except Exception as error:
        raise safe(error, repo_id, token) from None  # what it came from may repeat the token


__all__ = ["push_model", "save", "source_in_memory"]
