"""Compares two reports of `visual-sentence reproduce`, cell by cell: whether a run gave what another one did.

    python scripts/compare_tables.py docs/tables/v2l-table3.json tables/v2l-table3.json

Rows that only one of them has measured, or that were measured with other settings, are named and not compared. Ends
with status 1 where a number differs by more than --tolerance. See docs/reproduction.md.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from visual_sentence import UserError

Numbers = dict[str, float]


def read_rows(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of a report, by key.

    Raises:
        UserError: If it cannot be read, or is none.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        rows = {row["key"]: row for row in report["rows"]}
        for row in rows.values():
            numbers_of(row)
        return rows
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no report of `visual-sentence reproduce` ({error}): give its NAME.json.") from error


def numbers_of(row: dict[str, Any]) -> Numbers:
    """What was measured of a row: values, intervals and counts, by where they stand."""
    found: Numbers = {}

    def collect(place: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                collect(f"{place} {name}".strip(), inner)
        elif isinstance(value, list):
            for number, inner in enumerate(value):
                collect(f"{place} {number}", inner)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[place] = value

    for name, cell in row["cells"].items():
        collect(name, cell["ours"])
    return found


def compare(one: dict[str, dict[str, Any]], other: dict[str, dict[str, Any]], tolerance: float) -> dict[str, list[str]]:
    """Sorts the rows of two reports.

    Args:
        one: Of `read_rows`.
        other: Of `read_rows`.
        tolerance: By how much two numbers may differ, as a share of the larger.

    Returns:
        "same" and "different" rows, and those "not compared", a line for each.
    """
    found: dict[str, list[str]] = {"same": [], "different": [], "not compared": []}
    for key in dict.fromkeys((*one, *other)):
        first, second = (numbers_of(rows[key]) if key in rows else {} for rows in (one, other))
        if not first and not second:
            continue  # for what cannot be run, neither has numbers
        if not first or not second:
            found["not compared"].append(f"{key}: measured in {'the second' if second else 'the first'} only")
        elif (changed := settings_changed(one[key], other[key])) is not None:
            found["not compared"].append(f"{key}: other settings ({changed})")
        else:
            places = list({**first, **second})
            far = [place for place in places if _distance(first, second, place) > tolerance]
            if far:
                most = max(far, key=lambda place: _distance(first, second, place))
                told = f"{len(far)} of {len(places)} numbers, most of all {most}"
                found["different"].append(f"{key}: {told}: {first.get(most)} and {second.get(most)}")
            else:
                found["same"].append(f"{key}: {len(first)} numbers")
    return found


def settings_changed(one: dict[str, Any], other: dict[str, Any]) -> str | None:
    """The first setting in which two rows differ; None where they are equal."""
    first, second = (row.get("settings") or {} for row in (one, other))
    name = next((name for name in {**first, **second} if first.get(name) != second.get(name)), None)
    return None if name is None else f"{name} {first.get(name)} and {second.get(name)}"


def _distance(first: Numbers, second: Numbers, place: str) -> float:
    if place not in first or place not in second:
        return float("inf")
    one, other = first[place], second[place]
    if one == other or (math.isnan(one) and math.isnan(other)):
        return 0.0
    share = abs(one - other) / max(abs(one), abs(other))
    return float("inf") if math.isnan(share) else share  # of what is no number, or endless


def main(arguments: list[str] | None = None) -> int:
    """Compares; gives the status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs=2, type=Path, help="two NAME.json of `visual-sentence reproduce`")
    parser.add_argument("--tolerance", type=float, default=0.0, help="share by which numbers may differ (default: 0)")
    given = parser.parse_args(arguments)
    try:
        found = compare(*map(read_rows, given.reports), given.tolerance)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    told = [f"{kind}: {line}" for kind, lines in found.items() for line in lines]
    total = ", ".join(f"{len(lines)} {kind}" for kind, lines in found.items())
    sys.stdout.write("\n".join([*told, total]) + "\n")
    return 1 if found["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
