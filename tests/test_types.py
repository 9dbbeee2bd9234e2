"""The types of the package and the command, as scripts/check_types.py checks them."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("pyrefly") is None, reason="needs pyrefly (visual-sentence[dev])")
def test_types_are_right():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "check_types.py"], capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
