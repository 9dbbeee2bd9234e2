"""Long steps that survive an interruption: numbered array files, each complete or absent, guarded by
settings.

Knows nothing of codebooks. A step cuts its work into chunks in an order that does not change from run to run,
appends the result of each chunk, and on a rerun goes on behind the last one.
"""

import hashlib
import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError

SETTINGS_FILE = "settings.json"
FINISHED_FILE = "finished"


@contextmanager
def replacing(path: Path) -> Generator[Path, None, None]:
    """Lets a file appear whole or not at all: yields a path beside `path`, renamed to it when the block ends.

    Args:
        path: The file to write.

    Yields:
        Where to write. It ends like `path`, because `numpy.save` adds a missing `.npy`.
    """
    aside = path.with_name(f".{path.name}")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def digest(value: Any) -> str:
    """The sha256 of `value` written as JSON, in hexadecimal."""
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()


class ChunkFolder:
    """The results of one step, as `chunk_00000.npy`, `chunk_00001.npy`, ... in one folder.

    Args:
        folder: Where the chunks lie; made if it does not exist.
        settings: Everything that the results depend on, as JSON values.

    Raises:
        UserError: The folder holds the results of other settings.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        # Through JSON, so that tuples compare equal to the lists that come back from the file.
        self._check_settings(json.loads(json.dumps(settings)))

    def _check_settings(self, settings: dict[str, Any]) -> None:
        path = self.folder / SETTINGS_FILE
        if not path.exists():
            with replacing(path) as aside:
                aside.write_text(json.dumps(settings, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            return
        found = json.loads(path.read_text(encoding="utf-8"))
        different = [
            f"{key} was {_shortened(found.get(key))} and is now {_shortened(settings.get(key))}"
            for key in sorted({*found, *settings})
            if found.get(key) != settings.get(key)
        ]
        if different:
            raise UserError(
                f"{self.folder} holds results of other settings ({'; '.join(different)}), which must not "
                "be mixed with new ones. Delete that folder or give another output folder."
            )

    def __len__(self) -> int:
        """How many chunks are complete."""
        return len(self._paths())

    def __iter__(self) -> Iterator[np.ndarray]:
        """The chunks in order, each mapped from disk."""
        return (np.load(path, mmap_mode="r") for path in self._paths())

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("chunk_*.npy"))

    @property
    def rows(self) -> int:
        """The first dimensions of all complete chunks, added up."""
        return sum(len(chunk) for chunk in self)

    def append(self, chunk: np.ndarray) -> None:
        """Writes the next chunk."""
        with replacing(self.folder / f"chunk_{len(self):05d}.npy") as aside:
            np.save(aside, chunk)

    @property
    def finished(self) -> bool:
        """Whether `finish` was called, for steps that do not know beforehand how many chunks there will
        be."""
        return (self.folder / FINISHED_FILE).exists()

    def finish(self) -> None:
        """Notes that no further chunk will come."""
        (self.folder / FINISHED_FILE).touch()


def _shortened(value: Any, longest: int = 60) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def package_version() -> str:
    """This package's version, for the record of what was built."""
    try:
        return version("visual-sentence")
    except PackageNotFoundError:
        # Run from a source tree that was not installed.
        return "unknown"
