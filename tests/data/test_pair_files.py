"""scripts/build_pairs.py: what is in its files."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import load_dataset

from visual_sentence.data import SentenceMaker, open_examples, parse_task_data

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "build_pairs.py"
SPECS = ["segmentation:shapes[:3]", "denoising:shapes[:3]?draws=2&sigma=40"]


@pytest.fixture
def build(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("build_pairs", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    def run(*options: str, data=SPECS) -> Path:
        output = tmp_path / "out.parquet"
        monkeypatch.setattr(sys, "argv", ["build_pairs.py", "--data", *data, "--output", str(output), *options])
        assert script.main() == 0
        assert [path.name for path in tmp_path.glob("*parquet*")] + [*tmp_path.glob(".*")] == ["out.parquet"]
        return output

    run.script = script
    return run


def rows(path: Path):
    return load_dataset("parquet", data_files=str(path), split="train")


def test_pairs_are_the_makers(build):
    table = rows(build("--size", "32", "--seed", "5"))
    assert len(table) == 9
    assert table["task"] == ["segmentation"] * 3 + ["denoising"] * 6
    assert table["setting"] == ["data=shapes"] * 3 + [""] * 6
    maker = SentenceMaker(parse_task_data(SPECS[1]), None, 5, 32)
    for index in range(6):
        pair = maker.pair(index)
        assert table[3 + index]["input"].tobytes() == pair.input.tobytes()
        assert table[3 + index]["target"].tobytes() == pair.target.tobytes()
        assert table[3 + index]["source"] == pair.source


def test_pairs_can_be_opened_again(build):
    path = build("--limit", "2")
    source = open_examples(str(path))
    assert len(source) == 4 and source[0].source == "shapes-0-0"
    pair = parse_task_data(f"pairs:{path}").task.pair(source[0], np.random.default_rng(0))
    assert set(np.unique(np.asarray(pair.target))) == {0, 255}


def test_pictures_are_there_once(build):
    path = build("--columns", "pictures", data=[*SPECS, "colourisation:shapes[:3]"])
    pictures = rows(path)["image"]
    contents = [picture.tobytes() for picture in pictures]
    # three clean ones, shared by all tasks; three masks, six noisy and three grey ones
    assert len(contents) == 15 == len(set(contents))
    assert {picture.size for picture in pictures} == {(64, 64)}


def test_augmentation_changes_pictures(build):
    plain, augmented = (rows(build(option))["target"] for option in ("--no-augment", "--augment"))
    assert sum(one.tobytes() != other.tobytes() for one, other in zip(plain, augmented, strict=True)) >= 8


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--size", "2"], "size of 2"),
        (["--limit", "0"], "limit of 0"),
        (["--data", "denoising:none.parquet"], "no such"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(build, options, says, capsys, tmp_path, monkeypatch):
    command = ["build_pairs.py", "--data", *SPECS, "--output", str(tmp_path / "x.parquet"), *options]
    monkeypatch.setattr(sys, "argv", command)
    assert build.script.main() == 2
    assert says in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []


def test_a_failure_on_the_way_leaves_nothing(build, tmp_path, monkeypatch, capsys):
    data = ["denoising:shapes[:2]", "segmentation:shapes[:2]?foreground=9"]
    monkeypatch.setattr(sys, "argv", ["x", "--data", *data, "--output", str(tmp_path / "x.parquet")])
    assert build.script.main() == 2 and [*tmp_path.iterdir()] == []
    assert "None of the 2 examples" in capsys.readouterr().err
