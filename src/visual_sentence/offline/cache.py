"""Where the converted offline models lie, and that each is converted once."""

import hashlib
import os
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from filelock import FileLock

from ..errors import UserError
from ..progress import progress_bar
from .packages import IMAGE_CLASSIFIER, LANGUAGE_MODEL, SENTENCE_ENCODER

HOME_VARIABLE = "VISUAL_SENTENCE_HOME"
# The words that ship with the package, and their places in the offline encoder's space.
CODEBOOK = files("visual_sentence.hub_configs") / "v2l-offline"
# Raise this whenever a converted folder would come out different.
FORMAT = 1
KINDS = ("language-model", "encoder", "v2l")


def cache_folder() -> Path:
    """The folder of everything converted: `$VISUAL_SENTENCE_HOME`, else `visual-sentence` in the user's cache."""
    if HOME_VARIABLE in os.environ:
        return Path(os.environ[HOME_VARIABLE]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "visual-sentence"


def fingerprint(kind: str) -> str:
    """Changes when what a kind of model is made of changes.

    Args:
        kind: One of `KINDS`.
    """
    sources = {
        "language-model": [LANGUAGE_MODEL.sha256],
        "encoder": [IMAGE_CLASSIFIER.sha256, SENTENCE_ENCODER.sha256],
        "v2l": [IMAGE_CLASSIFIER.sha256, SENTENCE_ENCODER.sha256, (CODEBOOK / "codebook.json").read_text("utf-8")],
    }
    content = "|".join([str(FORMAT), *sources[kind]])
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def model_folder(kind: str) -> Path:
    """Where the converted model of a kind lies, or will lie."""
    return cache_folder() / f"offline-{kind}-{fingerprint(kind)}"


def offline_folder(kind: str) -> Path:
    """The folder of an offline model, converted on first use.

    Args:
        kind: One of `KINDS`.

    Returns:
        A folder that `from_pretrained` takes.

    Raises:
        UserError: If the packages are not installed or the cache cannot be written.
    """
    target = model_folder(kind)
    if target.is_dir():
        return target
    from .convert import CONVERTERS  # needs torch and transformers, a finished folder does not

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not target.is_dir():
                with progress_bar(f"converting the offline {kind} (once)", total=None):
                    _convert(CONVERTERS[kind], target)
    except OSError as error:
        raise UserError(
            f"The offline models cannot be kept in {target.parent} ({error.strerror or error}): "
            f"set {HOME_VARIABLE} to a folder with about 500 MB to spare."
        ) from error
    return target


def _convert(convert: Callable[[Path], None], target: Path) -> None:
    """Converts beside the target and renames, so that a stop half-way leaves nothing that looks finished."""
    unfinished = target.with_name(f"{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    convert(unfinished)
    unfinished.rename(target)
