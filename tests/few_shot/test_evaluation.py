"""Few-shot evaluation on made-up episodes: every number by hand, and the command that prints them."""

import json
import sys
from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch
from datasets import Dataset, Features, List, Value
from datasets import Image as ImageFeature
from PIL import Image

from visual_sentence import LanguageModel, UserError
from visual_sentence.completion import CompletionModel, LocalCompletions
from visual_sentence.few_shot.evaluation import (
    FewShotSetting,
    _shuffled,
    _summary,
    evaluate_few_shot,
    load_episodes,
    nearest_class_mean,
)
from visual_sentence.metrics import metric_path
from visual_sentence.modeling import V2LImageProcessor
from visual_sentence.words import ImageWords, WordFinder
from visual_sentence_cli import main

FEATURES = Features(
    {
        "way": Value("int64"),
        "shot": Value("int64"),
        "class_names": List(Value("string")),
        "class_wnids": List(Value("string")),
        "support_images": List(ImageFeature()),
        "support_labels": List(Value("int64")),
        "query_image": ImageFeature(),
        "query_label": Value("int64"),
    }
)
FIELDS = ["way", "shot", "accuracy", "ci95", "n", "chance", "seconds_per_episode", "nearest_class_mean"]
REMOVED = ["accuracy_classes_removed", "ci95_classes_removed", "nearest_class_mean_classes_removed"]


@pytest.fixture(scope="module")
def shown() -> list[Image.Image]:
    generator = np.random.default_rng(3)
    return [Image.fromarray(generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)) for _ in range(8)]


@pytest.fixture(scope="module")
def episodes_file(shown, tmp_path_factory) -> str:
    """Three episodes of 2 ways and 1 shot, two of 2 ways and 2 shots, on eight pictures."""

    def episode(shot: int, support: list[int], query: int, label: int) -> dict:
        return {
            "way": 2,
            "shot": shot,
            "class_names": ["goldfish", "French_bulldog"],
            "class_wnids": ["n1", "n4"],
            "support_images": [shown[index] for index in support],
            "support_labels": [0, 1] * shot,
            "query_image": shown[query],
            "query_label": label,
        }

    rows = [
        episode(1, [0, 1], 2, 0),
        episode(2, [0, 1, 2, 3], 4, 1),
        episode(1, [2, 3], 3, 1),
        episode(1, [4, 5], 6, 0),
        episode(2, [4, 5, 6, 7], 5, 1),
    ]
    path = tmp_path_factory.mktemp("episodes") / "episodes.parquet"
    Dataset.from_list(rows, features=FEATURES).to_parquet(path)
    return str(path)


@pytest.fixture
def language_model(llama, bpe_tokenizer) -> CompletionModel:
    return LocalCompletions(LanguageModel(llama, bpe_tokenizer, "tiny"))


@pytest.fixture
def make_finder(make_v2l):
    return lambda tower="clip": WordFinder(make_v2l(tower), V2LImageProcessor(global_size=32))


def test_episodes_are_read_in_order_and_each_picture_once(episodes_file, shown):
    episodes = load_episodes(episodes_file)
    assert [(episode.way, episode.shot) for episode in episodes.episodes] == [(2, 1), (2, 2), (2, 1), (2, 1), (2, 2)]
    assert len(episodes.images) == len(shown)
    assert episodes.class_ids == ["n1", "n4"]
    first = episodes.episodes[0]
    assert (first.class_names, first.support_labels, first.query_label) == (("goldfish", "French_bulldog"), (0, 1), 0)
    assert episodes.episodes[2].query == episodes.episodes[2].support[1]  # the same bytes, the same key
    decoded = dict(zip(episodes.images, episodes.pictures(), strict=True))
    assert np.array_equal(np.asarray(decoded[first.query]), np.asarray(shown[2]))


@pytest.mark.parametrize(("limit", "counts"), [(1, [1, 1]), (2, [2, 2]), (9, [3, 2])])
def test_limit_counts_each_setting_by_itself(limit, counts, episodes_file):
    settings = [episode.shot for episode in load_episodes(episodes_file, limit).episodes]
    assert [settings.count(1), settings.count(2)] == counts


def test_missing_columns_and_episodes_are_refused(episodes_file, tmp_path, monkeypatch):
    table = Dataset.from_parquet(episodes_file)
    table.remove_columns(["query_label", "way"]).to_parquet(tmp_path / "few.parquet")
    with pytest.raises(UserError, match=r"few\.parquet has no column way, query_label: episodes need"):
        load_episodes(str(tmp_path / "few.parquet"))
    monkeypatch.setattr("visual_sentence.few_shot.evaluation.load_table", lambda reference: table.select([]))
    with pytest.raises(UserError, match="none holds no episode"):
        load_episodes("none")


