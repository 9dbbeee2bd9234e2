"""Where a conversion starts and ends: finding a source's folder, and a result that appears whole or not at all."""

import os
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import snapshot_download
from safetensors import SafetensorError

from ..errors import UserError
from ..references import LOADING_ERRORS, resolve, unreachable


def locate(reference: str, from_hub: Sequence[str] = ()) -> Path:
    """The file or folder that a source is in.

    Args:
        reference: A path, or a Hub id for sources that live there.
        from_hub: The files that are fetched of a Hub id, as far as it has them; none for sources that are local only.

    Raises:
        UserError: If there is nothing.
    """
    path = Path(reference).expanduser()
    if path.exists():
        return path
    if not from_hub:
        raise UserError(f"{reference}: found nothing there, but this source is a file or folder: check the path.")
    resolve(reference, "v2l")  # complains of what looks like a path
    try:
        return Path(snapshot_download(reference, allow_patterns=list(from_hub)))
    except LOADING_ERRORS as error:
        raise unreachable(reference, error) from error


def check_output(output: Path) -> None:
    """Refuses a place where something is already.

    Raises:
        UserError: If there is a file or a folder that is not empty.
    """
    if output.is_dir() and not any(output.iterdir()):
        return
    if output.exists() or output.is_symlink():
        found = "a folder that is not empty" if output.is_dir() else "a file"
        raise UserError(f"{output} is {found}, and nothing is overwritten: give another place for the result.")


@contextmanager
def new_folder(output: Path) -> Generator[Path, None, None]:
    """Yields a folder beside `output` that takes its place when the block ends, and vanishes if the block fails.

    Args:
        output: Must not exist, or be empty.

    Raises:
        UserError: If it is neither, or cannot be written.
    """
    check_output(output)
    target = output.absolute()
    aside = target.with_name(f".{target.name}.{os.getpid()}.unfinished")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside.mkdir()
    except OSError as error:
        raise UserError(f"{output} cannot be written ({error.strerror or error}): give another place.") from error
    try:
        yield aside
        if target.is_dir():
            target.rmdir()  # empty, or it was filled meanwhile and this fails
        aside.rename(target)
    except (OSError, SafetensorError) as error:  # the latter for a full disk under the weights
        said = getattr(error, "strerror", None) or error
        raise UserError(f"{output} could not be written ({said}): nothing was left there.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


__all__ = ["check_output", "locate", "new_folder"]
