"""The tables in the documentation are those that the code draws from their JSON."""

import json
from pathlib import Path

import pytest

from visual_sentence.reproduction import table_names
from visual_sentence.reproduction.report import markdown, plot
from visual_sentence.reproduction.run import EXPERIMENTS

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(params=table_names())
def name(request) -> str:
    return request.param


@pytest.fixture
def report(name) -> dict:
    return json.loads((DOCS / "tables" / f"{name}.json").read_text(encoding="utf-8"))


def test_rows_and_the_papers_numbers_are_the_tables_own(name, report):
    table = EXPERIMENTS[name].table
    assert [row["key"] for row in report["rows"]] == [row.key for row in table.rows]
    for row in report["rows"]:
        paper = {column: cell["paper"] for column, cell in row["cells"].items()}
        assert paper == {column.key: table.row(row["key"]).paper.get(column.key) for column in table.columns}


def test_every_line_of_the_table_is_in_the_results(name, report):
    results = (DOCS / "results.md").read_text(encoding="utf-8").splitlines()
    lines = [line for line in markdown(EXPERIMENTS[name].table, report).splitlines() if line.startswith("|")]
    assert len(lines) > 2 and [line for line in lines if line not in results] == []


def test_the_plot_is_drawn_from_the_same_numbers(name, report):
    drawn = (DOCS / "tables" / f"{name}.svg").read_text(encoding="utf-8")
    assert drawn == plot(EXPERIMENTS[name].table, report)


def test_every_cell_is_filled_or_says_why_not(report):
    cells = [cell for row in report["rows"] for cell in row["cells"].values()]
    assert all((cell["ours"] is None) != (cell["not_run"] is None) for cell in cells)
    assert any(cell["ours"] is not None for cell in cells)
    for cell in cells:
        if cell["ours"] is not None and cell["ours"]["ci95"] is not None:
            low, high = cell["ours"]["ci95"]
            assert low - 1e-9 <= cell["ours"]["value"] <= high + 1e-9 and cell["ours"]["n"] >= 1
