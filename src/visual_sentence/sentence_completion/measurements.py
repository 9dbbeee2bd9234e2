"""Scores of many answers: means, intervals and pooled overlaps.

An answer is of one query under one prompt set. A query's value is the mean over its prompt sets; the mean is over
queries; the interval says how far it would move with other queries.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..metrics import AggregatedJaccard
from .scoring import IMAGE, MEASURES, Score, Scoring

# How often sources are drawn anew for an interval: enough for two digits of its ends.
DRAWS = 2000
SHARE = 0.95
POOLED = ("dice", "iou", "aji")


class Measurements:
    """What was measured of one way to answer.

    Args:
        scoring: What the answers are.
        prompt_sets: P.
        queries: Q.
    """

    def __init__(self, scoring: Scoring, prompt_sets: int, queries: int) -> None:
        self.scoring = scoring
        self.values = {name: np.full((prompt_sets, queries), np.nan) for name in scoring.measures}
        self.overlap = None if scoring.kind == IMAGE else scoring.overlap()
        self.instances = AggregatedJaccard() if scoring.instances else None

    def add(self, prompt_set: int, query: int, score: Score) -> None:
        """Adds one answer.

        Args:
            prompt_set: In [0, P).
            query: In [0, Q).
            score: What `Scoring.score` gave.
        """
        for name, row in self.values.items():
            row[prompt_set, query] = score.values[name]
        if self.overlap is not None and score.counts is not None:
            self.overlap.add_image(score.counts)
        if self.instances is not None and score.instances is not None:
            self.instances.add_image(*score.instances)

    def summary(self, sources: Sequence[str], seed: int) -> dict[str, Any]:
        """The numbers of all answers; a measure that does not apply is None.

        Args:
            sources: Q names of the source pictures that the queries are of.
            seed: Seed of the intervals.

        Returns:
            For each of `MEASURES` the mean over queries; `ci95`, for each its interval [low, high]; `pooled`, `dice`,
            `iou` and `aji` of the pixels of all answers together; `identical`, how many answers equal the true image
            (their PSNR is infinite and not in the mean). Infinite values are given as None: JSON has none.
        """
        queries = {name: _over_sets(values) for name, values in self.values.items()}
        pooled: dict[str, Any] = dict.fromkeys(POOLED)
        if self.overlap is not None:
            found = self.overlap.compute()
            pooled.update({name: found[name] for name in ("dice", "iou")})
        if self.instances is not None:
            pooled["aji"] = self.instances.compute()["aji"]
        return {
            **{name: _mean(queries[name]) if name in queries else None for name in MEASURES},
            "ci95": {name: interval(queries[name], sources, seed) if name in queries else None for name in MEASURES},
            "pooled": pooled,
            "identical": int(np.isposinf(self.values["psnr"]).sum()) if "psnr" in self.values else None,
        }


def _over_sets(values: np.ndarray) -> np.ndarray:
    """[Q] means of [P, Q] over the finite values of each query; infinite where there is none."""
    finite = np.isfinite(values)
    sums, counts = np.where(finite, values, 0).sum(axis=0), finite.sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def _mean(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None


def interval(values: np.ndarray, sources: Sequence[str], seed: int) -> list[float] | None:
    """The 95 % interval of a mean over queries, by the bootstrap (Efron & Tibshirani 1993, chapter 13).

    Source pictures are drawn with replacement, each with all of its queries, since queries of one source are alike; the
    interval lies between the 2.5th and the 97.5th percentile of the means of 2000 draws.

    Args:
        values: [Q]; infinite ones are left out.
        sources: Q names.
        seed: Seed of the draws.

    Returns:
        [low, high]; None where the values are of fewer than two sources.
    """
    finite = np.isfinite(values)
    names, places = np.unique(np.asarray(sources)[finite], return_inverse=True)
    if len(names) < 2:
        return None
    sums = np.bincount(places, weights=values[finite])
    counts = np.bincount(places)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS)
    means = (drawn @ sums) / (drawn @ counts)
    return np.percentile(means, [50 * (1 - SHARE), 50 * (1 + SHARE)]).tolist()
