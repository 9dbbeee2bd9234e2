"""Tables 3, 4 and 6 and figure 11 of the V2L Tokenizer, on tiny models and with simple measures."""

import json

import numpy as np
import pytest

from visual_sentence.features import FrechetStatistics, frechet_distance
from visual_sentence.image_io import open_image
from visual_sentence.metrics.image_quality import psnr
from visual_sentence.reconstruction import load_image_codec
from visual_sentence.reconstruction.evaluation import as_batch
from visual_sentence.reproduction import reconstruction_tables, restoration_tables
from visual_sentence.reproduction.reconstruction_tables import EMBEDDINGS, RECONSTRUCTION
from visual_sentence.reproduction.restoration_tables import ABLATION, RESTORATION, TASKS
from visual_sentence.reproduction.tokenizers import RECIPES
from visual_sentence.reproduction.workspace import NotRunnableError


@pytest.fixture
def data(picture_folder) -> tuple[str]:
    return (f"test-pictures={picture_folder}",)


def colours(pictures) -> np.ndarray:
    """What the simple features see: mean colours in [-1, 1]."""
    return np.stack([np.asarray(one, float).mean((0, 1)) / 127.5 - 1 for one in pictures])


def test_reconstructions_are_measured_against_what_the_model_saw(
    make_context, vqgan, save, data, picture_folder, simple_networks
):
    folder = str(save(vqgan))
    cells = reconstruction_tables.measure(make_context(data=data, models={"vqgan": folder}), "vqgan")
    found = load_image_codec(folder, "cpu").reconstruct([open_image(path) for path in sorted(picture_folder.iterdir())])
    originals, others = [one.original for one in found], [one.reconstruction for one in found]
    assert cells["psnr"]["value"] == pytest.approx(psnr(as_batch(others), as_batch(originals)).mean().item())
    difference = np.abs(np.stack(originals).astype(float) - np.stack(others)).mean() / 127.5
    assert cells["lpips"]["value"] == pytest.approx(difference, abs=1e-5)
    moments = []
    for pictures in (originals, others):
        statistics = FrechetStatistics(3)
        statistics.update(colours(pictures))
        moments += [statistics.mean, statistics.cov]
    assert cells["fid"]["value"] == pytest.approx(frechet_distance(*moments), abs=1e-6)
    assert {cell["n"] for cell in cells.values()} == {6}
    assert cells["fid"]["ci95"] is None and cells["psnr"]["ci95"][0] < cells["psnr"]["value"] < cells["psnr"]["ci95"][1]


def test_cells_say_what_measured_them_and_how_the_codes_were_used(make_context, vqgan, save, data, simple_networks):
    cells = reconstruction_tables.measure(make_context(data=data, models={"vqgan": str(save(vqgan))}), "vqgan")
    assert cells["fid"]["measure"] == "mean-colour-frechet-distance" and cells["lpips"]["measure"] == "mean-difference"
    for cell in cells.values():
        assert cell["tokens"] == 16 and 0 < cell["codebook"]["codebook_usage"] <= 1
    assert json.loads(json.dumps(cells)) == cells


def test_only_the_budgets_pictures_are_measured(make_context, vqgan, save, data, simple_networks):
    context = make_context(data=data, models={"vqgan": str(save(vqgan))}, test_slice="[1:4]")
    assert reconstruction_tables.measure(context, "vqgan")["psnr"]["n"] == 3


def test_a_pyramids_prefix_is_measured_by_its_layer(make_context, spae, save, data, simple_networks, monkeypatch):
    context = make_context(data=data, models={"spae": str(save(spae))})
    found = [reconstruction_tables.measure(context, f"spae:{layer}")["psnr"] for layer in (1, 2, 3)]
    assert [cell["tokens"] for cell in found] == [1, 5, 21]
    assert len({cell["value"] for cell in found}) == 3


@pytest.mark.parametrize("name", ["spae", "vqgan"])
def test_a_pyramid_without_that_layer_is_a_reason(make_context, spae, vqgan, save, data, simple_networks, name):
    folder = str(save({"spae": spae, "vqgan": vqgan}[name]))
    with pytest.raises(NotRunnableError, match=rf"^needs a SPAE of 4 layers or more: {folder} has "):
        reconstruction_tables.measure(make_context(data=data, models={"spae": folder}), "spae:4")


def test_embeddings_that_are_not_published_are_a_reason(make_context):
    with pytest.raises(NotRunnableError, match="needs PaLM-2's embeddings, which are not published"):
        reconstruction_tables.measure(make_context(), "vqgan-palm")
    assert reconstruction_tables.settings(make_context(), "vqgan-palm") == {"row": "vqgan-palm"}


