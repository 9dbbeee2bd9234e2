"""Two reports, cell by cell."""

import copy
import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "compare_tables.py"
SHIPPED = SCRIPT.parents[1] / "docs" / "tables" / "v2l-table2.json"


@pytest.fixture
def compare(capsys):
    """Runs the script; gives status and output."""
    spec = importlib.util.spec_from_file_location("compare_tables", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments: object) -> tuple[int, str, str]:
        status = module.main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def changed(tmp_path):
    """Writes the shipped report after a change; gives its path."""

    def write(change) -> Path:
        report = copy.deepcopy(json.loads(SHIPPED.read_text(encoding="utf-8")))
        change({row["key"]: row for row in report["rows"]})
        path = tmp_path / "changed.json"
        path.write_text(json.dumps(report))
        return path

    return write


def test_a_report_is_as_itself(compare):
    status, out, _ = compare(SHIPPED, SHIPPED)
    assert status == 0 and out.splitlines()[-1] == "4 same, 0 different, 0 not compared"
    assert "same: spae-5: " in out


def test_a_number_that_differs_is_named(compare, changed):
    def change(rows) -> None:
        rows["spae-5"]["cells"]["clip-r"]["ours"]["value"] *= 1.001
        rows["spae-5"]["cells"]["clip-r"]["ours"]["ci95"][0] *= 1.0001

    path = changed(change)
    status, out, _ = compare(SHIPPED, path)
    assert status == 1 and "different: spae-5: 2 of " in out and "most of all clip-r value: 0.32776" in out
    assert out.splitlines()[-1] == "3 same, 1 different, 0 not compared"
    assert compare(SHIPPED, path, "--tolerance", 0.01)[0] == 0


def test_what_cannot_be_compared_is_named(compare, changed):
    def change(rows) -> None:
        for cell in rows["spae-5"]["cells"].values():
            cell["ours"] = None
        rows["spae-21"]["settings"]["steps"] = 7

    status, out, _ = compare(SHIPPED, changed(change))
    assert status == 0
    assert "not compared: spae-5: measured in the first only" in out
    assert "not compared: spae-21: other settings (steps 300 and 7)" in out


def test_a_count_that_is_gone_is_a_difference(compare, changed):
    status, out, _ = compare(SHIPPED, changed(lambda rows: rows["spae-5"]["cells"]["clip"]["ours"].pop("n")))
    assert status == 1 and "clip n: 250 and None" in out


def test_what_is_no_number_is_a_difference(compare, changed):
    path = changed(lambda rows: rows["spae-5"]["cells"]["clip"]["ours"].update(value=float("nan")))
    status, out, _ = compare(SHIPPED, path, "--tolerance", 0.5)
    assert status == 1 and "clip value: " in out and out.splitlines()[-1].startswith("3 same, 1 different")
    assert compare(path, path)[0] == 0


@pytest.mark.parametrize("text", ["no json", "[]", '{"rows": [{}]}', '{"rows": [{"key": "a"}]}'])
def test_what_is_no_report_is_one_line(compare, tmp_path, text):
    path = tmp_path / "report.json"
    path.write_text(text)
    status, out, err = compare(path, SHIPPED)
    assert (status, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1
    assert "give its NAME.json" in err
