"""The Space is the same page: what it installs, what it runs, and what the Hub reads of it."""

import runpy
from pathlib import Path

import gradio
import pytest
import yaml
from packaging.requirements import Requirement

import visual_sentence.app
import visual_sentence.offline
from visual_sentence.offline.packages import OfflinePackage

SPACE = Path(__file__).resolve().parents[2] / "hub_configs" / "space"


@pytest.mark.parametrize("installed", [True, False])
def test_it_serves_the_page_where_the_hub_looks_for_it(monkeypatch, installed):
    asked, fetched = {}, []
    monkeypatch.setattr(visual_sentence.app, "launch_app", lambda **arguments: asked.update(arguments))
    monkeypatch.setattr(visual_sentence.offline, "install_packages", lambda: fetched.append(True))
    monkeypatch.setattr(OfflinePackage, "is_installed", property(lambda package: installed))
    monkeypatch.delenv("GRADIO_SERVER_PORT", raising=False)
    runpy.run_path(str(SPACE / "app.py"))
    assert asked == {"host": "0.0.0.0", "port": 7860, "say": print}
    assert bool(fetched) != installed


def test_it_installs_the_package():
    (wanted,) = map(Requirement, (SPACE / "requirements.txt").read_text(encoding="utf-8").splitlines())
    assert (wanted.name, wanted.extras) == ("visual-sentence", {"app"})


def test_its_head_is_what_the_hub_takes():
    _, head, text = (SPACE / "README.md").read_text(encoding="utf-8").split("---", 2)
    fields = yaml.safe_load(head)
    assert fields["sdk"] == "gradio" and fields["app_file"] == "app.py"
    assert fields["sdk_version"].partition(".")[0] == gradio.__version__.partition(".")[0]
    assert len(fields["short_description"]) <= 80 and text.strip()


@pytest.mark.parametrize("name", ["app.py", "requirements.txt", "README.md"])
def test_nothing_else_is_needed(name):
    assert (SPACE / name).is_file()
