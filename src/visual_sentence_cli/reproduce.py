"""`visual-sentence reproduce`: a table of the papers, with one's own models and data."""

import json
import os
import traceback
from pathlib import Path
from typing import Annotated

import typer

from . import options


def reproduce(
    table: Annotated[
        str,
        typer.Argument(
            help="simlvm-table1, v2l-table1 to v2l-table6, or v2l-figure11.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Folder for models, cells and reports; a stopped run goes on from it.",
            show_default=False,
        ),
    ],
    budget: Annotated[str, typer.Option(help="smoke, cpu or full: how much is trained and measured.")] = "cpu",
    data: Annotated[
        list[str] | None,
        typer.Option(help="Folder that holds the data sets, or NAME=REFERENCE for one; several times."),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=REFERENCE", help="A model in place of the budget's; several times."),
    ] = None,
    row: Annotated[
        list[str] | None, typer.Option(help="Measure this row only, several times; others are shown as on file.")
    ] = None,
    as_json: options.Json = False,
    device: options.Device = None,
) -> None:
    """Measure a table of the papers here: the paper's number beside ours, or what a cell needs to be run."""
    from visual_sentence.reproduction import reproduce

    from .main import FAILED, TRACEBACK_VARIABLE, is_user_error

    def say(line: str) -> None:
        typer.echo(line, err=True)

    def show(error: Exception) -> None:
        if not is_user_error(error) and os.environ.get(TRACEBACK_VARIABLE, "0") not in ("", "0"):
            traceback.print_exception(error)

    report = reproduce(table, output, budget, data or (), models or (), row or None, device, say, show)
    typer.echo(
        json.dumps(report, ensure_ascii=False) if as_json else (output / f"{table}.md").read_text(encoding="utf-8")
    )
    failed = [one["key"] for one in report["rows"] if "failed" in one]
    if failed:
        say(f"failed: {', '.join(failed)}; {output / table}.md says why, and has the other rows")
        raise typer.Exit(FAILED)
