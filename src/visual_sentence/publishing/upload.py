"""One folder to one commit of a repository of the Hub.

A commit is one step of the Hub's: large files are stored before it and belong to nothing until it names them. So
whatever goes wrong, a branch is what it was before or all of what it is to be.
"""

import re
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
)
from huggingface_hub.utils import validate_repo_id

from ..errors import UserError
from ..progress import progress_bar
from .assembly import Repository, digest
from .comparison import MAIN, Comparison, look_up
from .connection import CONFLICTS, Patience, Watch, interruption, persist, safe, without
from .sources import GENERATION_CONFIG, IMAGE_PROCESSOR, INDEX, LOCAL_WORDS, PROCESSOR, WEIGHTS, WORDS

# Read wherever they are found, so that one that an earlier model left would go into this one.
READ_IF_THERE = (WEIGHTS, INDEX, GENERATION_CONFIG, WORDS, LOCAL_WORDS, PROCESSOR, IMAGE_PROCESSOR)
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Published:
    """The outcome of an upload.

    Args:
        commit: The commit's hash, which pins what was published.
        url: Where it can be seen.
        comparison: What it changed.
        deleted: Files that it deleted.
        is_new_commit: Whether there was anything to change.
    """

    commit: str
    url: str
    comparison: Comparison
    deleted: tuple[str, ...]
    is_new_commit: bool


@dataclass(frozen=True)
class _Said:
    """What a commit says of itself.

    Args:
        message: Its first line; one of ours by default.
        description: The rest.
    """

    message: str | None
    description: str | None


@dataclass
class _Attempts:
    """What later attempts have to know of earlier ones."""

    first: Comparison | None = None
    created: bool = False
    sent: bool = False


