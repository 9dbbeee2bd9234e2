"""Foreground segmentation on Pascal-5i: the measure by which visual in-context models are compared.

`iou` is that of amirbar/visual_prompting (evaluate/segmentation_utils.py), `miou` that of few-shot segmentation; the
docs (visual_sentences_evaluation.md) say how they differ.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data.pascal5i import CLASS_NAMES, QUERIES, VOID, Episode, PascalFold
from ..data.task_base import Pair
from ..data.tasks_segmentation import black_and_white, label_map_of
from ..errors import UserError
from ..progress import progress_bar
from .completer import Question
from .evaluation import ANSWER, HELD, REFERENCES, Completer, drawn_picture
from .measurements import DRAWS, SHARE, interval
from .references import copied_input, copied_last_target, nearest_target
from .scoring import MASK, Scoring

# The part of visual_prompting's canvas of 224 x 224 pixels in which answers are drawn and compared.
CANVAS_PART = 111


class Overlaps:
    """What was measured of one way to answer, a query at a time."""

    def __init__(self) -> None:
        self.small: list[float] = []
        self.common: list[int] = []
        self.union: list[int] = []

    def add(self, answer: Image.Image, truth: Image.Image, known: np.ndarray) -> None:
        """Compares an answer with the truth.

        Args:
            answer: RGB of any size.
            truth: Black and white, H x W.
            known: [H, W] bool, False where pixels are void.
        """
        scoring = Scoring(MASK)
        given, wanted = (scoring.read(picture, (CANVAS_PART, CANVAS_PART)) for picture in (answer, truth))
        self.small.append(_ratio(int((given & wanted).sum()), int((given | wanted).sum())))
        given, wanted = scoring.read(answer, truth.size), scoring.read(truth)
        self.common.append(int((given & wanted & known).sum()))
        self.union.append(int(((given | wanted) & known).sum()))

    def summary(self, classes: Sequence[int], sources: Sequence[str], seed: int) -> dict[str, Any]:
        """The numbers of all queries.

        Args:
            classes: Q class indices of the queries.
            sources: Q names of the pictures that the queries are of.
            seed: Seed of the intervals.

        Returns:
            `iou`, the mean over queries; `miou`, the mean over classes of `class_iou`; `class_iou`, class name ->
            intersections over unions of all its queries together; `ci95` of `iou` and `miou`.
        """
        known, places = np.unique(classes, return_inverse=True)
        names, owners = np.unique(sources, return_inverse=True)
        common, union = np.zeros((2, len(names), len(known)))
        np.add.at(common, (owners, places), self.common)
        np.add.at(union, (owners, places), self.union)
        by_class = [_ratio(*sums) for sums in zip(common.sum(0).tolist(), union.sum(0).tolist(), strict=True)]
        small = np.array(self.small)
        return {
            "iou": float(small.mean()),
            "miou": float(np.mean(by_class)),
            "class_iou": {CLASS_NAMES[index - 1]: value for index, value in zip(known, by_class, strict=True)},
            "ci95": {"iou": interval(small, sources, seed), "miou": _class_interval(common, union, seed)},
        }


def evaluate_pascal5i(
    completer: Completer,
    root: str | Path,
    fold: int,
    pairs: int = 1,
    queries: int = QUERIES,
    seed: int = 0,
    splits: str | Path | None = None,
    size: int | None = None,
    batch_size: int = 16,
    generation: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Asks a model for the masks of one fold's queries, and measures them.

    Args:
        completer: What is measured.
        root: Pascal VOC 2012, see `PascalFold`.
        fold: In [0, 4).
        pairs: Pairs before each query.
        queries: How many are asked.
        seed: Of the draws and the intervals.
        splits: The folds' lists, see `PascalFold`.
        size: Side in pixels that pictures are stretched to first; None: they keep their own size.
        batch_size: Queries that are completed together.
        generation: Options of `completer.complete`; the model's own by default.

    Returns:
        `fold`, `setting` (what was asked of whom), what `Overlaps.summary` gives, `n` queries, `sources` of them,
        `seconds_per_answer`, and `references`, for each the same measures.

    Raises:
        UserError: If the data are not as described, a class has too few pictures, or the pairs do not fit the model.
    """
    _check_fits(completer, pairs, size)
    data = PascalFold(root, fold, splits)
    episodes = data.episodes(queries, pairs, seed)
    generation = dict(generation or getattr(completer, "default_generation", {}))
    found = {name: Overlaps() for name in (ANSWER, *REFERENCES)}
    seconds = 0.0
    with progress_bar(f"fold {fold}", len(episodes)) as bar:
        for start in range(0, len(episodes), HELD):
            asked = [_read(data, episode, size) for episode in episodes[start : start + HELD]]
            started = time.perf_counter()
            answers = completer.complete(
                [Question(shown, query.input) for shown, query, _ in asked], batch_size=batch_size, **generation
            )
            seconds += time.perf_counter() - started
            rebuilt = completer.reconstruct([query.target for _, query, _ in asked], batch_size)
            for (shown, query, known), answer, again in zip(asked, answers, rebuilt, strict=True):
                given = {
                    ANSWER: drawn_picture(answer),
                    "copy_input": copied_input(query),
                    "copy_last_target": copied_last_target(shown),
                    "nearest_target": nearest_target(shown, query.input),
                    "tokenizer": drawn_picture(again),
                }
                for name, picture in given.items():
                    found[name].add(picture, query.target, known)
            bar.advance(len(asked))
    classes = [episode.query.class_index for episode in episodes]
    sources = [episode.query.name for episode in episodes]
    measured = {name: one.summary(classes, sources, seed) for name, one in found.items()}
    described = {
        "classes": data.class_names,
        "list": data.list_name,
        "entries": len(data.entries),
        "masks": data.annotations,
        "pairs": pairs,
        "seed": seed,
        "size": size,
        "generation": generation,
    }
    return {
        "fold": fold,
        "setting": described,
        **measured[ANSWER],
        "n": len(episodes),
        "sources": len(set(sources)),
        "seconds_per_answer": seconds / len(episodes),
        "references": {name: measured[name] for name in REFERENCES},
    }


