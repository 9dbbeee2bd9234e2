"""The folder that results are written into: nothing is overwritten, and it is there whole or not at all."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ..data.shards import written_aside
from ..errors import UserError


def check_output(output: str | Path) -> Path:
    """Refuses a folder in which something is already.

    Args:
        output: The folder.

    Raises:
        UserError: If it is a file or holds anything.
    """
    folder = Path(output).expanduser()
    if folder.is_dir() and not any(folder.iterdir()):
        return folder
    if folder.exists() or folder.is_symlink():
        found = "a folder that is not empty" if folder.is_dir() else "a file"
        raise UserError(f"{folder} is {found}, and nothing is overwritten: give another place for the result.")
    return folder


@contextmanager
def new_folder(folder: Path) -> Generator[Path, None, None]:
    """Yields a folder beside `folder` that takes its place when the block ends, and vanishes if the block fails.

    Args:
        folder: What `check_output` gave.

    Raises:
        UserError: If it cannot be written.
    """
    with written_aside(folder.absolute()) as aside:
        aside.mkdir()
        yield aside
