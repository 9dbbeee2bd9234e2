"""The aggregated Jaccard index by hand, against plain loops over sets of pixels, and through `evaluate`."""

import sys

import evaluate
import numpy as np
import pytest

from visual_sentence.errors import UserError
from visual_sentence.metrics import AggregatedJaccard, metric_path
from visual_sentence.metrics.instances import aggregated_pixels, instance_counts, instance_map

REFERENCE = np.array(
    [
        [1, 1, 1, 0, 2, 2],
        [1, 1, 1, 0, 2, 2],
        [0, 0, 0, 0, 0, 0],
        [3, 3, 0, 0, 0, 0],
    ]
)
PREDICTION = np.array(
    [
        [5, 5, 0, 0, 7, 7],
        [5, 5, 0, 0, 7, 7],
        [0, 0, 0, 7, 7, 7],
        [0, 0, 0, 9, 9, 0],
    ]
)


def by_sets(prediction: np.ndarray, reference: np.ndarray) -> tuple[int, int]:
    """Algorithm 1 of Kumar et al. 2017, word for word, with a set of places for each instance."""

    def regions(labels: np.ndarray) -> dict[int, set]:
        return {int(label): set(zip(*np.nonzero(labels == label), strict=True)) for label in np.unique(labels) if label}

    found, used, common, union = regions(prediction), set(), 0, 0
    for truth in regions(reference).values():
        best, partner = 0.0, None
        for label, region in found.items():
            share = len(truth & region) / len(truth | region)
            if share > best:
                best, partner = share, label
        if partner is None:
            union += len(truth)
            continue
        common += len(truth & found[partner])
        union += len(truth | found[partner])
        used.add(partner)
    return common, union + sum(len(region) for label, region in found.items() if label not in used)


def test_by_hand():
    # 1 with 5: 4 of 6; 2 with 7: 4 of 7; 3 with nothing: 0 of 2; 9 is nobody's partner: 2 more
    assert aggregated_pixels(instance_counts(PREDICTION, REFERENCE)) == (4 + 4, 6 + 7 + 2 + 2)


def test_one_prediction_may_serve_two():
    reference = np.array([[1, 1, 0, 2, 2]])
    prediction = np.array([[4, 4, 4, 4, 4]])
    assert aggregated_pixels(instance_counts(prediction, reference)) == (4, 10)


@pytest.mark.parametrize("seed", range(20))
def test_against_loops_over_sets(seed):
    generator = np.random.default_rng(seed)
    prediction, reference = generator.integers(0, 7, (2, 9, 12))
    prediction = np.where(generator.random((9, 12)) < 0.4, reference, prediction)
    assert aggregated_pixels(instance_counts(prediction, reference)) == by_sets(prediction, reference)


def test_masks_are_split_at_corners_but_not_at_edges():
    mask = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]], dtype=bool)
    assert instance_map(mask).tolist() == [[1, 1, 0, 0], [0, 0, 2, 0], [0, 0, 2, 2]]
    assert instance_counts(mask, mask) == {(0, 0): 7, (1, 1): 2, (2, 2): 3}


def test_means_and_pool_differ_and_merge():
    index = AggregatedJaccard()
    index.update(PREDICTION[None], REFERENCE[None])
    other = AggregatedJaccard()
    other.update(REFERENCE[None], REFERENCE[None])
    index.merge(other)
    assert index.compute() == {"aji": pytest.approx((8 + 12) / (17 + 12)), "aji_images": (8 / 17 + 1) / 2, "n": 2}


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [(0, 0, 1.0), (0, 1, 0.0), (1, 0, 0.0), (1, 1, 1.0)],
    ids=["both empty", "missed", "invented", "equal"],
)
def test_empty_maps(prediction, reference, expected):
    index = AggregatedJaccard()
    index.update(np.full((1, 4, 4), prediction), np.full((1, 4, 4), reference))
    assert index.compute()["aji"] == index.compute()["aji_images"] == expected


def test_module_in_pieces():
    metric = evaluate.load(metric_path("aji"))
    metric.add(prediction=PREDICTION, reference=REFERENCE)
    found = metric.compute(predictions=[REFERENCE > 0], references=[REFERENCE > 0])
    assert found == {"aji": pytest.approx(20 / 29), "aji_images": pytest.approx((8 / 17 + 1) / 2), "n": 2}


def test_mistakes(monkeypatch):
    with pytest.raises(UserError, match="No images were added"):
        AggregatedJaccard().compute()
    with pytest.raises(UserError, match="bool or integer labels"):
        instance_counts(np.zeros((2, 2)), np.zeros((2, 2)))
    with pytest.raises(UserError, match="1 predictions for 2 references"):
        AggregatedJaccard().update(PREDICTION[None], np.stack([REFERENCE] * 2))
    monkeypatch.setitem(sys.modules, "scipy.ndimage", None)
    with pytest.raises(UserError, match="scipy, which is not installed"):
        instance_map(PREDICTION > 0)
