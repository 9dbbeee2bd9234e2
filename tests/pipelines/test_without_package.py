"""Pipelines that came with a model, run by a fresh interpreter that cannot import the package."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from visual_sentence import load_language_model
from visual_sentence.modeling import V2LImageProcessor
from visual_sentence.pipelines import VisualFewShotClassificationPipeline

from ..modeling.conftest import make_local_v2l, make_vqgan  # noqa: F401  (fixtures)
from ..modeling.test_hub_round_trip import endpoint  # noqa: F401  (fixture)

WITHOUT_PACKAGE = """
import importlib.abc, json, sys

class NoPackage(importlib.abc.MetaPathFinder):  # as on a machine where it is not installed
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "visual_sentence":
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, NoPackage())
from PIL import Image
from transformers import pipeline

model, language_model, saved = sys.argv[1:]
settings = {"model": model, "trust_remote_code": True, "device": "cpu"}
teal, gold = Image.new("RGB", (50, 40), "teal"), Image.new("RGB", (50, 40), "gold")
result = {}
classify = pipeline("visual-few-shot-classification", language_model=language_model, **settings)
support = {"sea": [teal], "sun": [gold]}
result["answers"] = classify([teal, "missing.png", gold], support=support, batch_size=2, on_error="report")
try:
    pipeline("visual-few-shot-classification", language_model="offline", **settings)(teal, support=support)
except ValueError as error:
    result["offline"] = [type(error).__name__, str(error)]
classify.save_pretrained(saved)
print(json.dumps(result))
"""


def run_without_package(model: str, language_model: str, saved: str, tmp_path: Path, **environment: str) -> dict:
    """What the script prints in a fresh interpreter, away from the repository."""
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_PACKAGE, model, language_model, saved],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), **environment},
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.strip().splitlines()[-1])


def expected_answers(model, processor, llm_folder) -> list:
    """What the installed package says to the script's few-shot question."""
    language_model = load_language_model(str(llm_folder), device="cpu")
    classify = VisualFewShotClassificationPipeline(
        model, image_processor=processor, language_model=language_model, device="cpu"
    )
    teal, gold = Image.new("RGB", (50, 40), "teal"), Image.new("RGB", (50, 40), "gold")
    return classify([teal, gold], support={"sea": [teal], "sun": [gold]})


def check_answers(found: list, expected: list) -> None:
    assert "no such file" in found[1]["error"]
    for answer, wanted in zip((found[0], found[2]), expected, strict=True):
        scores = [{row["label"]: row["score"] for row in rows} for rows in (answer, wanted)]
        assert scores[0] == pytest.approx(scores[1], abs=0.02)  # bfloat16 may be chosen on one side only


@pytest.mark.slow
def test_classification_comes_with_the_model_and_can_be_saved_again(make_v2l, llm_folder, tmp_path):
    model, processor = make_v2l(), V2LImageProcessor(global_size=32)
    folder, again = tmp_path / "model", tmp_path / "again"
    VisualFewShotClassificationPipeline(model, image_processor=processor).save_pretrained(folder)
    result = run_without_package(str(folder), str(llm_folder), str(again), tmp_path)
    check_answers(result["answers"], expected_answers(model, processor, llm_folder))
    kind, line = result["offline"]
    assert kind == "UserError" and line.startswith("'offline' needs the visual-sentence package")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in again.iterdir()
    }


@pytest.mark.slow
@pytest.mark.offline_stack
def test_the_example_of_the_docs_runs_as_pasted(offline_models, tmp_path):
    page = (Path(__file__).resolve().parents[2] / "docs" / "pipelines.md").read_text(encoding="utf-8")
    (example,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "add_pipelines" in block]
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")}
    done = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "'label': 'motorcycle'" in done.stdout.split("}")[0]
