"""A folder in which every finished piece of work is kept, so that a run that was stopped goes on where it was.

A piece is a trained model, a file of pictures or a table's row. It is filed under its name with the settings that it
depends on, and taken from there as long as these are the same.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..codebook.steps import digest, replacing
from ..errors import UserError

LOCK = ".running"


class NotRunnableError(Exception):
    """A cell that cannot be filled here; the message says what it needs."""


class UnpublishedError(NotRunnableError):
    """A cell that cannot be filled anywhere, as nobody published what it needs."""


class Workspace:
    """The folder.

    Args:
        folder: Made if it does not exist.
        say: Told of every piece that is begun, in one line.

    Raises:
        UserError: If it cannot be made.
    """

    def __init__(self, folder: str | Path, say: Callable[[str], None]):
        self.folder, self.say = Path(folder).expanduser(), say
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder} cannot be written to ({error.strerror}): give another --output.") from error

    def made(self, name: str, settings: dict[str, Any], make: Callable[[Path], None]) -> Path:
        """A folder with the result of a longer piece of work, made now or before.

        Args:
            name: Of the piece.
            settings: All that it depends on, as JSON values.
            make: Does the work in a folder, which may hold what an interrupted run left.

        Raises:
            UserError: If another process is at it.
        """
        folder = self.folder / "made" / f"{name}-{digest(settings)[:10]}"
        done = folder / "done.json"
        if done.is_file():
            return folder
        folder.mkdir(parents=True, exist_ok=True)
        with self._alone(folder):
            if not done.is_file():
                self.say(f"making {name}")
                start = time.perf_counter()
                make(folder)
                record = {"name": name, "settings": settings, "seconds": round(time.perf_counter() - start, 1)}
                write_json(done, record)
        return folder

    def measured(self, table: str, row: str, settings: dict[str, Any], measure: Callable[[], dict]) -> dict[str, Any]:
        """A row's record, measured now or before.

        Args:
            table: The table's name.
            row: The row's key.
            settings: All that its numbers depend on.
            measure: Gives the numbers.
        """
        filed = self.filed(table, row, settings)
        if filed is not None:
            return filed
        path = self._path(table, row)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.say(f"measuring {table}: {row}")
        start = time.perf_counter()
        record = {"digest": digest(settings), "settings": settings, "cells": measure()}
        record |= {"seconds": round(time.perf_counter() - start, 1), "commit": commit()}
        write_json(path, record)
        return record

    def filed(self, table: str, row: str, settings: dict[str, Any]) -> dict[str, Any] | None:
        """A row's record where it was measured before with these settings; else None.

        Args:
            table: The table's name.
            row: The row's key.
            settings: All that its numbers depend on.
        """
        path = self._path(table, row)
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return found if found.get("digest") == digest(settings) else None

    def _path(self, table: str, row: str) -> Path:
        return self.folder / "cells" / table / f"{row}.json"

    @contextmanager
    def _alone(self, folder: Path) -> Generator[None, None, None]:
        """Keeps other processes away from a folder; what a process left that is no more does not count."""
        lock = folder / LOCK
        try:
            descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            owner = lock.read_text(encoding="utf-8").strip()
            if owner.isdigit() and _is_alive(int(owner)):
                raise UserError(
                    f"Process {owner} is at work in {folder}, and two would spoil each other's: wait for it, or give "
                    "another --output."
                ) from None
            lock.unlink(missing_ok=True)
            descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        with os.fdopen(descriptor, "w") as file:
            file.write(str(os.getpid()))
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def require_last_step(stopped_by: str) -> None:
    """Ends the run where a training ended before its last step, so that it is gone on with and not taken as it is.

    Args:
        stopped_by: What its report says: "steps", or the name of the signal that it listened for.

    Raises:
        KeyboardInterrupt: If it was a signal.
    """
    if stopped_by != "steps":
        raise KeyboardInterrupt


def write_json(path: Path, value: Any) -> None:
    """Writes a file, whole or not at all."""
    with replacing(path) as aside:
        aside.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def commit() -> str:
    """The commit that the code is of, with "+" behind it where files were changed; "unknown" outside of a clone."""
    here = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=7", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


__all__ = ["NotRunnableError", "UnpublishedError", "Workspace", "commit", "require_last_step", "write_json"]
