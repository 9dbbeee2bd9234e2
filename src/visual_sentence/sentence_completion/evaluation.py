"""How good completions are, beside references that ask no language model.

The answers are compared with the true ones at each query's own size; docs/visual_sentences_evaluation.md defines every
number.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from ..data.sentences import VisualSentence
from ..data.specs import TaskData
from ..data.task_base import Pair, Task
from ..errors import UserError
from ..progress import Tracker, progress_bar
from .answers import Completion
from .completer import Sentence
from .measurements import Measurements
from .prompt_sets import Draws, PromptSet, compose
from .references import copied_input, copied_last_target, nearest_target
from .scoring import BLACK, LABELS, Score, Scoring
from .sheet import SheetRows, check_place

ANSWER = "answer"
# In the order of the report; the first two do not depend on the pairs.
OF_THE_QUERY = ("copy_input", "tokenizer")
OF_THE_PAIRS = ("copy_last_target", "nearest_target")
REFERENCES = ("copy_input", "copy_last_target", "nearest_target", "tokenizer")
# Numbers of pairs that are compared where nothing else is asked for, as far as they fit.
USUAL_PAIRS = (1, 3, 5)
# Queries whose pictures are held at once.
HELD = 64


class Reader(Protocol):
    """What a completer's processor says of the pictures that it takes."""

    @property
    def max_images(self) -> int:
        """The most in a sentence."""

    @property
    def image_processor(self) -> Any:
        """Has `local_fit`."""


class Completer(Protocol):
    """What is measured."""

    @property
    def processor(self) -> Reader:
        """What it knows of the model's pictures."""

    def complete(self, sentences: Sequence[Sentence], batch_size: int = 16, **generation: Any) -> Sequence[Completion]:
        """An answer for each sentence."""

    def reconstruct(self, pictures: Sequence[Image.Image], batch_size: int = 16) -> Sequence[Completion]:
        """The pictures as the image tokenizer alone gives them back."""


