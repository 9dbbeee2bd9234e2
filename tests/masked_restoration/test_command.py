"""`restore-masked` and `evaluate masked-restoration` as they are typed."""

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from visual_sentence.errors import UserError
from visual_sentence.masked_restoration.command import tune_from_command_line
from visual_sentence_cli.main import app


@pytest.fixture
def options(codec_folder, llm_folder, picture_folder, tmp_path) -> list[str]:
    """Models and a tuned adapter, as options of both commands."""
    parts = ["--model", codec_folder, "--llm", llm_folder]
    tuning = [
        "--data",
        picture_folder,
        "--words",
        1,
        "--output",
        tmp_path / "tuned",
        "--max-steps",
        1,
        "--tracker",
        "none",
    ]
    assert tune_from_command_line("tunes", list(map(str, [*parts, *tuning]))) == 0
    return list(map(str, [*parts, "--adapter", tmp_path / "tuned/adapter", "--device", "cpu", "--dtype", "float32"]))


def run(*arguments: object) -> dict:
    result = CliRunner().invoke(app, list(map(str, [*arguments, "--json"])))
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


def test_pictures_are_written_side_by_side(options, picture_folder, tmp_path):
    paths = sorted(picture_folder.iterdir())[:2]
    mask = Image.new("L", (24, 20))
    mask.paste(255, (0, 0, 6, 20))
    mask.save(tmp_path / "mask.png")
    found = run("restore-masked", *paths, "-o", tmp_path / "out", "--mask", tmp_path / "mask.png", *options)
    assert [row["image"] for row in found["images"]] == list(map(str, paths))
    assert [Path(row["restored"]).name for row in found["images"]] == [
        "00.masked-restored.png",
        "01.masked-restored.png",
    ]
    assert {row["masked_tokens"] for row in found["images"]} == {4} and found["images"][0]["tokens"] == 16
    with Image.open(found["images"][0]["restored"]) as drawn:
        assert drawn.width > 3 * 128 and drawn.height > 128


def test_the_evaluation_prints_every_way(options, picture_folder):
    found = run("evaluate", "masked-restoration", "--data", picture_folder, "--limit", 5, *options)
    assert found["n"] == 5 and found["masked_tokens"] == 25 and "tuned" in found["ways"]
    shown = CliRunner().invoke(
        app, list(map(str, ["evaluate", "masked-restoration", "--data", picture_folder, "--limit", 2, *options]))
    )
    assert "| token to the left |" in shown.stdout and "| masked codes zero | - |" in shown.stdout


def test_a_mask_of_another_size_is_one_line(options, picture_folder, tmp_path):
    Image.new("L", (5, 5)).save(tmp_path / "mask.png")
    arguments = [*sorted(picture_folder.iterdir())[:1], "-o", tmp_path / "out", "--mask", tmp_path / "mask.png"]
    result = CliRunner().invoke(app, list(map(str, ["restore-masked", *arguments, *options])))
    assert "mask is 5 x 5 pixels" in str(result.exception) and not list((tmp_path / "out").iterdir())


def test_a_missing_or_damaged_adapter_is_one_line_and_nothing_is_written(options, picture_folder, tmp_path):
    picture, out, adapter = next(picture_folder.iterdir()), tmp_path / "out", tmp_path / "tuned/adapter"

    def refused(*arguments: object) -> str:
        result = CliRunner().invoke(app, list(map(str, ["restore-masked", picture, "-o", out, *arguments])))
        assert isinstance(result.exception, UserError) and not out.exists()
        return str(result.exception)

    models = options[: options.index("--adapter")]
    assert "was not tuned on pictures" in refused(*models)
    assert "no-such/adapter" in refused(*models, "--adapter", "no-such/adapter")
    (adapter / "image_sequences.json").write_text("{}")
    assert "image_sequences.json is damaged" in refused(*options)
