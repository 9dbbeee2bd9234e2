"""From a model folder to a repository of the Hub: assembled, tried out, compared, and uploaded in one commit."""

from .assembly import Repository, RepositoryFile, assemble_repository, list_files
from .comparison import Comparison, compare
from .connection import Patience
from .in_memory import push_model
from .loading import check_loads
from .sources import Source, find_source
from .upload import Published, check_branch, check_repo_id, check_token, publish

__all__ = [
    "Comparison",
    "Patience",
    "Published",
    "Repository",
    "RepositoryFile",
    "Source",
    "assemble_repository",
    "check_branch",
    "check_loads",
    "check_repo_id",
    "check_token",
    "compare",
    "find_source",
    "list_files",
    "publish",
    "push_model",
]