def check_repo_id(repo_id: str) -> str:
    """Refuses what can be no repository's name.

    Args:
        repo_id: As the user wrote it.

    Raises:
        UserError: If it is not OWNER/NAME as the Hub takes it.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UserError(f"{repo_id!r} is no repository's name ({error}): write OWNER/NAME.") from error
    if repo_id.count("/") != 1:
        raise UserError(f"{repo_id!r} does not say whose the repository is: write OWNER/NAME.")
    return repo_id


def check_branch(revision: str) -> str:
    """Refuses what can be no branch.

    Args:
        revision: As the user wrote it.

    Raises:
        UserError: If it is a commit's hash, or git knows no branches of that name.
    """
    if COMMIT.fullmatch(revision):
        raise UserError(f"{revision} is a commit, which never changes: give a branch to push to.")
    if not revision or re.search(r"[\s~^:?*\[\\\x00-\x1f]|\.\.|//|^[-/]|[/.]$|\.lock$|@\{", revision):
        raise UserError(f"{revision!r} cannot be a branch's name: use letters, digits, '-' and '/'.")
    return revision


def check_token(token: str | None = None) -> str:
    """A token to upload with.

    Args:
        token: The one that huggingface_hub finds by default.

    Raises:
        UserError: If there is none, or it cannot be sent.
    """
    token = token or get_token()
    if token is None:
        raise UserError("There is no token to upload with: log in with `hf auth login`, or set HF_TOKEN.")
    if not re.fullmatch(r"[!-~]+", token):
        raise UserError("The token holds characters that no token has: log in again with `hf auth login`.")
    return token


def publish(
    repository: Repository,
    repo_id: str,
    private: bool = False,
    revision: str = MAIN,
    message: str | None = None,
    delete: bool = False,
    verify: bool = False,
    patience: Patience | None = None,
    say: Callable[[str], None] = lambda _: None,
    token: str | None = None,
    description: str | None = None,
) -> Published:
    """Uploads a folder in one commit.

    The repository and the branch are made where they are missing. Files that are there already are not sent again, and
    where nothing differs there is no commit.

    Args:
        repository: What to upload.
        repo_id: Where to, OWNER/NAME.
        private: Whether a repository that is made is to be private.
        revision: The branch.
        message: Of the commit.
        delete: Whether what the repository holds beside the folder's files goes.
        verify: Whether everything is fetched again and its bytes compared, beside the digests that the Hub tells.
        patience: How long to go on where the Hub is busy or the connection bad.
        say: Is told, in a line, what is waited for.
        token: To upload with; the one that huggingface_hub finds by default.
        description: Of the commit.

    Raises:
        UserError: If names are wrong, there is no token, the Hub refuses, patience ends, or what arrived is not what
            was sent.
    """
    check_repo_id(repo_id), check_branch(revision)
    token, patience = check_token(token), patience or Patience()
    api, watch, attempts = HfApi(token=token), Watch(patience.timeout), _Attempts()

    def tell(line: str) -> None:
        say(without(line, token))

    def step() -> Published:
        found = _ready(api, repository, repo_id, private, revision, attempts)
        return _commit(api, repository, repo_id, revision, _Said(message, description), delete, found, attempts, tell)

    try:
        published = persist(step, patience, watch, tell)
        watch.published = published.commit
        persist(lambda: _check_arrived(api, repository, repo_id, published), patience, watch, tell)
        if verify:
            persist(lambda: _fetch_again(api, repository, repo_id, published), patience, watch, tell)
    except Exception as error:
        found = safe(error, repo_id, token)
        if found is error:
            raise
        raise found from None  # what it came from may repeat the token
    return published


def _ready(
    api: HfApi, repository: Repository, repo_id: str, private: bool, revision: str, attempts: _Attempts
) -> Comparison:
    """Makes repository and branch where they are missing, and compares.

    Raises:
        UserError: If the repository is public and was to be private, or the token may not see it.
    """
    found = look_up(api, repository, repo_id, revision)
    if found.exists and private and not found.private and not attempts.created:
        raise UserError(
            f"{repo_id} exists and is public, so --private would be no use: change its visibility in its settings "
            "on the Hub, or leave --private out."
        )
    if not found.exists:
        attempts.created = True
        try:
            api.create_repo(repo_id, private=private or None)  # None leaves it to the owner's own default
        except HfHubHTTPError as error:
            if error.response.status_code == CONFLICTS[0]:
                raise UserError(f"{repo_id} exists, but the token may not see it: take another token.") from error
            raise
    if found.head is None and revision != MAIN and not revision.startswith("refs/"):
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    if found.head is None:
        found = look_up(api, repository, repo_id, revision)
    attempts.first = attempts.first or found
    return found


def _commit(
    api: HfApi,
    repository: Repository,
    repo_id: str,
    revision: str,
    said: _Said,
    delete: bool,
    found: Comparison,
    attempts: _Attempts,
    say: Callable[[str], None],
) -> Published:
    """Sends what differs.

    Raises:
        UserError: If files of another model would be read with this one, or somebody else made a commit between two
            attempts.
    """
    deleted, first = found.only_there if delete else (), attempts.first or found
    mixed = [path for path in READ_IF_THERE if path in found.only_there]
    if mixed and not delete:
        raise UserError(
            f"{repo_id} holds {', '.join(mixed)}, which {repository.name} does not have and which would be loaded with "
            "it: give --delete to take away what is not of this model."
        )
    if not found.different and not deleted and found.head is not None:
        url = f"{api.endpoint}/{repo_id}/tree/{found.head}"
        return Published(found.head, url, first, first.only_there if delete else (), attempts.sent)
    if found.head != first.head:
        raise UserError(f"{repo_id} was changed by somebody else meanwhile: look at what is there, then push again.")

    def operations() -> list[CommitOperationAdd | CommitOperationDelete]:
        adding = [CommitOperationAdd(path, repository.folder / path) for path in found.different]
        return [*adding, *map(CommitOperationDelete, deleted)]

    def send() -> Any:
        attempts.sent = True
        described = f"sending {repository.size / 1e6:.1f} MB to {repo_id}"
        with progress_bar(described, total=None):
            return api.create_commit(
                repo_id,
                operations(),
                commit_message=said.message or f"Upload {repository.name} with visual-sentence",
                commit_description=said.description,
                revision=revision,
                parent_commit=found.head,
            )

    try:
        done = send()
    except Exception as error:
        if constants.HF_HUB_DISABLE_XET or not _is_of_xet(error):
            raise
        say(f"The Hub's xet storage failed ({' '.join(str(error).split())[:120]}): sending the files as git-LFS")
        with _without_xet():
            done = send()
    return Published(done.oid, done.commit_url, first, deleted, True)


def _is_of_xet(error: Exception) -> bool:
    """Whether an error came out of hf_xet, which raises Python's own kinds only."""
    if find_spec("hf_xet") is None or error.__cause__ is not None or interruption(error) is not None:
        return False
    of_the_client = (HfHubHTTPError, OfflineModeIsEnabled)
    return isinstance(error, (ConnectionError, RuntimeError, PermissionError)) and not isinstance(error, of_the_client)


@contextmanager
def _without_xet() -> Generator[None, None, None]:
    before = constants.HF_HUB_DISABLE_XET
    constants.HF_HUB_DISABLE_XET = True
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = before


def _check_arrived(api: HfApi, repository: Repository, repo_id: str, published: Published) -> None:
    """Compares the Hub's digests of a commit with ours.

    Raises:
        UserError: If they differ.
    """
    there = look_up(api, repository, repo_id, published.commit)
    _refuse_others(there.different, repo_id, published)


def _fetch_again(api: HfApi, repository: Repository, repo_id: str, published: Published) -> None:
    """Fetches every file of a commit and compares its bytes with ours.

    Raises:
        UserError: If they differ.
    """
    with progress_bar(f"fetching {repo_id} again", len(repository.files)) as bar:
        for file in repository.files:
            with tempfile.TemporaryDirectory() as place:
                path = api.hf_hub_download(repo_id, file.path, revision=published.commit, local_dir=place)
                if digest(Path(path)) != file.sha256:
                    _refuse_others([file.path], repo_id, published)
            bar.advance()


def _refuse_others(different: Sequence[str], repo_id: str, published: Published) -> None:
    if not different:
        return
    before = published.comparison.head
    safe = f"; the commit before it, {before}, is whole" if before and published.is_new_commit else ""
    raise UserError(
        f"{repo_id} gives other bytes than were sent of {', '.join(different[:3])} at commit {published.commit} (their "
        f"digests differ){safe}: push again, and load no commit whose digests differ."
    )


__all__ = ["Published", "check_branch", "check_repo_id", "check_token", "publish"]
