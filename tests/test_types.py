"""The types of the package and the command, as scripts/check_types.py checks them."""

import subprocess
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "check_types.py"
pytestmark = pytest.mark.skipif(find_spec("pyrefly") is None, reason="needs pyrefly (visual-sentence[dev])")


@pytest.mark.slow
def test_types_are_right():
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, timeout=900)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_messages_name_the_files_of_the_repository(tmp_path, monkeypatch, capsys):
    spec = spec_from_file_location("check_types", SCRIPT)
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "ROOT", tmp_path)
    wrong = {
        "modeling/model.py": 'SIZE: int = "8"\n',
        "src/visual_sentence/size.py": "from .modeling.model import SIDE\n",
    }
    for name, text in wrong.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert script.main() == 1
    first, second = sorted(capsys.readouterr().out.splitlines())
    assert first.startswith("modeling/model.py:1: [bad-assignment] ")
    assert second.startswith("src/visual_sentence/size.py:1: [missing-module-attribute] ")
