"""N-way K-shot evaluation on fixed episodes (V2L Tokenizer, section 4.2 and table 1).

Beside the language model's accuracy stand two numbers that keep it honest: nearest class mean on the same image
embeddings, which needs no language model, and the same run with the episodes' own classes taken out of the image
tower's label list, where the tower has one.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from io import BytesIO
from random import Random
from typing import Any

import torch
from datasets import Image as ImageFeature
from PIL import Image

from ..completion import CompletionModel
from ..errors import UserError
from ..image_io import load_table
from ..metrics.few_shot_accuracy.few_shot_accuracy import FewShotAccuracy
from ..modeling.image_processing_v2l import to_rgb
from ..progress import progress_bar
from ..words import Finder, ImageWords
from .classifier import BEST_SCORING, DEFAULT_PROMPT, InContextClassifier
from .prompts import ClassificationPrompt, Example

COLUMNS = ("way", "shot", "class_names", "support_images", "support_labels", "query_image", "query_label")


@dataclass(frozen=True)
class Episode:
    """One question: N classes, K pictures of each, one query.

    Args:
        way: N.
        shot: K.
        class_names: The N names.
        class_ids: Their identifiers (WordNet ids), empty where the data has none.
        support: Keys of the N * K example pictures, in the order in which they are shown.
        support_labels: Index of each one's class.
        query: Key of the query picture.
        query_label: Index of its class.
    """

    way: int
    shot: int
    class_names: tuple[str, ...]
    class_ids: tuple[str, ...]
    support: tuple[str, ...]
    support_labels: tuple[int, ...]
    query: str
    query_label: int


@dataclass(frozen=True)
class EpisodeSet:
    """Episodes and the pictures that they refer to.

    Args:
        episodes: The questions, in the data's order.
        images: Key -> encoded picture; each picture once, however many episodes show it.
    """

    episodes: list[Episode]
    images: dict[str, bytes]

    @property
    def class_ids(self) -> list[str]:
        """Every class identifier that occurs, sorted."""
        return sorted({class_id for episode in self.episodes for class_id in episode.class_ids})

    def pictures(self) -> Iterator[Image.Image]:
        """The distinct pictures, decoded one at a time."""
        for content in self.images.values():
            with Image.open(BytesIO(content)) as image:
                yield to_rgb(image)


def load_episodes(reference: str, limit: int | None = None) -> EpisodeSet:
    """Reads episodes.

    Args:
        reference: Parquet files, a saved data set or a Hub id with the columns `way`, `shot`, `class_names`,
            `support_images`, `support_labels`, `query_image`, `query_label`, and `class_wnids` where known.
        limit: Only the first so many episodes of each (way, shot).

    Raises:
        UserError: If it cannot be read, lacks a column or has no episode.
    """
    data = load_table(reference)
    missing = [column for column in COLUMNS if column not in (data.features or {})]
    if missing:
        raise UserError(f"{reference} has no column {', '.join(missing)}: episodes need {', '.join(COLUMNS)}.")
    rows = _without_decoding(data)
    seen: dict[tuple[int, int], int] = defaultdict(int)
    episodes, images = [], {}
    for row in rows:
        setting = (row["way"], row["shot"])
        seen[setting] += 1
        if limit is not None and seen[setting] > limit:
            continue
        support = tuple(_remember(images, picture["bytes"]) for picture in row["support_images"])
        query = _remember(images, row["query_image"]["bytes"])
        labels = (tuple(row["support_labels"]), query, row["query_label"])
        names = (tuple(row["class_names"]), tuple(row.get("class_wnids") or ()))
        episodes.append(Episode(*setting, *names, support, *labels))
    if not episodes:
        raise UserError(f"{reference} holds no episode.")
    return EpisodeSet(episodes, images)


def _without_decoding(data: Any) -> Any:
    """The same table with pictures as bytes, so that each distinct one is decoded once."""
    data = data.cast_column("query_image", ImageFeature(decode=False))
    feature = data.features["support_images"]
    return data.cast_column("support_images", type(feature)(ImageFeature(decode=False)))


def _remember(images: dict[str, bytes], content: bytes) -> str:
    """Files a picture under the digest of its bytes and gives that key."""
    key = sha256(content).hexdigest()
    images.setdefault(key, content)
    return key


@dataclass(frozen=True)
class FewShotSetting:
    """How episodes are answered.

    Args:
        num_words: k, words an image; the model's own number where None.
        scoring: One of `SCORING_MODES`.
        prompt: The prompt.
        shuffle_words: Control: every picture gets the words of another one; accuracy must fall to chance.
        seed: Of that shuffling.
    """

    num_words: int | None
    scoring: str = BEST_SCORING
    prompt: ClassificationPrompt = DEFAULT_PROMPT
    shuffle_words: bool = False
    seed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The setting as it is printed."""
        return {
            "words": self.num_words,
            "scoring": self.scoring,
            "prompt": self.prompt.style,
            "induction": self.prompt.induction,
            "repetitions": self.prompt.repetitions,
            "shuffle_words": self.shuffle_words,
            "seed": self.seed,
        }


