"""The recipes of the models that ship: what they read, and that what quality is measured on is not among it."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from visual_sentence.data import parse_task_data

ROOT = Path(__file__).resolve().parents[2]
RECIPES = {"train_default_simlvm.sh": 50, "train_default_v2l.sh": 5}  # and how much each reads at least
PHOTOS = "imagenet-sample-1000/imagenet-sample-1000.parquet"
# all that may be trained on; nothing of a validation or a test split, nothing of MoNuSeg
TRAINING = {"camvid/train.parquet", "nuclei/dsb-he-train.parquet", "tiny-imagenet/train.parquet", PHOTOS}
# the last photographs are measured on, and four others are, smaller, in Tiny-ImageNet's validation split
UNSEEN = {329, 349, 526, 720, *range(800, 1000)}


def run(recipe: str, *arguments: str) -> subprocess.CompletedProcess:
    script = ROOT / "scripts" / recipe
    environment = {**os.environ, "PYTHON": "/nonexistent"}  # whoever trains here fails at once
    return subprocess.run(
        ["bash", str(script), *arguments], capture_output=True, text=True, env=environment, timeout=60
    )


@pytest.fixture(scope="module", params=[(recipe, budget) for recipe in RECIPES for budget in ("cpu", "gpu")], ids=str)
def sources(request) -> list[str]:
    """What a recipe reads: TASK:SOURCE?options, or SOURCE."""
    recipe, budget = request.param
    found = run(recipe, "--budget", budget, "--list", "DATA")
    assert found.returncode == 0, found.stderr
    assert len(found.stdout.splitlines()) >= RECIPES[recipe]
    return found.stdout.splitlines()


def test_only_training_files_are_read(sources):
    named = {match[1] for line in sources for match in re.finditer(r"DATA/([^?\[\s]+)", line)}
    assert named <= TRAINING and PHOTOS in named
    assert len(sources) == sum("DATA/" in line or ":shapes[" in line for line in sources)


def test_photographs_that_are_measured_on_are_left_out(sources):
    rows = set()
    for line in sources:
        if PHOTOS in line:
            start, stop = re.fullmatch(r".*parquet\[(\d*):(\d+)\](\?.*)?", line).group(1, 2)
            rows.update(range(int(start or 0), int(stop)))
    assert len(rows) > 700 and not rows & UNSEEN


def test_drawn_shapes_that_are_measured_on_are_left_out(sources):
    ends = [int(match[1]) for line in sources if (match := re.search(r"shapes\[\d*:(\d+)\]", line))]
    assert max(ends, default=0) < 20_000  # docs/results.md measures on 20000 to 20200


def test_tasks_are_known_and_their_options_too(sources):
    # on drawn shapes, which need no files; options of tables are not theirs
    for line in sources:
        task, _, rest = line.partition(":")
        options = [part for part in rest.partition("?")[2].split("&") if part and part.split("=")[0] != "foreground"]
        if task.isidentifier():
            data = parse_task_data(f"{task}:shapes[:4]" + ("?" + "&".join(options) if options else ""))
            assert len(data.source) >= 4


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    "arguments", [(), ("DATA",), ("--budget",), ("--budget", "tpu", "DATA", "OUT"), ("--what", "DATA", "OUT")]
)
def test_wrong_use_is_told_and_trains_nothing(recipe, arguments, tmp_path):
    found = run(recipe, *(str(tmp_path / part) if part == "OUT" else part for part in arguments))
    assert found.returncode == 2 and found.stderr
    assert not list(tmp_path.iterdir())
