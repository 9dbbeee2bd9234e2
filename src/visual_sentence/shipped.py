"""The trained models that ship with the package, by kind."""

from importlib.resources import files
from pathlib import Path

from .errors import UserError

DEFAULT = "default"
SHIPPED = {"simlvm": "simlvm-small", "v2l": "v2l-small"}
WEIGHTS = ("*.safetensors", "*.bin")


def shipped_folder(kind: str) -> Path:
    """Where the model of a kind that ships with the package lies.

    Args:
        kind: One of `SHIPPED`.
    """
    return preset_folder(SHIPPED[kind])


def preset_folder(name: str) -> Path:
    """Where a folder of hub_configs/ lies, of which some hold weights and all a configuration.

    Args:
        name: Its name.
    """
    return Path(str(files("visual_sentence.hub_configs") / name))


def shipped_model(kind: str) -> Path:
    """The folder of the model of a kind that ships with the package.

    Args:
        kind: One of `SHIPPED`.

    Raises:
        UserError: If there is none of this kind, the package is not installed, or it is without its weights.
    """
    if kind not in SHIPPED:
        raise UserError(f"No {kind} ships with visual-sentence, so there is no {DEFAULT!r}: name a folder or a Hub id.")
    try:
        folder = shipped_folder(kind)
    except ModuleNotFoundError as error:
        raise UserError(
            "The model that ships with visual-sentence is not here, as the package is not installed: install it, or "
            "name a folder or a Hub id."
        ) from error
    if not has_weights(folder):
        raise UserError(
            f"The model that ships with the package has no weights in {folder}: install the package anew, or name a "
            "folder or a Hub id."
        )
    return folder


def has_weights(folder: Path) -> bool:
    """Whether a folder holds weights."""
    return any(True for pattern in WEIGHTS for _ in folder.glob(pattern))
