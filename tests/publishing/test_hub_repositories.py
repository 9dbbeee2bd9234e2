"""The repositories of the models that ship: complete, of known size, with cards that say how to pin what is loaded."""

import json
import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from visual_sentence.publishing import list_files
from visual_sentence.shipped import SHIPPED

ROOT = Path(__file__).resolve().parents[2]
HUB_CONFIGS = ROOT / "hub_configs"
# What each holds beside code: all of it, and nothing else.
HOLDS = {
    "v2l-small": {
        *("README.md", "curve.svg", "config.json", "model.safetensors", "processor_config.json"),
        *("codebook.json", "local_vocabulary.json"),
    },
    "simlvm-small": {
        *("README.md", "curve-first.svg", "curve-second.svg", "curve-vqgan.svg", "config.json", "model.safetensors"),
        *("processor_config.json", "generation_config.json"),
    },
}
CODE = {
    "v2l-small": {"modeling_v2l.py", "configuration_v2l.py", "processing_v2l.py", "pipelines_reconstruction.py"},
    "simlvm-small": {"modeling_simlvm.py", "modeling_vqgan.py", "processing_simlvm.py", "pipelines_visual_sentence.py"},
}
MOST_BYTES = {"v2l-small": 26_000_000, "simlvm-small": 22_000_000}
TITLES = ("## Intended use", "## Limits", "## Data and terms", "## Training", "## Measured", "## Citation")


def test_those_that_ship_are_built(built_repositories):
    assert {path.name for path in built_repositories.iterdir()} == set(SHIPPED.values()) == set(HOLDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", HOLDS)
def test_it_holds_what_it_should(built_repositories, name):
    files = {file.path: file for file in list_files(built_repositories / name)}
    assert {path for path in files if not path.endswith(".py")} == HOLDS[name]
    assert files.keys() >= CODE[name] and all("/" not in path for path in files)
    assert sum(file.size for file in files.values()) < MOST_BYTES[name]
    for path in HOLDS[name] - {"README.md", "config.json", "processor_config.json"}:
        assert (built_repositories / name / path).read_bytes() == (HUB_CONFIGS / name / path).read_bytes(), path


@pytest.mark.slow
@pytest.mark.parametrize("name", HOLDS)
def test_its_configuration_names_its_code(built_repositories, name):
    config = json.loads((built_repositories / name / "config.json").read_text())
    named = [*config["auto_map"].values(), *(entry["impl"] for entry in config["custom_pipelines"].values())]
    named += json.loads((built_repositories / name / "processor_config.json").read_text())["auto_map"].values()
    assert len(named) >= 4
    for place in named:
        module, _, found = place.partition(".")
        assert f"class {found}" in (built_repositories / name / f"{module}.py").read_text()
    own = json.loads((HUB_CONFIGS / name / "config.json").read_text())
    assert {key: value for key, value in config.items() if key not in ("auto_map", "custom_pipelines")} == own


@pytest.mark.slow
@pytest.mark.parametrize("name", HOLDS)
def test_its_card(built_repositories, name):
    card, own = (ModelCard.load(place / name / "README.md") for place in (built_repositories, HUB_CONFIGS))
    data = card.data.to_dict()
    assert data == own.data.to_dict() and data["library_name"] == "transformers" and data["pipeline_tag"]
    assert data["license"] and data["tags"] and card.data.model_name == name and card.data.eval_results
    assert all(f"\n{title}\n" in card.text for title in TITLES)
    for link in re.findall(r"\]\((?!http)([^)#]+)", card.text):
        assert (built_repositories / name / link).is_file(), link
    blocks = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        if f"me/{name}" in block:
            assert block.count("revision=REVISION") == block.count(f'"me/{name}"') == 3
        else:  # the installed package's own
            assert "import visual_sentence" in block and "pip install visual-sentence==" in card.text
    assert "put the hash of the commit that you read" in card.text


@pytest.mark.slow
def test_again_it_is_the_same(built_repositories, build_repositories, tmp_path, capsys):
    assert build_repositories("--output", tmp_path, "--owner", "me", "simlvm-small") == 0
    said = json.loads(capsys.readouterr().out)
    assert {path: file["sha256"] for path, file in said["files"].items()} == {
        file.path: file.sha256 for file in list_files(built_repositories / "simlvm-small")
    }
    assert said["pipelines"] == ["visual-sentence"] and said["notes"] == []


def test_mistakes_are_answered_in_one_line(build_repositories, tmp_path, capsys):
    (tmp_path / "v2l-small").mkdir()
    (tmp_path / "v2l-small" / "mine").touch()
    for name, said in (("v2l-small", "nothing is overwritten"), ("vqgan-small-64", "no weights"), ("none", "nothing")):
        assert build_repositories("--output", tmp_path, name) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and said in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["v2l-small"]