def mean_over_folds(folds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`iou` and `miou` as means over folds, and the `folds`: the form in which papers report them.

    Args:
        folds: What `evaluate_pascal5i` gave, at least one.
    """
    return {**{name: float(np.mean([fold[name] for fold in folds])) for name in ("iou", "miou")}, "folds": list(folds)}


def _check_fits(completer: Completer, pairs: int, size: int | None) -> None:
    """Refuses what the model cannot read, before any picture is."""
    if completer.processor.image_processor.local_fit == "crop" and size is None:
        raise UserError(
            "This model sees the middle square of a picture only, so its answers are of no whole query: give --size, "
            "the side that pictures are stretched to first."
        )
    most = (completer.processor.max_images - 2) // 2  # the query and its answer are images, too
    if pairs > most:
        raise UserError(f"{most} pairs fit before a query of this model, you asked for {pairs}: ask for fewer.")


def _read(data: PascalFold, episode: Episode, size: int | None) -> tuple[list[Pair], Pair, np.ndarray]:
    """The pairs, the query, and which of its pixels [H, W] are not void."""
    pairs, wanted = [], episode.query.class_index
    for name in (*episode.supports, episode.query.name):
        example = data.example(name, wanted)
        if size is not None:
            example = example.stretched((size, size))
        labels = label_map_of(example)
        pairs.append(Pair(example.image, black_and_white(labels == wanted), name))
    return pairs[:-1], pairs[-1], labels != VOID


def _ratio(common: float, union: float) -> float:
    """IoU; empty against empty is 1."""
    return common / union if union else 1.0


def _class_interval(common: np.ndarray, union: np.ndarray, seed: int) -> list[float] | None:
    """The interval of a mean over classes, with the draws of `interval`.

    Args:
        common: [S, K] pixels of S sources and K classes.
        union: As `common`.
        seed: Seed of the draws.
    """
    count = len(common)
    if count < 2:
        return None
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), DRAWS)
    unions = drawn @ union
    # a class that a draw has no picture of is not in that draw's mean
    means = np.nanmean(np.divide(drawn @ common, unions, out=np.full_like(unions, np.nan), where=unions > 0), axis=1)
    return np.percentile(means, [50 * (1 - SHARE), 50 * (1 + SHARE)]).tolist()
