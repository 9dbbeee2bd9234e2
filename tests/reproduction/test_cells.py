"""A cell's mean and how sure it is."""

import json

import numpy as np
import pytest

from visual_sentence.reproduction.cells import cell, mean_cell, share_cell


@pytest.fixture
def values() -> list[float]:
    return np.random.default_rng(0).normal(3, 1, 40).tolist()


def test_a_mean_has_an_interval_around_it(values):
    found = mean_cell(values, seed=0)
    low, high = found["ci95"]
    assert found["value"] == pytest.approx(np.mean(values)) and found["n"] == 40
    # of 40 normal values 1.96 standard errors to both sides, more or less
    error = 1.96 * np.std(values) / 40**0.5
    assert low == pytest.approx(found["value"] - error, abs=0.1) and low < found["value"]
    assert high == pytest.approx(found["value"] + error, abs=0.1) and high > found["value"]


def test_the_same_seed_gives_the_same_interval(values):
    assert mean_cell(values, seed=1) == mean_cell(values, seed=1) != mean_cell(values, seed=2)


def test_more_values_are_surer(values):
    low, high = mean_cell(values, 0)["ci95"]
    low_of_more, high_of_more = mean_cell(values * 9, 0)["ci95"]
    assert high_of_more - low_of_more < (high - low) / 2


def test_percents_are_a_hundred_times_the_share(values):
    share, percent = mean_cell(values, 0), mean_cell(values, 0, 100)
    assert percent["value"] == pytest.approx(100 * share["value"])
    assert percent["ci95"] == pytest.approx([100 * end for end in share["ci95"]])


def test_one_value_has_no_interval():
    assert mean_cell([4.0], 0) == {"value": 4.0, "ci95": None, "n": 1}


def test_what_belongs_to_a_cell_is_filed_with_it(values):
    found = mean_cell(values, 0, measure="PSNR")
    assert json.loads(json.dumps(found)) == found and found["measure"] == "PSNR"
    assert cell(1.0, (0.5, 1.5), 3, words=5) == {"value": 1.0, "ci95": [0.5, 1.5], "n": 3, "words": 5}
    assert cell(None, None, 0) == {"value": None, "ci95": None, "n": 0}


@pytest.mark.parametrize(
    ("right", "n", "low", "high"), [(8, 10, 49.02, 94.33), (0, 20, 0, 16.11), (20, 20, 83.89, 100)]
)
def test_a_share_has_wilsons_interval(right, n, low, high):
    found = share_cell(right / n, n, words=5)
    assert found == {
        "value": pytest.approx(100 * right / n),
        "ci95": pytest.approx([low, high], abs=0.01),
        "n": n,
        "words": 5,
    }


@pytest.mark.parametrize("n", [1, 2, 7, 400])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99, 1])
def test_no_interval_of_a_share_goes_beyond_0_and_100(share, n):
    found = share_cell(share, n)
    low, high = found["ci95"]
    assert -1e-9 <= low <= found["value"] + 1e-9 and found["value"] - 1e-9 <= high <= 100 + 1e-9
