"""Runs the real command inside the test's own process."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from visual_sentence_cli import main


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Args:
        status: Its exit status.
        out: What it wrote to standard output.
        err: What it wrote to standard error.
    """

    status: int
    out: str
    err: str

    def is_one_line(self, *parts: str) -> None:
        """Checks that a user's mistake was answered in one line that says all `parts`."""
        assert self.status == 2, self.err
        assert self.out == ""
        assert self.err.count("\n") == 1 and self.err.endswith("\n"), self.err
        assert "Traceback" not in self.err
        for part in parts:
            assert part in self.err, self.err


@pytest.fixture
def run(monkeypatch, capsys) -> Callable[..., Outcome]:
    """Runs `visual-sentence` with arguments."""
    # in a process of its own the command sets these before the libraries read them
    monkeypatch.setattr("transformers.utils.logging._tqdm_active", False)
    monkeypatch.setattr("datasets.utils._tqdm_active", False, raising=False)
    for name in ("transformers", "datasets"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.CRITICAL)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr("sys.argv", ["visual-sentence", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main()
        return Outcome(exit_info.value.code or 0, *capsys.readouterr())

    return call


@pytest.fixture
def run_apart() -> Callable[..., Outcome]:
    """Runs `visual-sentence` with arguments in a process of its own, as a user does.

    `first` is Python that runs before it, `environment` what is added to the environment.
    """

    def call(*arguments: object, first: str = "", **environment: str) -> Outcome:
        script = f"{first}\nfrom visual_sentence_cli import main; main()"
        command = [sys.executable, "-c", script, *map(str, arguments)]
        result = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
        return Outcome(result.returncode, result.stdout, result.stderr)

    return call