def test_every_row_has_a_recipe():
    for table in (RECONSTRUCTION, EMBEDDINGS):
        assert {row.key.partition(":")[0] for row in table.rows} - {"vqgan-palm"} <= RECIPES.keys()
    assert {row.key.partition(":")[0] for row in RESTORATION.rows} <= RECIPES.keys()


@pytest.mark.parametrize("row", ["v2l", "text", "vqgan-llm", "spae:5"])
@pytest.mark.parametrize("change", [{"tokenizer_steps": 99}, {"train_slice": "[:9]"}, {"test_slice": "[:9]"}])
def test_reconstructions_depend_on_steps_and_pictures(make_context, row, change):
    other = make_context(**change)
    assert reconstruction_tables.settings(other, row) != reconstruction_tables.settings(make_context(), row)


@pytest.mark.parametrize(
    ("row", "model"),
    [
        ("vqgan-llm", "llm"),
        ("text", "llm"),
        ("text", "encoder"),
        ("v2l", "encoder"),
        ("spae:5", "encoder"),
        ("v2l", "v2l"),
    ],
)
def test_reconstructions_depend_on_the_models_of_their_words(make_context, row, model):
    other = make_context(models={model: "another"})
    assert reconstruction_tables.settings(other, row) != reconstruction_tables.settings(make_context(), row)


@pytest.fixture
def restoring(make_context, readable_folder, llm_folder, data, simple_networks):
    """A context whose tokenizers and language model are tiny and belong together."""

    def make(**sizes):
        names = ("vqgan-llm", "lqae-llm", "spae-map", "v2l")
        models = {"llm": str(llm_folder), **dict.fromkeys(names, str(readable_folder))}
        return make_context(data=data, models=models, **{"restored": 2, "ablated": 2, **sizes})

    return make


def test_all_five_tasks_are_restored_and_measured(restoring):
    cells = restoration_tables.measure_restoration(restoring(), "v2l:llm")
    assert (
        cells.keys()
        == {column.key for column in RESTORATION.columns}
        == {f"{t}-{m}" for t in TASKS for m in ("fid", "lpips")}
    )
    distances = [cells[f"{task}-lpips"] for task in TASKS]
    assert {cell["n"] for cell in distances} == {2} and len({cell["value"] for cell in distances}) > 1
    assert all(cell["measure"] == "mean-difference" and cell["mode"] == "paper" for cell in distances)
    assert all((cell["step"], cell["condition"]) == (2, 16) for cell in distances)


def test_a_rows_steps_and_conditions_are_those_that_it_is_named_by(restoring):
    cells = restoration_tables.measure_ablation(restoring(), "m1-n16")
    assert cells.keys() == {column.key for column in ABLATION.columns}
    assert (cells["lpips"]["step"], cells["lpips"]["condition"], cells["lpips"]["n"]) == (1, 16, 2)
    assert 0 <= cells["tokens"]["value"] <= 100


def test_few_restorations_have_no_frechet_distance(restoring):
    cells = restoration_tables.measure_ablation(restoring(), "m4-n16")
    assert cells["fid"] == "needs 2000 pictures or more, here are 2: --budget full"


def test_enough_restorations_have_a_frechet_distance(restoring, monkeypatch):
    monkeypatch.setattr(restoration_tables, "ENOUGH", 3)
    fid = restoration_tables.measure_ablation(restoring(ablated=4), "m4-n16")["fid"]
    assert fid["measure"] == "mean-colour-frechet-distance" and fid["n"] == 4 and fid["value"] > 0


def test_fewer_pictures_than_the_budget_wants_are_counted_as_they_are(restoring, monkeypatch):
    monkeypatch.setattr(restoration_tables, "ENOUGH", 8)
    cells = restoration_tables.measure_ablation(restoring(ablated=9), "m4-n16")
    assert cells["lpips"]["n"] == 6 and "here are 6" in cells["fid"]


def test_a_larger_language_model_has_to_be_given(make_context, data):
    with pytest.raises(NotRunnableError, match=r"in place of LLaMA-2 70B and a machine for it: --models llm-70b="):
        restoration_tables.measure_restoration(make_context(data=data), "v2l:llm-70b")


@pytest.mark.parametrize(
    "change", [{"restored": 9}, {"tokenizer_steps": 9}, {"test_slice": "[:3]"}, {"models": {"llm": "another"}}]
)
def test_restorations_depend_on_pictures_steps_and_reader(make_context, change):
    other, plain = make_context(**change), make_context()
    assert restoration_tables.restoration_settings(other, "v2l:llm") != restoration_tables.restoration_settings(
        plain, "v2l:llm"
    )


def test_figure_11_depends_on_its_own_number_of_pictures(make_context):
    found = [
        restoration_tables.ablation_settings(make_context(**one), "m1-n16")
        for one in ({}, {"ablated": 7}, {"restored": 7})
    ]
    assert found[0] != found[1] and found[0] == found[2]