def evaluate_few_shot(
    finder: Finder,
    language_model: CompletionModel,
    episode_set: EpisodeSet,
    setting: FewShotSetting,
    classes_removed: bool = True,
) -> list[dict[str, Any]]:
    """Answers every episode.

    Args:
        finder: The V2L model.
        language_model: The frozen language model, in this process or served.
        episode_set: The questions.
        setting: How they are answered.
        classes_removed: Whether to answer them once more with the episodes' classes taken out of the image tower's
            labels; nothing is added where the tower has no such labels.

    Returns:
        One dict for each (way, shot): `way, shot, accuracy, ci95` (half width), `n, seconds_per_episode` (language
        model only), `chance, nearest_class_mean`, and, where classes were removed, `accuracy_classes_removed`,
        `ci95_classes_removed` and `nearest_class_mean_classes_removed`. Accuracies lie in [0, 1].
    """
    results = _evaluate(finder, language_model, episode_set, setting, excluded=[])
    known = sorted(set(episode_set.class_ids) & set(finder.labels))
    if classes_removed and known:
        removed = _evaluate(finder, language_model, episode_set, setting, excluded=known)
        for result, other in zip(results, removed, strict=True):
            for name in ("accuracy", "ci95", "nearest_class_mean"):
                result[f"{name}_classes_removed"] = other[name]
    return results


def _evaluate(
    finder: Finder,
    language_model: CompletionModel,
    episode_set: EpisodeSet,
    setting: FewShotSetting,
    excluded: Sequence[str],
) -> list[dict[str, Any]]:
    """One pass over all episodes with some of the image tower's labels left out."""
    # First, because it refuses what this model cannot do.
    classifier = InContextClassifier(language_model, prompt=setting.prompt, scoring=setting.scoring)
    found = finder.find(
        episode_set.pictures(), setting.num_words, excluded_labels=excluded, total=len(episode_set.images)
    )
    known = dict(zip(episode_set.images, found, strict=True))
    if setting.shuffle_words:
        known = _shuffled(known, setting.seed)
    answers: dict[tuple[int, int], list[dict]] = defaultdict(list)
    label = "classes removed" if excluded else "answering episodes"
    with progress_bar(label, total=len(episode_set.episodes)) as bar:
        for episode in episode_set.episodes:
            answers[episode.way, episode.shot].append(_answer(episode, known, classifier))
            bar.advance()
    return [_summary(way, shot, rows) for (way, shot), rows in sorted(answers.items())]


def _answer(episode: Episode, known: dict[str, ImageWords], classifier: InContextClassifier) -> dict[str, Any]:
    """Answers one episode by the language model and by nearest class mean."""
    names = [name.replace("_", " ") for name in episode.class_names]
    support = [
        Example(tuple(known[key].words), names[label])
        for key, label in zip(episode.support, episode.support_labels, strict=True)
    ]
    start = time.perf_counter()
    answer = classifier.classify(support, [known[episode.query].words], names)[0]
    seconds = time.perf_counter() - start
    return {
        "prediction": names.index(answer.label) if answer.label is not None else -1,
        "reference": episode.query_label,
        "nearest": nearest_class_mean(
            torch.stack([known[key].image_embeds for key in episode.support]),
            torch.tensor(episode.support_labels),
            known[episode.query].image_embeds,
            episode.way,
        ),
        "seconds": seconds,
    }


def nearest_class_mean(support: torch.Tensor, labels: torch.Tensor, query: torch.Tensor, way: int) -> int:
    """The class whose mean embedding is nearest to the query's.

    Args:
        support: [S, D] float32.
        labels: [S] int64 in [0, way).
        query: [D] float32.
        way: N; every class has at least one example.

    Returns:
        Index of the class.
    """
    means = torch.stack([support[labels == label].mean(dim=0) for label in range(way)])
    return int(torch.cdist(query[None], means).argmin())


def _shuffled(known: dict[str, ImageWords], seed: int) -> dict[str, ImageWords]:
    """Gives every picture the words of another one; embeddings stay where they are."""
    order = list(known)
    Random(seed).shuffle(order)
    donors = dict(zip(order, [*order[1:], *order[:1]], strict=True))
    return {key: replace(item, words=known[donors[key]].words) for key, item in known.items()}


def _summary(way: int, shot: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The numbers of one (way, shot)."""
    references = [row["reference"] for row in rows]
    metric = FewShotAccuracy()
    scores = metric.compute(
        predictions=[row["prediction"] for row in rows], references=references, way=[way] * len(rows)
    )
    nearest = sum(row["nearest"] == row["reference"] for row in rows) / len(rows)
    return {
        "way": way,
        "shot": shot,
        **(scores or {}),
        "seconds_per_episode": sum(row["seconds"] for row in rows) / len(rows),
        "nearest_class_mean": nearest,
    }
