"""Tables 1, 2 and 5 of the V2L Tokenizer, on tiny models: which episodes a column asks, and what a cell holds."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from visual_sentence.few_shot.evaluation import load_episodes
from visual_sentence.image_io import open_image
from visual_sentence.reproduction import words_tables
from visual_sentence.reproduction.workspace import NotRunnableError
from visual_sentence.words import WordFinder

# way, shot, classes named, repetitions: the columns of table 1 by key
COLUMNS = {
    f"{way}-{key}": (way, *setting)
    for way in (2, 5)
    for key, setting in {
        "1-unnamed": (1, False, 0),
        "1": (1, True, 0),
        "3": (3, True, 0),
        "5": (5, True, 0),
        "1-r1": (1, True, 1),
        "1-r3": (1, True, 3),
        "1-r5": (1, True, 5),
    }.items()
}


@pytest.fixture
def episodes(episodes_file):
    return load_episodes(episodes_file)


@pytest.fixture
def answers():
    """Answers as many episodes rightly as there are shots, of ten; remembers what was asked."""
    asked = []

    def answer(chosen, setting) -> list[dict]:
        asked.append((chosen, setting))
        return [{"accuracy": chosen.episodes[0].shot / 10, "n": 10, "nearest_class_mean": 0.25}]

    answer.asked = asked
    return answer


def test_columns_are_those_of_the_papers_table():
    table = words_tables.TABLE_1
    assert [column.key for column in table.columns if "average" not in column.key] == list(COLUMNS)
    assert [column.key for column in words_tables.TABLE_5.columns] == [
        *[key for key in COLUMNS if key[0] == "2"],
        "2-average",
    ]


def test_each_column_asks_its_own_episodes_in_its_own_way(make_context, episodes, answers):
    words_tables._accuracies(make_context(most_repeats=5), episodes, 21, answers, (2, 5))
    found = [
        (one.episodes[0].way, one.episodes[0].shot, setting.prompt.induction, setting.prompt.repetitions)
        for one, setting in answers.asked
    ]
    assert found == list(COLUMNS.values())
    for chosen, setting in answers.asked:
        assert len({(one.way, one.shot) for one in chosen.episodes}) == 1 and len(chosen.episodes) == 2
        assert (setting.num_words, setting.scoring, setting.prompt.style) == (21, "calibrated", "plain")


def test_only_pictures_of_the_episodes_that_are_asked_are_looked_at(episodes):
    chosen = words_tables._only(episodes, 2, 3)
    assert set(chosen.images) == {key for one in chosen.episodes for key in (*one.support, one.query)}
    assert len(chosen.images) == 2 * 7 < len(episodes.images)


def test_cells_are_percents_and_their_average_counts_every_column(make_context, episodes, answers):
    cells = words_tables._accuracies(make_context(most_repeats=5), episodes, 5, answers, (2,))
    assert [cell["value"] for cell in cells.values()] == pytest.approx([10, 10, 30, 50, 10, 10, 10, 130 / 7])
    assert [cell["n"] for cell in cells.values()] == [10] * 7 + [70]
    assert cells["2-3"]["nearest_class_mean"] == 25 and cells["2-3"]["words"] == 5
    for cell in cells.values():
        low, high = cell["ci95"]
        assert 0 <= low < cell["value"] < high <= 100


def test_columns_of_more_repeats_than_the_budget_has_are_left_out_of_the_average_too(make_context, episodes, answers):
    cells = words_tables._accuracies(make_context(most_repeats=1), episodes, 5, answers, (2,))
    left_out = {key: cell for key, cell in cells.items() if isinstance(cell, str)}
    assert set(left_out) == {"2-1-r3", "2-1-r5"} and all("--budget full" in reason for reason in left_out.values())
    assert cells["2-average"]["value"] == pytest.approx((10 + 10 + 30 + 50 + 10) / 5)


def test_episodes_that_are_missing_are_named(episodes):
    fewer = replace(episodes, episodes=[one for one in episodes.episodes if one.way == 2])
    with pytest.raises(NotRunnableError, match="needs episodes of 5 ways and 3 shots, of which the given ones have"):
        words_tables._only(fewer, 5, 3)


@pytest.mark.parametrize("row", ["v2l-5:llm", "spae-5"])
def test_a_row_of_table_1_is_measured_with_given_models(
    row, make_context, v2l_folder, llm_folder, episodes_file, spae, save
):
    models = {"words": str(v2l_folder), "llm": str(llm_folder), "spae": str(save(spae))}
    context = make_context(data=(f"episodes={episodes_file}",), models=models, episodes=1, most_repeats=0)
    cells = words_tables.measure_few_shot(context, row)
    assert cells.keys() == {column.key for column in words_tables.TABLE_1.columns}
    measured = {key: cell for key, cell in cells.items() if not isinstance(cell, str)}
    assert len(measured) == 2 * (4 + 1)
    assert all(cell["value"] in (0, 100) and cell["n"] == 1 for key, cell in measured.items() if "av" not in key)
    assert cells["2-average"]["n"] == 4 and all(cell["words"] == 5 for cell in measured.values())
    assert not (context.workspace.folder / "made").exists()
    assert json.loads(json.dumps(cells)) == cells


@pytest.mark.parametrize(
    ("row", "needs"),
    [
        ("spae-5-palm", "needs PaLM-2, whose weights are not published"),
        ("v2l-5:llm-13b", r"in place of LLaMA-2 13B and a machine for it: --models llm-13b=REFERENCE"),
        ("v2l-21:llm-70b", r"in place of LLaMA-2 70B and a machine for it: --models llm-70b=REFERENCE"),
        ("v2l-5:llm", r"needs few-shot episodes .*--data episodes=REFERENCE"),
    ],
)
def test_a_row_of_table_1_says_what_it_needs(row, needs, make_context):
    with pytest.raises(NotRunnableError, match=needs):
        words_tables.measure_few_shot(make_context(), row)


def test_words_are_measured_against_their_pictures_by_hand(make_context, v2l_folder, picture_folder):
    context = make_context(data=(f"test-pictures={picture_folder}",), models={"words": str(v2l_folder)})
    cells = words_tables.measure_fit(context, "v2l-5")
    finder = WordFinder.load(str(v2l_folder), "cpu")
    codebook = F.normalize(finder.model.global_quantizer.codebook.double(), dim=1)
    scores, relative = [], []
    for path in sorted(picture_folder.iterdir()):
        (found,) = finder.find([open_image(path)], 5)
        cosines = codebook @ F.normalize(found.image_embeds.double(), dim=0)
        chosen = cosines[[finder.model.vocabulary.words.index(word) for word in found.words]]
        scores.append(float(chosen.mean()))
        relative.append(float(((chosen - cosines.min()) / (cosines.max() - cosines.min())).mean()))
    assert cells["clip"]["value"] == pytest.approx(sum(scores) / 6, abs=1e-5)
    assert cells["clip-r"]["value"] == pytest.approx(sum(relative) / 6, abs=1e-5)
    assert cells["clip"]["n"] == 6 and cells["clip"]["words"] == 5


def test_a_pyramids_first_words_are_measured_against_their_pictures(make_context, spae, save, picture_folder):
    context = make_context(data=(f"test-pictures={picture_folder}",), models={"spae": str(save(spae))})
    few, all_of_them = (words_tables.measure_fit(context, row) for row in ("spae-5", "spae-21"))
    assert few["clip"] != all_of_them["clip"]
    for cells in (few, all_of_them):
        assert -1 <= cells["clip"]["value"] <= 1 and 0 <= cells["clip-r"]["value"] <= 1 and cells["clip"]["n"] == 6


@pytest.mark.parametrize("name", ["v2l", "spae"])
def test_pictures_are_brought_to_where_the_model_is(name, make_context, monkeypatch, spae, v2l_folder, picture_folder):
    """As on a GPU: a model that takes its own device's pixels only."""
    elsewhere = torch.device("meta")
    finder = WordFinder.load(str(v2l_folder), "cpu")
    model = finder.model if name == "v2l" else spae.model

    def encode(global_pixel_values, num_global_tokens=None):
        assert global_pixel_values.device == elsewhere
        count = len(global_pixel_values)
        tokens = torch.arange(5).expand(count, 5)
        return SimpleNamespace(global_tokens=tokens, image_embeds=torch.eye(16)[:count] + 0.1)

    stand_in = SimpleNamespace(
        encode=encode,
        device=elsewhere,
        parameters=lambda: iter([torch.empty(1, device=elsewhere)]),
        **{part: getattr(model, part, None) for part in ("global_quantizer", "local_quantizer", "config")},
    )
    monkeypatch.setattr(words_tables.WordFinder, "load", lambda *args: finder)
    monkeypatch.setattr(finder, "model", stand_in)
    monkeypatch.setattr(
        spae, "encode", lambda batch: SimpleNamespace(image_tokens=torch.zeros(len(batch), 1, 5).long())
    )
    monkeypatch.setattr(spae, "model", stand_in)
    monkeypatch.setattr(words_tables, "load_image_codec", lambda *args: spae)
    context = make_context(data=(f"test-pictures={picture_folder}",), models={"spae": "there", "words": "there"})
    assert words_tables.measure_fit(context, f"{name}-5")["clip"]["n"] == 6


