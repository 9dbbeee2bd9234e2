"""A small table made by hand, as Markdown, as claims and as a plot."""

import json
import re
from xml.etree import ElementTree

import pytest

from visual_sentence.reproduction.report import LABELS, markdown, plot, reading, shown, write_report
from visual_sentence.reproduction.tables import Column, Ordering, Row, Table

TABLE = Table(
    name="hand-table1",
    title="Made by hand",
    source="A paper, table 1",
    columns=(
        Column("dice", "Dice", "Dice of shapes", 1, unit="%", is_same_measure=True),
        Column("lpips", "LPIPS", "tower-distance", 2, higher_is_better=False),
        Column("hidden", "Hidden", "seconds", 0, higher_is_better=False, is_plotted=False),
    ),
    rows=(
        Row("a", "A < B & C", {"dice": 61.25, "lpips": 0.1}, "300M"),
        Row("b", "B", {"dice": 23.79}),
        Row("c", "C"),
        Row("d", "D", {"dice": 31.01}),
    ),
    orderings=(Ordering("a", "b", ("dice", "lpips"), "A above B"),),
    note="Small.",
)


def ours(value: float | None, low: float | None = None, high: float | None = None, n: int = 9) -> dict:
    return {"value": value, "ci95": None if low is None else [low, high], "n": n}


def fill(**cells: dict[str, dict | str]) -> dict:
    """A report of rows by key, each with cells by column; what is missing was not run."""
    rows = []
    for key, found in cells.items():
        row = TABLE.row(key)
        entries = {}
        for column in TABLE.columns:
            entry = found.get(column.key, "needs more")
            filled = isinstance(entry, dict)
            entries[column.key] = {
                "paper": row.paper.get(column.key),
                "ours": entry if filled else None,
                "not_run": None if filled else entry,
            }
        rows.append({"key": key, "label": row.label, "cells": entries})
    return {"budget": "cpu", "commit": "1234567+", "rows": rows}


@pytest.fixture
def report() -> dict:
    return fill(
        a={"dice": ours(50.04, 48, 52.55), "lpips": ours(0.301, 0.25, 0.35), "hidden": ours(3, n=2)},
        b={"dice": ours(40, 38, 42), "lpips": ours(0.2), "hidden": "needs a clock"},
        c={"dice": "needs weights", "lpips": "needs weights", "hidden": "needs a clock"},
        d={"dice": "needs a GPU", "lpips": "needs weights", "hidden": "needs weights"},
    )


@pytest.fixture
def lines(report) -> list[str]:
    return markdown(TABLE, report).splitlines()


def claim(better: dict, worse: dict, column: str) -> str:
    """What is read of one column, without the claim's own words."""
    found = reading(TABLE, fill(a={column: better}, b={column: worse}), Ordering("a", "b", (column,), "A above B"))
    label = next(one.label for one in TABLE.columns if one.key == column)
    assert found.startswith(f"A above B: {label}: ")
    return found.removeprefix(f"A above B: {label}: ")


def test_a_cell_has_our_number_with_its_interval_beside_the_papers(lines):
    assert "| system | Dice | LPIPS | Hidden | n |" in lines
    assert "| A < B & C | 50.0 (48.0 to 52.5) / 61.25 | 0.30 (0.25 to 0.35) / 0.1 | 3 / - | 9/2 |" in lines
    assert "| B | 40.0 (38.0 to 42.0) / 23.79 | 0.20 / - | not run / - | 9 |" in lines
    assert "| C | not run / - | not run / - | not run / - | - |" in lines


def test_every_line_of_the_table_has_as_many_cells(lines):
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 4 and {line.count("|") for line in table} == {len(TABLE.columns) + 3}


def test_reasons_are_said_once_with_all_rows_that_they_hold_for(lines):
    place = lines.index("Not run:")
    assert lines[place + 1 :] == ["", "- B, C: needs a clock.", "- C, D: needs weights.", "- D: needs a GPU."]


def test_what_several_cells_of_a_row_need_is_said_once_each():
    both = "needs weights; needs a clock; with a hand"
    found = fill(
        a={"dice": "needs weights", "lpips": both, "hidden": "needs a clock; with a hand"}, b={"dice": ours(1)}
    )
    text = markdown(TABLE, found).partition("Not run:\n\n")[2]
    assert text.splitlines() == [
        "- A < B & C: needs weights.",
        "- A < B & C: needs a clock; with a hand.",
        "- B: needs more.",
    ]
    every = markdown(TABLE, fill(a={"dice": "needs all"}, b={"dice": "needs all"}))
    assert "- all rows: needs all." in every


def test_a_table_without_gaps_says_of_none():
    filled = fill(a={"dice": ours(1), "lpips": ours(2), "hidden": ours(3)})
    assert "ot run" not in markdown(TABLE, filled).partition("Orderings")[0]
    assert "Not run:" not in markdown(TABLE, filled)


def test_every_measure_is_named_by_what_it_is_and_which_way_is_better(lines):
    assert "- Dice: Dice of shapes (higher is better)" in lines
    assert "- LPIPS: tower-distance (lower is better)" in lines


def test_the_beginning_says_what_of_where_and_how(lines):
    assert lines[0] == "### hand-table1: Made by hand"
    assert lines[2] == "A paper, table 1. Budget `cpu`, commit 1234567+. Small."


def test_orderings_are_read_with_all_their_columns(lines):
    place = lines.index("Orderings of the paper, here:")
    assert lines[place + 2] == (
        "- A above B: Dice: yes (50.0 against 40.0); LPIPS: no (0.30 against 0.20, without intervals)"
    )


