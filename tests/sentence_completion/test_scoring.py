"""Reading answers, their means and intervals, and the way from the command's words to data."""

import numpy as np
import pytest
from PIL import Image

from visual_sentence.errors import UserError
from visual_sentence.sentence_completion import parse_request, read_counts, read_options
from visual_sentence.sentence_completion.measurements import Measurements, interval
from visual_sentence.sentence_completion.references import nearest_target
from visual_sentence.sentence_completion.scoring import Score, Scoring

RED, BLUE, PURPLE, BLACK = (255, 0, 0), (0, 0, 255), (128, 0, 128), (0, 0, 0)


def row(*colours: tuple[int, int, int]) -> Image.Image:
    return Image.fromarray(np.array([colours], dtype=np.uint8))


def test_label_maps_by_hand():
    scoring = Scoring("labels", [BLACK, RED, BLUE, PURPLE])
    assert scoring.background == 0
    read = scoring.read(row((10, 9, 8), (200, 30, 10), (90, 0, 140), (3, 3, 250)))
    assert read.tolist() == [[0, 1, 3, 2]]
    assert scoring.read(row((90, 0, 140)), shown={0, 1, 2}).tolist() == [[2]]
    # class 1: 1 common of 2 + 1, class 2: 1 of 1 + 2; black is not scored
    score = scoring.score(np.array([[1, 1, 2, 0, 0]]), np.array([[1, 2, 2, 0, 0]]))
    assert (
        score.values == {"dice": pytest.approx(2 / 3), "iou": pytest.approx(1 / 2)}
        and score.rank == score.values["dice"]
    )


def test_no_third_class_between_two_when_label_maps_grow():
    scoring = Scoring("labels", [BLACK, RED, BLUE, PURPLE])
    read = scoring.read(row(RED, RED, BLUE, BLUE), size=(40, 10))
    assert read.shape == (10, 40) and set(np.unique(read)) == {1, 2}
    assert scoring.draw(read).getpixel((0, 0)) == RED


def test_classes_shown_are_those_of_the_targets():
    scoring = Scoring("labels", [BLACK, RED, BLUE, PURPLE])
    assert scoring.classes_shown([row(RED, BLACK), row(PURPLE)]) == {0, 1, 3}
    assert Scoring("mask").classes_shown([row(RED)]) is None


def test_masks_and_instances_by_hand():
    scoring = Scoring("mask", instances=True)
    answer, truth = (np.array([part], dtype=bool) for part in ([1, 1, 0, 1, 0], [1, 1, 0, 0, 0]))
    score = scoring.score(answer, truth)
    assert score.values == {"dice": pytest.approx(4 / 5), "iou": pytest.approx(2 / 3), "aji": pytest.approx(2 / 3)}
    assert scoring.score(~truth & truth, ~truth & truth).values == {"dice": 1, "iou": 1, "aji": 1}
    assert np.asarray(scoring.draw(answer))[0, :, 0].tolist() == [255, 255, 0, 255, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sound",), "cannot be read as 'sound'"),
        (("labels",), "there is no palette"),
        (("image", None, True), "Instances are the connected parts"),
    ],
)
def test_scorings_that_cannot_be(arguments, message):
    with pytest.raises(UserError, match=message):
        Scoring(*arguments)


def test_means_over_sets_then_queries_without_infinite_values():
    found = Measurements(Scoring("image"), 2, 3)
    values = [[10.0, np.inf, np.inf], [20.0, 30.0, np.inf]]
    for number, line in enumerate(values):
        for place, value in enumerate(line):
            found.add(number, place, Score({"psnr": value, "ssim": 0.5}))
    summary = found.summary(["a", "b", "c"], 0)
    assert summary["psnr"] == pytest.approx((15 + 30) / 2) and summary["identical"] == 3
    assert summary["ssim"] == 0.5 and summary["ci95"]["ssim"] == [0.5, 0.5]
    assert summary["dice"] is None and summary["pooled"] == {"dice": None, "iou": None, "aji": None}


def test_interval_by_a_plain_bootstrap():
    generator = np.random.default_rng(5)
    values, sources = generator.random(40), [f"picture {place % 8}" for place in range(40)]
    groups = [values[np.array(sources) == name] for name in sorted(set(sources))]
    means = []
    for _ in range(4000):
        drawn = generator.integers(0, 8, 8)
        means.append(np.concatenate([groups[place] for place in drawn]).mean())
    assert interval(values, sources, 0) == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.01)
    assert interval(values, sources, 0) == interval(values, sources, 0) != interval(values, sources, 1)


def test_interval_of_many_sources_is_the_normal_one():
    values = np.random.default_rng(0).normal(3, 2, 400)
    low, high = interval(values, list(map(str, range(400))), 0)
    spread = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - spread, values.mean() + spread), abs=0.03)


def test_queries_of_one_source_count_as_one():
    values = np.repeat(np.random.default_rng(1).random(10), 10)
    apart = interval(values, list(map(str, range(100))), 0)
    together = interval(values, [str(place // 10) for place in range(100)], 0)
    assert together[1] - together[0] > 2 * (apart[1] - apart[0])
    assert interval(values, ["the same"] * 100, 0) is None


def test_nearest_target_takes_the_first_of_equals():
    from visual_sentence.data import Pair

    pairs = [Pair(row(colour), row(target), "a") for colour, target in ((RED, BLACK), (BLUE, RED), (BLUE, BLUE))]
    assert nearest_target(pairs, row((10, 0, 200))).getpixel((0, 0)) == RED
    assert nearest_target(pairs, row((200, 0, 10))).getpixel((0, 0)) == BLACK


def test_requests():
    asked, pairs = parse_request("shapes[:20]?size=32", "segmentation", {"foreground": "2"}, "shapes[20:40]")
    assert asked.text == "segmentation:shapes[:20]?size=32&foreground=2" and len(asked.source) == 20
    assert pairs.task == asked.task and pairs.text == "segmentation:shapes[20:40]?foreground=2"
    coloured, _ = parse_request("shapes[:20]", "segmentation", {"classes": "1,2"})
    assert coloured.task.name == "palette_segmentation" and coloured.task.classes == (1, 2)
    whole, pairs = parse_request("denoising:shapes[:20]?sigma=25", pairs_from="denoising:shapes?seed=3&sigma=25")
    assert whole.task == pairs.task and pairs.source.seed == 3 and whole.source.seed == 0
    assert parse_request("shapes[:20]", "denoising")[1] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("shapes",), "does not say which task"),
        (("denoising:shapes", "denoising"), "names a task already"),
        (("shapes", "segmentation", {"classes": "1,2", "foreground": "1"}), "choose one of the two"),
        (("shapes", "denoising", {"foreground": "1"}), "denoising has no option 'foreground'"),
        (("shapes", "knitting"), "There is no task 'knitting'"),
        (("denoising:shapes", None, {}, "denoising:shapes?sigma=10"), "another task than is asked for"),
    ],
)
def test_requests_that_cannot_be(arguments, message):
    with pytest.raises(UserError, match=message):
        parse_request(*arguments)


def test_numbers_and_options():
    assert read_counts("1, 3,5") == (1, 3, 5) and read_options(["sigma=25", "kind=poisson"])["kind"] == "poisson"
    for text in ("1,,3", "one", "1.5", "-1"):
        with pytest.raises(UserError, match="no numbers of pairs"):
            read_counts(text)
    for given in (["sigma"], ["=3"], ["a=1", "a=2"]):
        with pytest.raises(UserError, match="is no option"):
            read_options(given)
