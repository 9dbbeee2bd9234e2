"""Curves of a log: every value at its place, and one line where there is nothing to draw."""

import json
import runpy
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "draw_curves.py"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def draw(tmp_path, monkeypatch, capsys):
    """Runs the script on lines of a log, in this process; gives its status, its complaint and the picture."""

    def run(lines: list[dict], *values: str) -> tuple[int, str, Path]:
        log, picture = tmp_path / "log.jsonl", tmp_path / "new" / "curves.svg"
        log.write_text("".join(json.dumps(line) + "\n" for line in lines))
        monkeypatch.setattr(sys, "argv", list(map(str, (SCRIPT, log, "--output", picture, "--values", *values))))
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return ended.value.code, capsys.readouterr().err, picture

    return run


def test_every_value_is_at_its_place(draw):
    lines = [{"step": step, "loss": 4.0 / step, "accuracy": step / 10, "note": "x"} for step in (1, 2, 4, 8)]
    status, err, picture = draw(lines, "loss", "accuracy")
    assert (status, err) == (0, "")
    panels = ElementTree.parse(picture).getroot().findall(f"{SVG}g")
    assert [panel.find(f"{SVG}text").text for panel in panels] == ["loss", "accuracy"]
    for panel, rises in zip(panels, (False, True), strict=True):
        points = [tuple(map(float, pair.split(","))) for pair in panel.find(f"{SVG}polyline").get("points").split()]
        across, down = zip(*points, strict=True)
        assert len(points) == 4
        assert across[1] - across[0] == pytest.approx((across[3] - across[2]) / 4, abs=0.1)  # steps 1, 2 and 4, 8
        assert (down[0] > down[-1]) is rises and sorted(down, reverse=rises) == list(down)
        shown = [label.text for label in panel.findall(f"{SVG}text")]
        assert "8" in shown and {"4", "0.5"} <= set(shown) if not rises else {"0.1", "0.8"} <= set(shown)


def test_nothing_to_draw_is_told_in_one_line(draw, tmp_path):
    for lines, value, said in (
        ([{"step": 1, "loss": 2.0}], "dice", "has no value 'dice': it has loss, step"),
        ([{"loss": 2.0}], "loss", "no lines with a step"),
        ([], "loss", "no lines with a step"),
    ):
        status, err, picture = draw(lines, value)
        assert status == 2 and said in err and err.count("\n") == 1
        assert not picture.exists()
