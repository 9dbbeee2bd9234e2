"""`visual-sentence evaluate`: how good it is, as one JSON object or a table.

Each command stands beside the one whose results it measures; here is what they share.
"""

from typing import Any

import typer

app = typer.Typer(help="Measure a model on data.", no_args_is_help=True)


def beside(results: dict[str, Any], reference: str) -> str:
    """One measure a line, with the reference's value beside it, as a Markdown table."""
    others = results[reference]

    def cell(value: Any) -> str:
        return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)

    lines = [f"| measure | value | {reference.replace('_', ' ')} |", "|---|---|---|"]
    rows = {name: value for name, value in results.items() if name != reference}
    return "\n".join(
        [*lines, *(f"| {name} | {cell(value)} | {cell(others.get(name))} |" for name, value in rows.items())]
    )


def measures(result: dict[str, Any]) -> str:
    """One measure a line, as a Markdown table."""
    cells = {name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in result.items()}
    return "\n".join(["| measure | value |", "|---|---|", *(f"| {name} | {cell} |" for name, cell in cells.items())])
