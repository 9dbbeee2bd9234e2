"""Cards of the models that ship: valid for the Hub, with measured numbers, and a beginning that works as pasted."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard
from PIL import Image

HUB_CONFIGS = Path(__file__).resolve().parents[1] / "hub_configs"
SHIPPED = sorted(path.parent.name for path in HUB_CONFIGS.glob("*/model.safetensors"))
MOST_BYTES = 80_000_000


def test_all_weights_together_are_small():
    files = list(HUB_CONFIGS.rglob("*.safetensors"))
    assert SHIPPED and sum(file.stat().st_size for file in files) < MOST_BYTES


@pytest.mark.parametrize("name", SHIPPED)
def test_card_is_valid_and_says_what_was_measured(name):
    card = ModelCard.load(HUB_CONFIGS / name / "README.md")
    data = card.data.to_dict()
    assert data["library_name"] == "transformers" and data["license"] and data["pipeline_tag"] and data["tags"]
    results = card.data.eval_results
    assert results and card.data.model_name == name
    assert all(isinstance(one.metric_value, float) and one.dataset_split for one in results)
    text = card.text
    for title in ("## Intended use", "## Limits", "## Data and terms", "## Training", "## Measured", "## Citation"):
        assert f"\n{title}\n" in text, title
    for number in (f"{one.metric_value:.3f}" if one.metric_value < 1 else f"{one.metric_value:.2f}" for one in results):
        assert number in text, f"{number} of the metadata is in no table"
    for link in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (HUB_CONFIGS / name / link).exists(), link


@pytest.mark.parametrize("name", SHIPPED)
def test_the_first_lines_work_as_pasted(name, tmp_path):
    snippet = re.search(r"```python\n(.*?)```", ModelCard.load(HUB_CONFIGS / name / "README.md").text, re.DOTALL)[1]
    assert len([line for line in snippet.splitlines() if line.strip() and "import" not in line]) <= 3
    generator = np.random.default_rng(0)
    for wanted in re.findall(r'"([\w-]+\.(?:png|jpg))"', snippet):
        values = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        if "mask" in wanted:
            values = (values[..., :1] > 127).repeat(3, -1).astype(np.uint8) * 255
        Image.fromarray(values).resize((64, 64), Image.Resampling.NEAREST).save(tmp_path / wanted)
    done = subprocess.run([sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
