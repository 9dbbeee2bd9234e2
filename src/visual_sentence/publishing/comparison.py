"""What an upload would change: a folder beside a branch of a repository of the Hub, by digests."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils.sha import git_hash

from .assembly import Repository, RepositoryFile
from .connection import REFUSED, Patience, Watch, persist, safe

MAIN = "main"
NEW, CHANGED, SAME = "new", "changed", "same"
OF_THE_HUB = ".gitattributes"
LOOK = Patience(tries=1, timeout=15)


@dataclass(frozen=True)
class Comparison:
    """What an upload changes.

    Args:
        states: "new", "changed" or "same" for each file of the folder, by path.
        only_there: Files that the repository has beside them.
        exists: Whether the repository exists and can be seen.
        private: Whether it is private.
        head: The commit that was looked at; None where there is none.
    """

    states: dict[str, str]
    only_there: tuple[str, ...]
    exists: bool
    private: bool | None
    head: str | None

    @property
    def different(self) -> list[str]:
        """The files that have to be sent."""
        return [path for path, state in self.states.items() if state != SAME]


def compare(repository: Repository, repo_id: str, revision: str = MAIN, token: str | None = None) -> Comparison | str:
    """What an upload would change, looked up and not done.

    Args:
        repository: What would be uploaded.
        repo_id: Where to.
        revision: The branch.
        token: To look with; the one that huggingface_hub finds by default.

    Returns:
        The comparison, or why there is none, where the Hub gives no answer.
    """
    token = token or get_token() or None
    api, watch = HfApi(token=token or False), Watch(LOOK.timeout)
    try:
        return persist(lambda: look_up(api, repository, repo_id, revision), LOOK, watch, lambda _: None)
    except OfflineModeIsEnabled:
        return "HF_HUB_OFFLINE is set"
    except Exception as error:
        found = safe(error, repo_id, token)
        if found is error:
            raise
        return str(found)


def look_up(api: HfApi, repository: Repository, repo_id: str, revision: str) -> Comparison:
    """Reads what is there.

    Args:
        api: Who asks.
        repository: What would be uploaded.
        repo_id: Where to.
        revision: Branch or commit.
    """
    try:
        private = bool(api.model_info(repo_id).private)
    except RepositoryNotFoundError as error:
        # without a token the Hub says 401 of what is not there, too
        if error.response.status_code == REFUSED and isinstance(api.token, str):
            raise
        return Comparison(dict.fromkeys((file.path for file in repository.files), NEW), (), False, None, None)
    try:
        head = api.model_info(repo_id, revision=revision).sha
    except RevisionNotFoundError:
        return Comparison(dict.fromkeys((file.path for file in repository.files), NEW), (), True, private, None)
    there = {file.path: file for file in api.list_repo_tree(repo_id, revision=head, recursive=True) if _is_file(file)}
    states = {
        file.path: NEW
        if file.path not in there
        else SAME
        if _is_same(repository.folder, file, there[file.path])
        else CHANGED
        for file in repository.files
    }
    only_there = tuple(sorted(there.keys() - states.keys() - {OF_THE_HUB}))
    return Comparison(states, only_there, True, private, head)


def _is_file(entry: Any) -> bool:
    return hasattr(entry, "blob_id")


def _is_same(folder: Path, ours: RepositoryFile, theirs: Any) -> bool:
    """Whether the Hub's digest of a file is ours: SHA-256 of large ones, git's own of others."""
    if theirs.lfs is not None:
        return theirs.lfs.sha256 == ours.sha256
    return theirs.size == ours.size and theirs.blob_id == git_hash((folder / ours.path).read_bytes())


__all__ = ["CHANGED", "MAIN", "Comparison", "compare", "look_up"]
