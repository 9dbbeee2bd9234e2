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
from .tokenizers import RECIPES
from .workspace import NotRunnableError, Workspace, commit

EXPERIMENTS = {
    experiment.table.name: experiment
    for module in (simlvm_table, words_tables, reconstruction_tables, restoration_tables)
    for experiment in module.EXPERIMENTS
}
# Names of --models: what reads and what sees, the tokenizers, and the rows of SimLVM's table.
MODELS = ("llm", "llm-13b", "llm-70b", "words", "encoder", "frozen", *RECIPES)
MODELS += tuple(row.key for row in simlvm_table.TABLE.rows)


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
    given = parse_models(models)
    for model, reference in given.items():
        if model not in MODELS:
            known = ", ".join(MODELS)
            raise UserError(f"--models {model}={reference}: no table has a model {model!r}; they know {known}.")
    sources = Data(data)
    workspace = Workspace(output, say)
    context = Context(workspace, chosen, sources, {**chosen.models, **given}, device)
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
    except (NotRunnableError, UserError) as missing:
        if isinstance(missing, UserError) and not _is_of_budget(context, missing):
            raise
        reason = str(missing).removesuffix(".")
        record = {"cells": dict.fromkeys((column.key for column in table.columns), reason)}
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


def _is_of_budget(context: Context, error: UserError) -> bool:
    """Whether what could not be loaded is a model that the budget names, not the user."""
    references = context.budget.models.items()
    return any(
        context.models[name] == reference and str(error).startswith(f"{reference} is neither")
        for name, reference in references
    )


__all__ = ["reproduce", "table_names"]
