"""A filled table as JSON, Markdown and a plot."""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..codebook.steps import replacing
from .tables import Column, Ordering, Table
from .workspace import write_json

INK, GRID, OURS, PAPER = "#1f2430", "#d8d4cc", "#c2410c", "#3b6ea5"
LABELS, PANEL, LINE, TOP, GAP = 390, 250, 22, 56, 26


def write_report(folder: Path, table: Table, report: dict[str, Any]) -> None:
    """Writes `NAME.json`, `NAME.md` and `NAME.svg`."""
    write_json(folder / f"{table.name}.json", report)
    for name, text in (("md", markdown(table, report)), ("svg", plot(table, report))):
        with replacing(folder / f"{table.name}.{name}") as aside:
            aside.write_text(text, encoding="utf-8")


def markdown(table: Table, report: dict[str, Any]) -> str:
    """The table, its orderings, and what was not run."""
    head = [column.label for column in table.columns]
    lines = [
        f"### {table.name}: {table.title}",
        "",
        f"{table.source}. Budget `{report['budget']}`, commit {report['commit']}. {table.note}".strip(),
        "",
        "In each cell: here, its 95 % interval in brackets, and behind the stroke the paper's number. Measured here:",
        "",
        *(f"- {line}" for line in _measures(table)),
        "",
        f"| system | {' | '.join(head)} | n |",
        "|---" * (len(head) + 2) + "|",
    ]
    missing: dict[str, list[str]] = {}
    for row in report["rows"]:
        cells, counts = [], []
        for column in table.columns:
            entry = row["cells"][column.key]
            paper = "-" if entry["paper"] is None else f"{entry['paper']:g}"
            text = "failed" if "failed" in row and entry["ours"] is None else shown(column, entry)
            cells.append(f"{text} / {paper}")
            if entry["ours"] is not None:
                counts.append(str(entry["ours"]["n"]))
            elif entry["not_run"] and "failed" not in row:
                for reason in re.split("; (?=needs )", entry["not_run"]):
                    missing.setdefault(reason, []).append(row["label"])
        lines.append(f"| {row['label']} | {' | '.join(cells)} | {'/'.join(dict.fromkeys(counts)) or '-'} |")
    read = [reading(table, report, one) for one in table.orderings]
    if read:
        lines += ["", "Orderings of the paper, here:", "", *(f"- {line}" for line in read)]
    failed = [f"- {row['label']}: {row['failed']}" for row in report["rows"] if "failed" in row]
    if failed:
        lines += ["", "Failed:", "", *failed]
    if missing:
        lines += ["", "Not run:", ""]
        lines += [f"- {_named(rows, len(report['rows']))}: {reason}." for reason, rows in missing.items()]
    return "\n".join(lines) + "\n"


def _named(rows: Sequence[str], count: int) -> str:
    names = list(dict.fromkeys(rows))
    return "all rows" if 1 < len(names) == count else ", ".join(names)


def _measures(table: Table) -> list[str]:
    """What is measured, once for each measure, with the columns where it is."""
    found: dict[str, list[str]] = {}
    for column in table.columns:
        better = "higher" if column.higher_is_better else "lower"
        found.setdefault(f"{column.ours} ({better} is better)", []).append(column.label)
    if len(found) == 1:
        return list(found)
    return [f"{', '.join(labels)}: {measure}" for measure, labels in found.items()]


def shown(column: Column, entry: dict[str, Any]) -> str:
    """A cell of ours as text, with its 95 % interval."""
    ours = entry["ours"]
    if ours is None or ours["value"] is None:
        return "not run"
    value = f"{ours['value']:.{column.digits}f}"
    if ours["ci95"] is None:
        return value
    low, high = (f"{end:.{column.digits}f}" for end in ours["ci95"])
    return f"{value} ({low} to {high})"


def reading(table: Table, report: dict[str, Any], ordering: Ordering) -> str:
    """One claim, and whether ours agree with it: yes, no, or the intervals overlap."""
    rows = {row["key"]: row for row in report["rows"]}
    parts = []
    for key in ordering.columns:
        column = next(column for column in table.columns if column.key == key)
        ends = [
            rows[name]["cells"][key]["ours"] if name in rows else None for name in (ordering.better, ordering.worse)
        ]
        parts.append(f"{column.label}: {_verdict(column, *ends)}")
    return f"{ordering.claim}: {'; '.join(parts)}"


