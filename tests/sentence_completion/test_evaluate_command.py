"""`visual-sentence evaluate completion` with a tiny model, on what the package generates and on tables."""

import json
import logging
from collections.abc import Callable

import numpy as np
import pytest
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from visual_sentence import UserError
from visual_sentence.sentence_completion.generation import mean_answer
from visual_sentence_cli import main

MEASURES = ("dice", "iou", "aji", "psnr", "ssim")
SMALL = ("--pairs", "1,3", "--queries", 4, "--prompt-sets", 2, "--device", "cpu", "--batch-size", 3)


@pytest.fixture
def run(simlvm_folder, monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """Runs the command with the tiny model: status, standard output, standard error."""
    # in a process of its own the command sets these before the libraries read them
    monkeypatch.setattr("transformers.utils.logging._tqdm_active", False)
    monkeypatch.setattr("datasets.utils._tqdm_active", False, raising=False)
    for name in ("transformers", "datasets"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.CRITICAL)

    def call(*arguments: object) -> tuple[int, str, str]:
        words = ("evaluate", "completion", "--model", simlvm_folder, *SMALL, *arguments)
        monkeypatch.setattr("sys.argv", ["visual-sentence", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main()
        return exit_info.value.code or 0, *capsys.readouterr()

    return call


@pytest.fixture
def table(tmp_path) -> str:
    """Twelve pictures of four source pictures, with label maps and masks, as a Parquet file."""
    generator = np.random.default_rng(0)
    rows: dict[str, list] = {"image": [], "mask": [], "label_map": [], "source_image": []}
    for place in range(12):
        labels = generator.integers(0, 3, (18, 24), dtype=np.uint8)
        rows["image"].append(Image.fromarray(generator.integers(0, 256, (18, 24, 3), dtype=np.uint8)))
        rows["mask"].append(Image.fromarray((labels == 2).astype(np.uint8) * 255))
        rows["label_map"].append(Image.fromarray(labels))
        rows["source_image"].append(f"slide {place % 4}")
    pictures = {name: ImageFeature() for name in ("image", "mask", "label_map")}
    data = Dataset.from_dict(rows, features=Features({**pictures, "source_image": Value("string")}))
    data.to_parquet(tmp_path / "table.parquet")
    return str(tmp_path / "table.parquet")


def test_one_object(run, simlvm_folder, table, tmp_path):
    sheet = tmp_path / "sheet.png"
    status, out, err = run(
        "--task", "segmentation", "--foreground", 2, "--data", table, "--instances", "--json", "--sheet", sheet
    )
    assert status == 0, err
    found = json.loads(out)
    assert found["model"] == str(simlvm_folder) and found["task"] == "segmentation"
    assert found["setting"]["data"] == f"segmentation:{table}?foreground=2" and found["setting"]["queries"] == 4
    assert [row["pairs"] for row in found["results"]] == [1, 3]
    for row in found["results"]:
        assert row["n"] == 4 and row["psnr"] is row["ssim"] is None
        for numbers in (row, *row["references"].values()):
            assert set(MEASURES) <= numbers.keys() and set(numbers["ci95"]) == set(MEASURES)
            for name in ("dice", "iou", "aji"):
                low, high = numbers["ci95"][name]
                assert 0 <= low <= numbers[name] <= high <= 1
    assert sheet.is_file()


@pytest.mark.parametrize(
    ("arguments", "task", "measured"),
    [
        (("--task", "segmentation", "--classes", "1,2"), "palette_segmentation", "dice"),
        (
            ("--task", "denoising", "--task-option", "sigma=50", "--size", "16", "--pairs-from", "shapes"),
            "denoising",
            "psnr",
        ),
    ],
)
def test_tasks(run, table, arguments, task, measured):
    status, out, err = run("--data", table, *arguments, "--json")
    assert status == 0, err
    found = json.loads(out)
    assert found["task"] == task
    for row in found["results"]:
        assert row[measured] is not None and row["references"]["copy_input"][measured] is not None


def test_table_and_whole_specification(run):
    status, out, err = run("--data", "brightness:shapes[:20]?size=32&factor=0.5")
    assert status == 0, err
    assert "brightness:shapes[:20]?size=32&factor=0.5: 4 queries of 4 pictures, 2 prompt sets, seed 0" in out
    rows = [line for line in out.splitlines() if line.startswith("| ")]
    assert rows[0] == "| pairs | | psnr | ssim |" and len(rows) == 1 + 2 * 5
    assert rows[1].startswith("| 1 | answer | ") and rows[-1].startswith("| 3 | tokenizer | ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "shapes"), "does not say which task: give --task"),
        (("--data", "denoising:shapes", "--pairs", "4"), "3 pairs fit before a query of this model, you asked for 4"),
        (("--data", "denoising:shapes", "--pairs", "one"), "no numbers of pairs"),
        (("--data", "segmentation:shapes[:3]"), "has 3 different source pictures, so 2 pairs fit"),
        (("--data", "nothing.parquet", "--task", "denoising"), "nothing.parquet"),
    ],
)
def test_mistakes_are_one_line(run, arguments, message):
    status, out, err = run(*arguments)
    assert status == 2 and out == "" and err.count("\n") == 1 and message in err, err


@pytest.mark.parametrize(
    ("candidates", "temperature", "expected"),
    [
        (None, None, {}),
        (1, None, {"do_sample": False}),
        (4, None, {"do_sample": True, "seed": 7, "num_candidates": 4, "average": True}),
        (4, 0.3, {"do_sample": True, "seed": 7, "num_candidates": 4, "average": True, "temperature": 0.3}),
        (None, 0, {"average": True}),
        (1, 0, {"average": True}),
    ],
)
def test_answers_that_are_means(candidates, temperature, expected):
    assert mean_answer(candidates, temperature, 7) == expected


@pytest.mark.parametrize(("candidates", "temperature"), [(4, 0), (None, 0.5), (1, 0.5)])
def test_a_temperature_of_draws_that_there_are_not(candidates, temperature):
    with pytest.raises(UserError, match=r"does not go with \d candidates"):
        mean_answer(candidates, temperature, 7)
