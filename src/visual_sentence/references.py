"""References: how a user names a model, and how a name becomes a folder.

A reference is a folder, a Hub id, "offline" for a model made of installed packages, or "default" for one that ships
with this package. Behind `resolve` nothing knows which of them it was.
"""

from pathlib import Path
from pickle import UnpicklingError

from safetensors import SafetensorError
from transformers import AutoConfig, PretrainedConfig

from .errors import UnreachableError, UserError
from .progress import progress_bar
from .shipped import DEFAULT, shipped_model

OFFLINE = "offline"
# What the libraries raise for models that are absent, damaged or of another shape than their configuration says.
LOADING_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    AssertionError,
    LookupError,
    EOFError,
    SafetensorError,
    UnpicklingError,
)


def resolve(reference: str, kind: str) -> str:
    """Turns a reference into what `from_pretrained` takes.

    Args:
        reference: "offline", "default", a folder or a Hub id.
        kind: What is wanted of "offline": "language-model", "encoder" or "v2l"; of "default": "v2l" or "simlvm".

    Returns:
        The offline or shipped model's folder, or the reference itself.

    Raises:
        UserError: If the offline packages are not installed, no such model ships, or a path that is given does not
            exist.
    """
    if reference == DEFAULT:
        return str(shipped_model(kind))
    if reference == OFFLINE:
        from .offline import offline_folder  # reads nothing from disk unless it is asked for

        return str(offline_folder(kind))
    looks_like_path = reference.startswith((".", "/", "~")) or reference.count("/") > 1
    path = Path(reference).expanduser()
    if path.is_dir():
        return str(path)
    if looks_like_path or path.is_file():
        found = "a file" if path.is_file() else "nothing"
        raise UserError(
            f"{reference}: found {found} there, but a model is a folder with a config.json: check the path."
        )
    return reference


def load_config(reference: str, folder: str) -> PretrainedConfig:
    """Reads a model's configuration, which tells what kind of model it is.

    Args:
        reference: What the user wrote, for the message.
        folder: What `resolve` made of it.

    Raises:
        UnreachableError: If there is no such model, or it cannot be reached.
    """
    try:
        with progress_bar(
            f"looking for {reference}", total=None
        ):  # without a network the Hub is asked for half a minute
            return AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise unreachable(reference, error) from error


def unreachable(reference: str, error: Exception) -> UnreachableError:
    """The error for a model that did not load: what was tried, what the library said, what to do."""
    said = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
    if Path(reference).expanduser().is_dir():
        return UnreachableError(reference, f"{reference} is a folder, but not a model that can be loaded ({said}).")
    return UnreachableError(
        reference,
        f"{reference} is neither a local folder nor a model that the Hub gave ({said}): check the spelling and the "
        "network, or use 'offline'.",
    )