def test_class_identifiers_may_be_missing(episodes_file, tmp_path):
    Dataset.from_parquet(episodes_file).remove_columns(["class_wnids"]).to_parquet(tmp_path / "plain.parquet")
    assert load_episodes(str(tmp_path / "plain.parquet")).class_ids == []


def test_nearest_class_mean_by_hand():
    support = torch.tensor([[0.0, 0.0], [4.0, 0.0], [4.0, 0.0], [4.0, 4.0]])
    labels = torch.tensor([0, 1, 0, 1])
    # means are (2, 0) and (4, 2); (3.1, 0.8) is 1.36 from the first and 1.50 from the second
    assert nearest_class_mean(support, labels, torch.tensor([3.1, 0.8]), way=2) == 0
    assert nearest_class_mean(support, labels, torch.tensor([3.2, 1.0]), way=2) == 1


def test_summary_by_hand():
    rows = [
        {"prediction": 0, "reference": 0, "nearest": 0, "seconds": 1.0},
        {"prediction": 1, "reference": 0, "nearest": 0, "seconds": 2.0},
        {"prediction": -1, "reference": 1, "nearest": 0, "seconds": 3.0},
        {"prediction": 1, "reference": 1, "nearest": 1, "seconds": 4.0},
        {"prediction": 1, "reference": 1, "nearest": 0, "seconds": 5.0},
    ]
    summary = _summary(2, 5, rows)
    # 3 of 5 are right: 1.96 * sqrt(0.6 * 0.4 / 5) = 0.42942
    assert summary == {
        "way": 2,
        "shot": 5,
        "accuracy": pytest.approx(0.6),
        "ci95": pytest.approx(0.42942, abs=1e-5),
        "n": 5,
        "chance": 0.5,
        "seconds_per_episode": 3.0,
        "nearest_class_mean": pytest.approx(0.6),
    }


def test_the_metric_loads_offline_as_an_evaluate_module():
    metric = evaluate.load(metric_path("few_shot_accuracy"))
    metric.add_batch(predictions=[0, 1], references=[0, 0], way=[2, 4])
    metric.add_batch(predictions=[-1, 3], references=[1, 3], way=[4, 4])
    result = metric.compute()
    assert result == {
        "accuracy": 0.5,
        "ci95": pytest.approx(1.96 * 0.25),
        "n": 4,
        "chance": pytest.approx((0.5 + 3 * 0.25) / 4),
    }


def test_shuffling_gives_every_picture_the_words_of_another():
    known = {
        str(index): ImageWords([f"word{index}"], [[index]], [0.5], torch.full((2,), float(index)))
        for index in range(20)
    }
    shuffled = _shuffled(known, seed=0)
    assert list(shuffled) == list(known)
    assert all(shuffled[key].words != known[key].words for key in known)
    assert sorted(item.words for item in shuffled.values()) == sorted(item.words for item in known.values())
    assert all(torch.equal(shuffled[key].image_embeds, known[key].image_embeds) for key in known)
    again, other = _shuffled(known, seed=0), _shuffled(known, seed=1)
    assert all(again[key].words == shuffled[key].words for key in known)
    assert any(other[key].words != shuffled[key].words for key in known)


def test_results_agree_with_answering_by_hand(make_finder, language_model, episodes_file):
    finder, episodes = make_finder(), load_episodes(episodes_file)
    results = evaluate_few_shot(finder, language_model, episodes, FewShotSetting(2, scoring="likelihood"))
    assert [list(row) for row in results] == [FIELDS, FIELDS]  # a tower without labels: nothing was removed
    assert [(row["way"], row["shot"], row["n"], row["chance"]) for row in results] == [(2, 1, 3, 0.5), (2, 2, 2, 0.5)]

    from visual_sentence.few_shot import Example, InContextClassifier

    known = dict(zip(episodes.images, finder.find(episodes.pictures(), 2), strict=True))
    classifier = InContextClassifier(language_model, scoring="likelihood")
    names = ["goldfish", "French bulldog"]  # underscores are read as spaces
    right = {1: [], 2: []}
    nearest = {1: [], 2: []}
    for episode in episodes.episodes:
        support = [
            Example(tuple(known[key].words), names[label])
            for key, label in zip(episode.support, episode.support_labels, strict=True)
        ]
        label = classifier.classify(support, [known[episode.query].words], names)[0].label
        right[episode.shot].append(label == names[episode.query_label])
        means = []
        for way in range(2):
            chosen = [
                known[key].image_embeds
                for key, other in zip(episode.support, episode.support_labels, strict=True)
                if other == way
            ]
            means.append(sum(chosen) / len(chosen))
        distances = [torch.dist(known[episode.query].image_embeds, mean).item() for mean in means]
        nearest[episode.shot].append(distances.index(min(distances)) == episode.query_label)
    for row in results:
        assert row["accuracy"] == pytest.approx(np.mean(right[row["shot"]]))
        assert row["nearest_class_mean"] == pytest.approx(np.mean(nearest[row["shot"]]))


