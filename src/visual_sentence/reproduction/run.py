"""Runs a table: measures what is missing, and writes it as JSON, Markdown and a plot."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from . import reconstruction_tables, restoration_tables, simlvm_table, words_tables
from .budgets import Data, find_budget, parse_models
from .context import Context
from .report import write_report
from .tables import Experiment
from .workspace import NotRunnableError, Workspace, commit

EXPERIMENTS = {
    experiment.table.name: experiment
    for module in (simlvm_table, words_tables, reconstruction_tables, restoration_tables)
    for experiment in module.EXPERIMENTS
}


def table_names() -> list[str]:
    """What can be reproduced."""
    return list(EXPERIMENTS)


def reproduce(
    name: str,
    output: str | Path,
    budget: str = "cpu",
    data: Sequence[str] = (),
    models: Sequence[str] = (),
    rows: Sequence[str] | None = None,
    device: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Fills a table.

    Args:
        name: One of `table_names`.
        output: Folder for trained models, cells and reports; a run that was stopped goes on from it, and tables share
            what they have in common.
        budget: One of `BUDGETS`.
        data: A folder, or `NAME=REFERENCE`; see `Data`.
        models: `NAME=REFERENCE`, over the budget's.
        rows: Only these; all by default.
        device: Where models run.
        say: Told of every piece of work in one line.

    Returns:
        The table as it is written to `NAME.json`.

    Raises:
        UserError: If a name is unknown, or something given cannot be read.
    """
    if name not in EXPERIMENTS:
        raise UserError(f"There is no table {name!r}: choose one of {', '.join(EXPERIMENTS)}.")
    experiment = EXPERIMENTS[name]
    table = experiment.table
    chosen = find_budget(budget)
    unknown = [row for row in rows or () if row not in {one.key for one in table.rows}]
    if unknown:
        raise UserError(f"{name} has no row {unknown[0]!r}: its rows are {', '.join(one.key for one in table.rows)}.")
    workspace = Workspace(output, say)
    context = Context(workspace, chosen, Data(data), {**chosen.models, **parse_models(models)}, device)
    found, started = [], time.perf_counter()
    for row in table.rows:
        if rows is None or row.key in rows:
            found.append({"key": row.key, "label": row.label, **_row(context, experiment, row.key)})
    report = {
        "table": name,
        "title": table.title,
        "source": table.source,
        "note": table.note,
        "budget": budget,
        "commit": commit(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "seconds": round(time.perf_counter() - started, 1),
        "rows": found,
    }
    write_report(workspace.folder, table, report)
    return report


def _row(context: Context, experiment: Experiment, key: str) -> dict[str, Any]:
    """A row's cells, each with the paper's number, and ours or what it needs."""
    table = experiment.table
    row = table.row(key)
    try:
        record = context.workspace.measured(
            f"{table.name}-{context.budget.name}",
            key,
            {"budget": context.budget.name, **experiment.settings(context, key)},
            lambda: experiment.measure(context, key),
        )
    except NotRunnableError as missing:
        record = {"cells": dict.fromkeys((column.key for column in table.columns), str(missing))}
    cells = {}
    for column in table.columns:
        ours = record["cells"].get(column.key)
        filled = isinstance(ours, dict)
        cells[column.key] = {
            "paper": row.paper.get(column.key),
            "ours": ours if filled else None,
            "not_run": None if filled else ours or "is not part of this row",
        }
    kept = {name: record[name] for name in ("settings", "seconds", "commit") if name in record}
    return {"paper_models": row.paper_models, "cells": cells, **kept}


__all__ = ["reproduce", "table_names"]