@pytest.mark.parametrize(("column", "up", "down"), [("dice", "yes", "no"), ("lpips", "no", "yes")])
def test_which_way_is_better_is_the_columns(column, up, down):
    low, high = ours(1, 0.5, 1.5), ours(4, 3.5, 4.5)
    assert claim(high, low, column).startswith(f"{up} (4")
    assert claim(low, high, column).startswith(f"{down} (1")


@pytest.mark.parametrize("column", ["dice", "lpips"])
@pytest.mark.parametrize(
    ("other", "overlap"), [((3, 2.5, 3.5), False), ((3, 1.4, 3.5), True), ((3, 1.5, 3.5), True), ((3, 1.6, 9), False)]
)
def test_intervals_that_overlap_are_said_to(column, other, overlap):
    for pair in ((ours(1, 0.5, 1.5), ours(*other)), (ours(*other), ours(1, 0.5, 1.5))):
        assert ("the intervals overlap" in claim(*pair, column)) is overlap


@pytest.mark.parametrize("column", ["dice", "lpips"])
def test_equal_numbers_hold_neither_way(column):
    assert re.fullmatch(r"equal \(2\.0+ against 2\.0+\)", claim(ours(2.0, 1, 3), ours(2.0, 1, 3), column))


def test_without_an_interval_that_is_said():
    assert claim(ours(2.0), ours(1.0, 0.5, 1.5), "dice") == "yes (2.0 against 1.0, without intervals)"


def test_what_was_not_run_is_not_compared():
    assert claim(ours(2.0), "needs more", "dice") == claim("needs more", ours(2.0), "dice") == "not run"
    assert reading(TABLE, fill(a={"dice": ours(1)}), TABLE.orderings[0]) == "A above B: Dice: not run; LPIPS: not run"


def test_a_cell_without_a_value_counts_as_not_run():
    empty = ours(None, n=0)
    assert claim(empty, ours(1), "dice") == claim(ours(1), empty, "dice") == "not run"
    assert shown(TABLE.columns[0], {"ours": empty}) == "not run"
    assert marks(fill(c={"dice": empty}))[0] == []


SPACE = "{http://www.w3.org/2000/svg}"


def marks(report: dict) -> tuple[list[tuple[float, float]], list[tuple[float, float]], list[list[float]]]:
    """Centres of our marks and of the paper's, and [x1, x2, y] of intervals; the legend's left out."""
    picture = ElementTree.fromstring(plot(TABLE, report))
    circles = [(float(one.get("cx")), float(one.get("cy"))) for one in picture.iter(f"{SPACE}circle")]
    diamonds = []
    for path in picture.iter(f"{SPACE}path"):
        x, y = re.match(r"M([\d.]+) (-?[\d.]+)", path.get("d")).groups()
        diamonds.append((float(x), float(y) + 4))
    bars = [line for line in picture.iter(f"{SPACE}line") if line.get("stroke-width")]
    return circles[1:], diamonds[1:], [[float(bar.get(name)) for name in ("x1", "x2", "y1")] for bar in bars]


def test_the_plot_is_well_formed_and_names_every_row(report):
    picture = ElementTree.fromstring(plot(TABLE, report))
    texts = [text.text for text in picture.iter(f"{SPACE}text")]
    assert picture.tag == f"{SPACE}svg"
    assert [row.label for row in TABLE.rows] == [text for text in texts if text in {row.label for row in TABLE.rows}]
    assert "Dice" in texts and "LPIPS" in texts and "Hidden" not in texts


def test_a_larger_value_lies_farther_right(report):
    (first, second, *_), _, _ = marks(report)
    assert first[0] > second[0] and first[1] < second[1]


def test_an_interval_reaches_around_its_value(report):
    circles, _, bars = marks(report)
    assert len(bars) == 3
    for left, right, y in bars:
        (x,) = (x for x, height in circles if height == y and left <= x <= right)
        assert left < x < right


def test_the_papers_numbers_are_drawn_on_the_same_axis_where_they_are_of_the_same_measure(report):
    circles, diamonds, _ = marks(report)
    assert len(diamonds) == 3  # of Dice only
    by_row = {y: x for x, y in diamonds}
    (first, second) = circles[:2]
    assert by_row[first[1]] > first[0] and by_row[second[1]] < second[0]


def test_everything_lies_within_its_panel(report):
    picture = ElementTree.fromstring(plot(TABLE, report))
    width, height = float(picture.get("width")), float(picture.get("height"))
    for x, y in (point for points in marks(report)[:2] for point in points):
        assert LABELS <= x <= width and 0 <= y <= height


@pytest.mark.parametrize("cells", [{}, {"dice": ours(5, 5, 5)}, {"dice": ours(0, 0, 0), "lpips": ours(0)}])
def test_empty_panels_and_single_values_can_be_drawn(cells):
    text = plot(TABLE, fill(c=cells))
    ElementTree.fromstring(text)
    assert text.count("not run") == 2 - len(cells) and "nan" not in text
    assert len(marks(fill(c=cells))[0]) == len(cells)


def test_a_report_is_three_files(report, tmp_path):
    write_report(tmp_path, TABLE, report)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"hand-table1.{end}" for end in ("json", "md", "svg")]
    assert json.loads((tmp_path / "hand-table1.json").read_text()) == report
    assert (tmp_path / "hand-table1.md").read_text() == markdown(TABLE, report)
    assert (tmp_path / "hand-table1.svg").read_text() == plot(TABLE, report)
