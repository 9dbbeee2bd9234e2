"""Runs a table: measures what is missing, and writes it as JSON, Markdown and a plot."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import UnreachableError, UserError
from ..language import choose_device
from . import reconstruction_tables, restoration_tables, simlvm_table, words_tables
from .budgets import Data, find_budget, parse_models
from .context import Context
from .devices import training_on
from .report import write_report
from .tables import Experiment, Row
from .tokenizers import RECIPES
from .workspace import NotRunnableError, UnpublishedError, Workspace, commit

EXPERIMENTS = {
    experiment.table.name: experiment
    for module in (simlvm_table, words_tables, reconstruction_tables, restoration_tables)
    for experiment in module.EXPERIMENTS
}
# Names of --models: what reads and what sees, the tokenizers, and the rows of SimLVM's table.
MODELS = ("llm", "llm-13b", "llm-70b", "words", "encoder", "masked-lm", "frozen", *RECIPES)
MODELS += tuple(row.key for row in simlvm_table.TABLE.rows)
NOT_MEASURED = "not measured yet"
MOST_CHARACTERS = 300  # of a library's message, which may be pages long


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
    failed: Callable[[Exception], None] = lambda error: None,
) -> dict[str, Any]:
    """Fills a table.

    Args:
        name: One of `table_names`.
        output: Folder for trained models, cells and reports; a run that was stopped goes on from it, and tables share
            what they have in common.
        budget: One of `BUDGETS`.
        data: A folder, or `NAME=REFERENCE`; see `Data`.
        models: `NAME=REFERENCE`, over the budget's.
        rows: Only these are measured; all by default. Of the others the report has what is on file for the same
            settings.
        device: Where models run and are trained; the first accelerator by default.
        say: Told of every piece of work in one line.
        failed: Told of what went wrong in a row. The other rows are measured all the same.

    Returns:
        The table as it is written to `NAME.json`: for each row `cells`, each with the paper's number, ours or None, and
        why it is None; and `failed`, in one line, where something went wrong.

    Raises:
        UserError: If a name is unknown, or a folder or the device cannot be used; nothing was run then.
        KeyboardInterrupt: If the run was interrupted, by a signal that a training listened for too.
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
    sources = Data(data, chosen.data)
    if device is not None:
        choose_device(device)  # refuses one that cannot be used
    workspace = Workspace(output, say)
    context = Context(workspace, chosen, sources, {**chosen.models, **given}, device)
    started = time.perf_counter()
    with training_on(device):
        found = [_row(context, experiment, row, rows is None or row.key in rows, failed) for row in table.rows]
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


def _row(
    context: Context, experiment: Experiment, row: Row, is_wanted: bool, failed: Callable[[Exception], None]
) -> dict[str, Any]:
    """A row's cells, each with the paper's number, and ours or why there is none."""
    table = experiment.table.name
    found: dict[str, Any] = {"key": row.key, "label": row.label, "paper_models": row.paper_models}
    record: dict[str, Any] | None = None
    reasons, asks_for_data = [], True
    try:
        filed = f"{table}-{context.budget.name}"
        settings = {"budget": context.budget.name, **experiment.settings(context, row.key)}
        record = context.workspace.filed(filed, row.key, settings)
        if record is None and is_wanted:
            record = context.workspace.measured(filed, row.key, settings, lambda: experiment.measure(context, row.key))
        elif record is None:
            reasons, asks_for_data = [NOT_MEASURED], False
    except NotRunnableError as missing:
        reasons, asks_for_data = [str(missing).removesuffix(".")], not isinstance(missing, UnpublishedError)
    except Exception as error:  # whatever a model, a file or a library does must not cost the other rows
        if _is_of_budget(context, error):
            reasons = [str(error).removesuffix(".")]
        else:
            failed(error)
            found["failed"] = _in_one_line(error)
            reasons, asks_for_data = [f"failed: {found['failed']}"], False
    cells = {} if record is None else record["cells"]
    found["cells"] = {}
    for column in experiment.table.columns:
        ours = cells.get(column.key)
        why = None
        if isinstance(ours, str):
            why = ours
        elif ours is None:
            given = [*reasons, *(context.data.missing(column.data) if asks_for_data else [])]
            why = "; ".join(dict.fromkeys(given)) or "is not part of this row"
        paper = row.paper.get(column.key)
        found["cells"][column.key] = {"paper": paper, "ours": None if why else ours, "not_run": why}
    return found | {name: record[name] for name in ("settings", "seconds", "commit") if record and name in record}


def _is_of_budget(context: Context, error: Exception) -> bool:
    """Whether what could not be reached is a model that the budget names, not the user."""
    named = {reference for name, reference in context.budget.models.items() if context.models[name] == reference}
    return isinstance(error, UnreachableError) and error.reference in named


def _in_one_line(error: Exception) -> str:
    """What went wrong: a user's mistake in its own words, anything else with its kind."""
    if isinstance(error, UserError):
        return str(error)
    said = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    return said if len(said) <= MOST_CHARACTERS else f"{said[:MOST_CHARACTERS]} ..."


__all__ = ["reproduce", "table_names"]