def _verdict(column: Column, better: dict[str, Any] | None, worse: dict[str, Any] | None) -> str:
    if better is None or worse is None or better["value"] is None or worse["value"] is None:
        return "not run"
    sign = 1 if column.higher_is_better else -1
    difference = sign * (better["value"] - worse["value"])
    numbers = f"{better['value']:.{column.digits}f} against {worse['value']:.{column.digits}f}"
    if round(difference, 10) == 0:
        return f"equal ({numbers})"
    holds = "yes" if difference > 0 else "no"
    if better["ci95"] is None or worse["ci95"] is None:
        return f"{holds} ({numbers}, without intervals)"
    (low, high), (other_low, other_high) = better["ci95"], worse["ci95"]
    overlap = low <= other_high and other_low <= high
    return f"{holds} ({numbers}{', the intervals overlap' if overlap else ''})"


def plot(table: Table, report: dict[str, Any]) -> str:
    """All cells that are filled, as an SVG: a line for each row, a panel for each column, intervals as bars."""
    rows, columns = report["rows"], [column for column in table.columns if column.is_plotted]
    width, height = LABELS + PANEL * len(columns), TOP + LINE * len(rows) + GAP
    panels = [_panel(column, rows, LABELS + PANEL * place, height) for place, column in enumerate(columns)]
    labels = "".join(
        f'<text x="{LABELS - 10}" y="{TOP + LINE * place + 4}" text-anchor="end">{escape(row["label"])}</text>'
        for place, row in enumerate(rows)
    )
    legend = (
        f'<circle cx="14" cy="16" r="4" fill="{OURS}"/><text x="24" y="20">here, 95 % interval</text>'
        f'<path d="M168 12l4 4 -4 4 -4 -4z" fill="{PAPER}"/><text x="178" y="20">paper (other models and data)</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="12" fill="{INK}">\n'
        f'<rect width="{width}" height="{height}" fill="white"/>\n{legend}\n{labels}\n'
        + "\n".join(panels)
        + "\n</svg>\n"
    )


def _panel(column: Column, rows: Sequence[dict[str, Any]], left: float, height: float) -> str:
    """One column's cells over an axis of their own; where paper and ours are of two measures only ours."""
    entries = [row["cells"][column.key] for row in rows]
    same = column.is_same_measure
    values = [end for entry in entries for end in _ends(entry)]
    values += [entry["paper"] for entry in entries if same and entry["paper"] is not None]
    title = f'<text x="{left + PANEL / 2 - 30}" y="40" text-anchor="middle">{escape(column.label)}</text>'
    if not values:
        return title + f'<text x="{left + PANEL / 2 - 30}" y="{TOP + 4}" text-anchor="middle">not run</text>'
    low, high = min(values), max(values)
    margin = (high - low) * 0.06 or 1.0
    low, high = low - margin, high + margin

    def across(value: float) -> float:
        return left + (value - low) / (high - low) * (PANEL - 60)

    drawn = [title]
    for share in (0.0, 0.5, 1.0):
        value = low + share * (high - low)
        x = across(value)
        drawn.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 10}" y2="{height - GAP}" stroke="{GRID}"/>')
        text = f"{value:.{column.digits}f}{column.unit}"
        drawn.append(f'<text x="{x:.1f}" y="{height - 8}" text-anchor="middle" font-size="10">{text}</text>')
    for place, entry in enumerate(entries):
        y, ours = TOP + LINE * place, entry["ours"]
        if same and entry["paper"] is not None:
            drawn.append(f'<path d="M{across(entry["paper"]):.1f} {y - 4}l4 4 -4 4 -4 -4z" fill="{PAPER}"/>')
        if ours is None or ours["value"] is None:
            continue
        if ours["ci95"] is not None:
            first, last = map(across, ours["ci95"])
            drawn.append(f'<line x1="{first:.1f}" x2="{last:.1f}" y1="{y}" y2="{y}" stroke="{OURS}" stroke-width="2"/>')
        drawn.append(f'<circle cx="{across(ours["value"]):.1f}" cy="{y}" r="4" fill="{OURS}"/>')
    return "".join(drawn)


def _ends(entry: dict[str, Any]) -> list[float]:
    ours = entry["ours"]
    if ours is None or ours["value"] is None:
        return []
    return [ours["value"], *(ours["ci95"] or ())]


__all__ = ["markdown", "plot", "reading", "write_report"]