def test_settings_hold_everything_that_a_row_depends_on(make_context):
    plain = make_context()
    for row, model in [("v2l-5:llm", "words"), ("v2l-5:llm", "llm"), ("v2l-5:llm-13b", "llm-13b"), ("spae-5", "spae")]:
        other = make_context(models={model: "another"})
        assert words_tables.few_shot_settings(other, row) != words_tables.few_shot_settings(plain, row), (row, model)
    for name in ("llm", "words", "frozen"):
        other = make_context(models={name: "another"})
        assert words_tables.few_shot_settings(other, "frozen") != words_tables.few_shot_settings(plain, "frozen"), name
    for name in ("episodes", "most_repeats"):
        other = make_context(**{name: 77})
        assert words_tables.few_shot_settings(other, "v2l-5:llm") != words_tables.few_shot_settings(plain, "v2l-5:llm")
    for name, row in (("words", "v2l-5"), ("spae", "spae-5")):
        other = make_context(models={name: "another"})
        assert words_tables.fit_settings(other, row) != words_tables.fit_settings(plain, row)
    assert words_tables.fit_settings(make_context(test_slice="[:3]"), "v2l-5") != words_tables.fit_settings(
        plain, "v2l-5"
    )


def test_settings_can_be_written_as_json(make_context):
    context = make_context()
    for experiment in words_tables.EXPERIMENTS:
        for row in experiment.table.rows:
            settings = experiment.settings(context, row.key) if not row.key.endswith("palm") else {}
            assert json.loads(json.dumps(settings)) == settings