def test_classes_are_removed_where_the_tower_has_labels(make_finder, language_model, episodes_file):
    finder, episodes = make_finder("conse"), load_episodes(episodes_file)
    setting = FewShotSetting(2)
    for row in evaluate_few_shot(finder, language_model, episodes, setting):
        assert list(row) == FIELDS + REMOVED
    for row in evaluate_few_shot(finder, language_model, episodes, setting, classes_removed=False):
        assert list(row) == FIELDS


def test_removed_labels_change_what_is_seen(make_finder, shown):
    finder = make_finder("conse")
    assert finder.labels == ["n0", "n1", "n2", "n3", "n4", "n5"]
    plain = list(finder.find(shown, 3))
    for excluded in ([], ["n77"]):  # labels that the tower does not know change nothing
        assert [item.words for item in finder.find(shown, 3, excluded_labels=excluded)] == [i.words for i in plain]
    removed = list(finder.find(shown, 3, excluded_labels=["n1", "n4"]))
    assert any(not torch.equal(a.image_embeds, b.image_embeds) for a, b in zip(plain, removed, strict=True))


def test_removed_classes_are_those_of_the_episodes(make_finder, language_model, episodes_file, monkeypatch):
    finder, seen = make_finder("conse"), []
    find = finder.find
    monkeypatch.setattr(
        finder,
        "find",
        lambda *args, excluded_labels, **kwargs: (seen.append(excluded_labels), find(*args, **kwargs))[1],
    )
    evaluate_few_shot(finder, language_model, load_episodes(episodes_file), FewShotSetting(2))
    assert seen == [[], ["n1", "n4"]]


@pytest.fixture
def run(monkeypatch, capsys, v2l_folder, llm_folder, episodes_file):
    """Runs `visual-sentence evaluate few-shot` on the tiny models."""

    def call(*arguments: str) -> tuple[str, str]:
        models = ["--model", str(v2l_folder), "--llm", str(llm_folder), "--device", "cpu", "--dtype", "float32"]
        command = ["visual-sentence", "evaluate", "few-shot", "--data", episodes_file, "--words", "2", *models]
        monkeypatch.setattr(sys, "argv", [*command, *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main()
        output = capsys.readouterr()
        assert not exit_info.value.code, output.err
        return output.out, output.err

    return call


def test_the_command_prints_one_object(run, v2l_folder, llm_folder, episodes_file):
    out, _ = run("--json", "--limit", "2", "--scoring", "likelihood", "--seed", "7", "--shuffle-words")
    printed = json.loads(out)
    assert list(printed) == ["model", "llm", "setting", "results"]
    assert (printed["model"], printed["llm"]) == (str(v2l_folder), str(llm_folder))
    assert printed["setting"] == {
        "words": 2,
        "scoring": "likelihood",
        "prompt": "plain",
        "induction": True,
        "repetitions": 0,
        "shuffle_words": True,
        "seed": 7,
        "data": episodes_file,
        "dtype": "float32",
    }
    assert [sorted(row) for row in printed["results"]] == [sorted(FIELDS)] * 2
    assert [row["n"] for row in printed["results"]] == [2, 2]


def test_the_command_prints_a_table(run):
    lines = run("--limit", "1")[0].splitlines()
    assert len(lines) == 4 and all(line.startswith("|") and line.endswith("|") for line in lines)
    assert "nearest class mean" in lines[0] and lines[2].startswith("| 2 | 1 | 1 |")


@pytest.mark.slow
@pytest.mark.offline_stack
def test_real_models_on_real_episodes(offline_models, monkeypatch, capsys):
    data = Path(__file__).resolve().parents[3] / "shared" / "data" / "few-shot" / "episodes-dev.parquet"
    if not data.is_file():
        pytest.skip(f"needs the episodes {data}")
    command = ["visual-sentence", "evaluate", "few-shot", "--data", str(data), "--limit", "1", "--json"]
    monkeypatch.setattr(sys, "argv", [*command, "--device", "cpu"])
    with pytest.raises(SystemExit) as exit_info:
        main()
    output = capsys.readouterr()
    assert not exit_info.value.code, output.err
    printed = json.loads(output.out)
    assert (printed["model"], printed["llm"]) == ("offline", "offline")
    for row in printed["results"]:
        assert sorted(row) == sorted(FIELDS + REMOVED)
        assert row["n"] == 1 and row["chance"] == pytest.approx(1 / row["way"])
        assert all(0 <= row[name] <= 1 for name in ("accuracy", "nearest_class_mean", "accuracy_classes_removed"))