@dataclass(frozen=True)
class CompletionSetting:
    """How completions are measured.

    Args:
        pairs: Numbers of pairs before a query, each at least 1; by default those of 1, 3 and 5 that the model reads.
        queries: The most queries; all examples where there are fewer.
        prompt_sets: How many different sets of pairs every query is asked with.
        seed: Of everything random.
        size: Side in pixels that pictures are stretched to before the task; None: they keep their own size.
        instances: Of masks: whether connected parts are compared as instances, too (AJI).

    Raises:
        UserError: If a number is too small.
    """

    pairs: tuple[int, ...] | None = None
    queries: int = 100
    prompt_sets: int = 3
    seed: int = 0
    size: int | None = None
    instances: bool = False

    @property
    def asked_pairs(self) -> tuple[int, ...]:
        """`pairs`, once they are chosen."""
        assert self.pairs is not None
        return self.pairs

    def __post_init__(self) -> None:
        if self.pairs is not None and (not self.pairs or min(self.pairs) < 1):
            raise UserError("A sentence has at least one pair before its query: give numbers such as --pairs 1,3,5.")
        for name in ("queries", "prompt_sets"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is a number of at least 1, found {getattr(self, name)}.")
        if self.pairs is not None:
            object.__setattr__(self, "pairs", tuple(sorted(set(self.pairs))))


def evaluate_completion(
    completer: Completer,
    data: TaskData,
    setting: CompletionSetting,
    pairs_from: TaskData | None = None,
    batch_size: int = 16,
    generation: Mapping[str, Any] | None = None,
    sheet: str | Path | None = None,
) -> dict[str, Any]:
    """Asks a model for the answers of queries after several numbers of pairs, and measures them.

    Args:
        completer: What is measured.
        data: The task, and the examples that queries are made of.
        setting: How it is measured.
        pairs_from: Where pairs are drawn from; by default from `data`, but never of the query's own source picture.
        batch_size: Queries that are completed together.
        generation: Options of `completer.complete`; the model's own by default.
        sheet: Picture of some queries with their pairs and answers, the worst one among them, PNG.

    Returns:
        `task`, `setting` (what was asked of whom) and `results`, for each number of pairs: `pairs`; `dice`, `iou`,
        `aji`, `psnr`, `ssim`, the means over queries, None where they do not apply; `ci95`, `pooled` and `identical`
        as in `Measurements.summary`; `n` queries; `seconds_per_answer`; and `references`, for `copy_input`,
        `copy_last_target`, `nearest_target` and `tokenizer` the same measures.

    Raises:
        UserError: If there are too few sources for so many pairs, an example cannot be read or lacks what the task
            needs, or the pairs do not fit the model.
    """
    if completer.processor.image_processor.local_fit == "crop" and setting.size is None:
        raise UserError(
            "This model sees the middle square of a picture only, so its answers are of no whole query: give --size, "
            "the side that pictures are stretched to first."
        )
    most = (completer.processor.max_images - 2) // 2  # the query and its answer are images, too
    if setting.pairs is None:
        setting = replace(setting, pairs=tuple(count for count in USUAL_PAIRS if count <= max(most, 1)))
    largest = max(setting.asked_pairs)
    if largest > most:
        raise UserError(
            f"{most} pairs fit before a query of this model, you asked for {largest}: it reads "
            f"{completer.processor.max_images} images, the query and the answer among them."
        )
    if sheet is not None:
        check_place(sheet)
    run = _Run(
        completer,
        data,
        setting,
        pairs_from or data,
        batch_size,
        dict(generation or getattr(completer, "default_generation", {})),
    )
    run.rows = SheetRows(largest, data.task.name) if sheet is not None else None
    run.measure()
    if run.rows is not None and sheet is not None:
        run.rows.save(sheet)
    described = {
        "data": data.text,
        "pairs_from": None if pairs_from is None else pairs_from.text,
        **asdict(setting),
        "queries": len(run.queries),
        "sources": len(set(run.sources)),
        "generation": run.generation,
    }
    return {
        "task": data.task.name,
        "setting": described,
        "results": [run.result(count) for count in setting.asked_pairs],
    }


def scoring_of(task: Task, setting: str, instances: bool = False) -> Scoring:
    """How answers of a sentence are read.

    Args:
        task: The task.
        setting: Of the sentence.
        instances: Whether connected parts of masks are compared.
    """
    palette = None
    if task.reads_back == LABELS:
        palette = list(task.palette(setting) or ())
        if BLACK not in palette:  # what has no class is black in the pairs
            palette.append(BLACK)
    return Scoring(task.reads_back, palette, instances)


class _Run:
    """One measurement: which queries, and what was found of them."""

    rows: SheetRows | None = None

    def __init__(
        self,
        completer: Completer,
        data: TaskData,
        setting: CompletionSetting,
        pairs_from: TaskData,
        batch_size: int,
        generation: dict[str, Any],
    ) -> None:
        self.completer, self.data, self.setting, self.pairs_from = completer, data, setting, pairs_from
        self.batch_size, self.generation = batch_size, generation
        self.draws = Draws(setting.seed, setting.size)
        self.queries = self.draws.choose_queries(data, setting.queries)
        self.sources = [data.source.source_of(index) for index in self.queries]
        self.seconds = dict.fromkeys(setting.asked_pairs, 0.0)
        self._scorings: dict[str, Scoring] = {}
        self._of_the_query: dict[tuple[int, str], dict[str, Score]] = {}
        first = self._scoring(self.draws.setting(data, 0, self.queries[0]))
        shape = (first, setting.prompt_sets, len(self.queries))
        self.of_the_query = {name: Measurements(*shape) for name in OF_THE_QUERY}
        self.of_the_pairs = {
            count: {name: Measurements(*shape) for name in (ANSWER, *OF_THE_PAIRS)} for count in setting.asked_pairs
        }

    def measure(self) -> None:
        """Asks every query with every prompt set and every number of pairs."""
        total = self.setting.prompt_sets * len(self.queries) * len(self.setting.asked_pairs)
        with progress_bar("completing", total) as bar:
            for number in range(self.setting.prompt_sets):
                for prompts, setting, replaced, places in self._groups(number):
                    for start in range(0, len(places), HELD):
                        self._ask(number, prompts, setting, replaced, places[start : start + HELD], bar)

    def _groups(self, number: int) -> Iterator[tuple[PromptSet, str, int | None, list[int]]]:
        """The queries of a prompt set, by the pairs that they see."""
        by_setting: dict[str, list[int]] = defaultdict(list)
        for place, index in enumerate(self.queries):
            by_setting[self.draws.setting(self.data, number, index)].append(place)
        for setting, places in by_setting.items():
            asked = {self.sources[place] for place in places}
            prompts = compose(self.pairs_from, number, max(self.setting.asked_pairs), setting, asked, self.draws)
            by_pairs: dict[int | None, list[int]] = defaultdict(list)
            for place in places:
                by_pairs[prompts.replaced(self.sources[place])].append(place)
            for replaced, group in by_pairs.items():
                yield prompts, setting, replaced, group

    def _ask(
        self, number: int, prompts: PromptSet, setting: str, replaced: int | None, places: list[int], bar: Tracker
    ) -> None:
        """Some queries that see the same pairs."""
        scoring = self._scoring(setting)
        queries = [self.draws.query(self.data, self.queries[place], setting) for place in places]
        truths = [scoring.read(query.target) for query in queries]
        self._score_queries(number, setting, places, queries, truths)
        for count in self.setting.asked_pairs:
            pairs = prompts.before(count, replaced)
            shown = scoring.classes_shown(pair.target for pair in pairs)
            started = time.perf_counter()
            answers = self.completer.complete(
                [self._sentence(pairs, query, setting) for query in queries],
                batch_size=self.batch_size,
                **self.generation,
            )
            self.seconds[count] += time.perf_counter() - started
            found = self.of_the_pairs[count]
            for place, query, truth, answer in zip(places, queries, truths, answers, strict=True):
                read = scoring.read(drawn_picture(answer), query.input.size, shown)
                score = scoring.score(read, truth)
                found[ANSWER].add(number, place, score)
                last, nearest = copied_last_target(pairs), nearest_target(pairs, query.input)
                copied = _copied(scoring, last, query, truth)
                found["copy_last_target"].add(number, place, copied)
                if nearest is not last:
                    copied = _copied(scoring, nearest, query, truth)
                found["nearest_target"].add(number, place, copied)
                if self.rows is not None and number == 0 and count == max(self.setting.asked_pairs):
                    self.rows.add(place, pairs, query, scoring.draw(read), score)
            bar.advance(len(places))

    def _score_queries(
        self, number: int, setting: str, places: list[int], queries: list[Pair], truths: list[np.ndarray]
    ) -> None:
        """The references that do not look at the pairs, once for each query and setting."""
        scoring = self._scoring(setting)
        new = [at for at, place in enumerate(places) if (place, setting) not in self._of_the_query]
        targets = [queries[at].target for at in new]
        rebuilt = self.completer.reconstruct(targets, self.batch_size)
        for at, picture in zip(new, rebuilt, strict=True):
            query, truth = queries[at], truths[at]
            self._of_the_query[places[at], setting] = {
                "copy_input": _copied(scoring, copied_input(query), query, truth),
                "tokenizer": scoring.score(scoring.read(drawn_picture(picture), query.input.size), truth),
            }
        for place in places:
            for name, score in self._of_the_query[place, setting].items():
                self.of_the_query[name].add(number, place, score)

    def _sentence(self, pairs: tuple[Pair, ...], query: Pair, setting: str) -> VisualSentence:
        sources = (*(pair.source for pair in pairs), query.source)
        return VisualSentence(pairs, query.input, query.target, self.data.task.name, setting, sources)

    def _scoring(self, setting: str) -> Scoring:
        if setting not in self._scorings:
            self._scorings[setting] = scoring_of(self.data.task, setting, self.setting.instances)
        return self._scorings[setting]

    def result(self, count: int) -> dict[str, Any]:
        """What was found with so many pairs."""
        seed = self.setting.seed
        found = self.of_the_query | self.of_the_pairs[count]
        answers = self.setting.prompt_sets * len(self.queries)
        return {
            "pairs": count,
            **found[ANSWER].summary(self.sources, seed),
            "n": len(self.queries),
            "seconds_per_answer": self.seconds[count] / answers,
            "references": {name: found[name].summary(self.sources, seed) for name in REFERENCES},
        }


def drawn_picture(answer: Completion) -> Image.Image:
    """What the model drew, at its own resolution, in 8 bits."""
    values = answer.pixel_values.detach().float().cpu().add(1).mul(127.5).round().clamp(0, 255)
    return Image.fromarray(values.byte().permute(1, 2, 0).numpy())


def _copied(scoring: Scoring, target: Image.Image, query: Pair, truth: np.ndarray) -> Score:
    """The score of another picture as the answer, brought to the query's size."""
    if target.size != query.input.size:
        target = target.resize(query.input.size, scoring.resampling)
    return scoring.score(scoring.read(target), truth)
