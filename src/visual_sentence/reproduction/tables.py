"""What a table is: rows and columns, the paper's numbers in it, and which orderings the paper reads out of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Column:
    """A measure.

    Args:
        key: By which rows name it.
        label: Its name in the paper.
        ours: What is measured in its place, under its true name.
        digits: Behind the decimal point, of ours.
        higher_is_better: Which way is better, in the paper and here.
        unit: Of ours, for the plot's axis.
        is_same_measure: Whether the paper's number is of the same measure, if of other data.
        is_plotted: Whether the plot has a panel for it.
        data: Names of the data that it is measured on, for what to give where a cell is empty.
    """

    key: str
    label: str
    ours: str
    digits: int = 2
    higher_is_better: bool = True
    unit: str = ""
    is_same_measure: bool = False
    is_plotted: bool = True
    data: Sequence[str] = ()


@dataclass(frozen=True)
class Row:
    """A system, or a setting of one.

    Args:
        key: By which it is measured and filed.
        label: Its name.
        paper: The paper's number of each column that it has; empty for a row of ours alone.
        paper_models: What the paper measured it with.
    """

    key: str
    label: str
    paper: Mapping[str, float] = field(default_factory=dict)
    paper_models: str = ""


@dataclass(frozen=True)
class Ordering:
    """A claim: in these columns the first row is better than the second.

    Args:
        better: Key of a row.
        worse: Key of another.
        columns: Keys of the columns in which that is read off ours.
        claim: In words.
    """

    better: str
    worse: str
    columns: Sequence[str]
    claim: str


@dataclass(frozen=True)
class Table:
    """A table or a figure of a paper.

    Args:
        name: As the command takes it.
        title: In words.
        source: Paper and place.
        columns: In order.
        rows: In order.
        orderings: The paper's claims.
        note: What has to be known to read it.
    """

    name: str
    title: str
    source: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    orderings: Sequence[Ordering] = ()
    note: str = ""

    def row(self, key: str) -> Row:
        """The row of that key."""
        return next(row for row in self.rows if row.key == key)


class Experiment(NamedTuple):
    """A table and how its rows are measured.

    Args:
        table: The table.
        settings: (context, row's key) -> all that the row's numbers depend on, as JSON values.
        measure: (context, row's key) -> for each column's key a cell, or a text that says what it needs.
    """

    table: Table
    settings: Callable[[Any, str], dict[str, Any]]
    measure: Callable[[Any, str], dict[str, Any]]


__all__ = ["Column", "Experiment", "Ordering", "Row", "Table"]
