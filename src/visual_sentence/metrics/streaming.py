"""The base of this package's `evaluate` modules: batches become numbers as they come.

`evaluate` keeps what is added in Arrow files, which other processes' files are joined to. Images would be copied there
whole, so each batch is reduced first, and only a row of numbers an image is kept. Adding in pieces, all at once, or in
several processes (`num_process`, `process_id`, `experiment_id`) therefore gives the same result.

A module imports this file, not the class: `evaluate` takes the first metric class that it finds among a module's names
for the module itself.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import evaluate
import numpy as np
import torch

from ..errors import UserError

Batch = torch.Tensor | np.ndarray | Sequence[Any]


class StreamingMetric(evaluate.Metric):
    """An `evaluate` metric that keeps the columns of `reduce` instead of its inputs.

    Class attributes:
        batch_options: Names of further inputs that every batch needs and `reduce` takes.
    """

    batch_options: tuple[str, ...] = ()

    def reduce(self, predictions: Batch, references: Batch | None, **options: Any) -> dict[str, list]:
        """Turns a batch into columns, one value an image, as `_info` declares them.

        Args:
            predictions: A batch, as `pieces` takes it.
            references: As `predictions`; None for metrics without references.
            **options: Those of `batch_options`.
        """
        raise NotImplementedError  # each module of the metrics has its own columns

    def add_batch(self, *, predictions: Batch | None = None, references: Batch | None = None, **options: Any) -> None:
        """Adds a batch.

        Args:
            predictions: See `inputs_description`.
            references: See `inputs_description`.
            **options: Those of `batch_options`.

        Raises:
            UserError: If inputs are missing, unequal in number, or not what the metric measures.
        """
        unknown = set(options) - set(self.batch_options)
        if unknown:
            raise UserError(f"{self.name} has no input called {', '.join(sorted(unknown))}.")
        needed = {"predictions": predictions, "references": references}
        needed = {name: needed[name] for name in self.features}
        needed.update({name: options.get(name) for name in self.batch_options})
        for name, value in needed.items():
            if value is None:
                raise UserError(f"{self.name} needs {name}, found none: give {', '.join(needed)} with each batch.")
        assert predictions is not None  # it is needed of all
        if references is not None and len(predictions) != len(references):
            raise UserError(
                f"Found {len(predictions)} predictions for {len(references)} references: give one for each."
            )
        super().add_batch(**self.reduce(predictions, references, **options))

    def add(self, *, prediction: Any = None, reference: Any = None, **options: Any) -> None:
        """Adds one image; see `add_batch`."""
        self.add_batch(
            predictions=None if prediction is None else [prediction],
            references=None if reference is None else [reference],
            **options,
        )

    def compute(
        self, *, predictions: Batch | None = None, references: Batch | None = None, **options: Any
    ) -> dict[str, Any] | None:
        """Adds a last batch, where one is given, and computes the result.

        Returns:
            The result on the first process, None on the others.

        Raises:
            UserError: If nothing was added, or as in `add_batch`.
        """
        own = {name: options.pop(name) for name in self.batch_options if name in options}
        if predictions is not None or references is not None:
            self.add_batch(predictions=predictions, references=references, **own)
        if self.writer is None:
            raise UserError(f"Nothing was added to {self.name}, so there is no result: add a batch first.")
        return super().compute(**options)


def pieces(predictions: Batch, references: Batch) -> Iterator[tuple[Any, Any]]:
    """Cuts a batch into parts that can be computed at once.

    Args:
        predictions: An array or tensor with a batch dimension, or a sequence of arrays of any sizes without one.
        references: As `predictions`.

    Yields:
        Both whole, where both are arrays or tensors; else image by image, each with a batch dimension of 1.
    """
    if all(isinstance(part, torch.Tensor | np.ndarray) for part in (predictions, references)):
        yield predictions, references
        return
    for pair in zip(predictions, references, strict=True):
        prediction, reference = (np.asarray(part) if isinstance(part, list | tuple) else part for part in pair)
        yield prediction[None], reference[None]


def columns(**values: torch.Tensor) -> dict[str, list]:
    """One row of named numbers an image, in the column of the predictions; the references' column stays empty.

    Args:
        **values: [B] each.
    """
    names, lists = list(values), [part.tolist() for part in values.values()]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*lists, strict=True)]
    return {"predictions": rows, "references": [None] * len(rows)}
