"""What Dice and IoU of pictures and of tokens mean: by hand, and against plain loops over pixels."""

import evaluate
import numpy as np
import pytest
import torch

from visual_sentence.errors import UserError
from visual_sentence.metrics import SegmentationOverlap, metric_path
from visual_sentence.metrics.overlap import pixel_counts
from visual_sentence.metrics.picture_overlap import equal_pixels, equal_tokens, picture_labels, picture_masks

PALETTE = [(0, 0, 0), (255, 0, 0), (0, 0, 255)]


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray]:
    """Three noisy pictures of two colours and black, and their references [3, 3, 7, 9], uint8."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, (3, 7, 9))
    references = np.array(PALETTE)[labels].transpose(0, 3, 1, 2)
    noise = generator.integers(-160, 160, references.shape)
    return np.clip(references + noise, 0, 255).astype(np.uint8), references.astype(np.uint8)


def grey(*values: int) -> np.ndarray:
    """One picture of one row [1, 3, 1, W]."""
    return np.broadcast_to(np.array(values, np.uint8), (1, 3, 1, len(values))).copy()


def test_threshold_on_paper():
    assert picture_masks(grey(0, 127, 128, 255)).tolist() == [[[False, False, True, True]]]
    assert picture_masks(grey(0, 127, 128, 255), threshold=0.9).tolist() == [[[False, False, False, True]]]
    # 255, 128 and 0 have a mean of half grey and a little
    assert picture_masks(np.array([255, 128, 0], np.uint8).reshape(1, 3, 1, 1)).item()
    metric = evaluate.load(metric_path("dice"), "threshold")
    # predicted 2, in the reference 3, common 2
    found = metric.compute(predictions=grey(0, 200, 200, 90), references=grey(0, 255, 255, 255))
    assert found["dice"] == pytest.approx(4 / 5)
    found = metric.compute(predictions=grey(0, 200, 200, 90), references=grey(0, 255, 255, 255), threshold=0.3)
    assert found["dice"] == 1


def test_nearest_colours_by_loops(images):
    found = picture_labels(images[0], PALETTE)
    for place in np.ndindex(3, 7, 9):
        pixel = images[0][place[0], :, place[1], place[2]].astype(int)
        distances = [sum((int(a) - int(b)) ** 2 for a, b in zip(pixel, colour, strict=True)) for colour in PALETTE]
        assert found[place].item() == distances.index(min(distances))
    assert (picture_labels(torch.from_numpy(images[0]) / 255, PALETTE) == found).all()


def test_of_equally_near_colours_the_first():
    colours = [(100, 0, 0), (0, 0, 0), (50, 50, 0)]
    between = np.array([50, 0, 0], np.uint8).reshape(1, 3, 1, 1)
    assert picture_labels(between, colours).item() == 0 == picture_labels(between, colours[:1] + colours[2:]).item()
    assert picture_labels(between, colours[1:]).item() == 0 == picture_labels(between, colours[1:] + colours[:1]).item()
    # 50 to both sides of 100, and of any grey
    for grey in range(206):
        middle = np.full((1, 3, 1, 1), grey + 25, np.uint8)
        assert picture_labels(middle, [(grey + 50,) * 3, (grey,) * 3]).item() == 0


def test_palette_mode_is_the_macro_mean_over_colours(images):
    metric = evaluate.load(metric_path("dice"), "palette")
    predictions, references = (picture_labels(part, PALETTE).numpy() for part in images)
    scores = []
    for label in range(3):
        a, b = predictions == label, references == label
        scores.append(2 * (a & b).sum() / (a.sum() + b.sum()))
    found = metric.compute(predictions=images[0], references=images[1], palette=PALETTE)
    assert found["dice"] == pytest.approx(np.mean(scores)) and 0.5 < found["dice"] < 1
    assert found["dice_per_class"] == {label: pytest.approx(score) for label, score in enumerate(scores)}
    found = metric.compute(predictions=images[0], references=images[1], palette=PALETTE, background=0)
    assert found["dice"] == pytest.approx(np.mean(scores[1:]))


@pytest.mark.parametrize("tolerance", [0, 16 / 255, 100 / 255])
def test_pixel_mode_is_the_share_of_equal_pixels(images, tolerance):
    predictions, references = (part.astype(int) for part in images)
    equal = (np.abs(predictions - references).max(axis=1) <= round(tolerance * 255)).mean()
    for name, expected in (("dice", equal), ("iou", equal / (2 - equal))):
        metric = evaluate.load(metric_path(name), "pixel")
        found = metric.compute(predictions=list(images[0]), references=list(images[1]), tolerance=tolerance)
        assert found[name] == pytest.approx(expected)
    floats = equal_pixels(images[0] / 255, images[1] / 255, tolerance)
    assert floats == equal_pixels(*images, tolerance)


def test_pixel_modes_tolerance_by_default():
    metric = evaluate.load(metric_path("dice"), "pixel")
    found = metric.compute(predictions=grey(0, 16, 17, 200), references=grey(0, 0, 0, 0))
    assert found["dice"] == 1 / 2 and found["n"] == 1


def test_tokens_on_paper():
    metric = evaluate.load(metric_path("iou"), "tokens")
    tokens, references = np.array([[[1, 2], [3, 4]]]), np.array([[[1, 2], [4, 3]]])
    # the same bag of tokens, but only two of them in their places: 2 common of 6
    assert metric.compute(predictions=tokens, references=references)["iou"] == pytest.approx(2 / 6)
    assert equal_tokens(tokens, tokens) == [{(1, 1): 4, (1, 0): 0, (0, 1): 0}]


def test_pooled_and_mean_over_images():
    metric = evaluate.load(metric_path("dice"), "tokens")
    found = metric.compute(predictions=[np.zeros((1, 3), int), np.zeros((1, 1), int)], references=[[[0, 1, 1]], [[0]]])
    assert found["dice"] == pytest.approx(2 / 4) and found["dice_images"] == pytest.approx((1 / 3 + 1) / 2)


@pytest.mark.parametrize("scale", [1, 10**6, 2**62])
def test_pixels_are_counted_alike_however_far_apart_the_labels_are(scale):
    generator = np.random.default_rng(3)
    prediction, reference = generator.integers(-1, 2, (2, 8, 8)) * scale
    expected: dict = {}
    for pair in zip(reference.flat, prediction.flat, strict=True):
        expected[tuple(map(int, pair))] = expected.get(tuple(map(int, pair)), 0) + 1
    assert pixel_counts(prediction, reference) == expected


def test_empty_images_count_nothing():
    assert pixel_counts(np.zeros((0, 4), bool), np.zeros((0, 4), bool)) == {}


@pytest.mark.parametrize(
    ("mode", "inputs", "options", "message"),
    [
        ("colour", (grey(0), grey(0)), {}, "no mode 'colour'"),
        ("palette", (grey(0), grey(0)), {}, "needs palette"),
        ("palette", (grey(0), grey(0)), {"palette": [(0, 0, 300)]}, "A palette is a list of colours"),
        ("threshold", (grey(0), grey(0)), {"threshold": 127}, "threshold of a mask lies in"),
        ("threshold", (grey(0)[0], grey(0)[0]), {}, r"must be \[B, 3, H, W\]"),
        ("pixel", (grey(0), grey(0, 1)), {}, "differ in shape"),
        ("pixel", (grey(0), grey(0)), {"tolerance": 16}, "tolerance of pixels lies in"),
        ("tokens", (np.zeros((1, 2, 2)), np.zeros((1, 2, 2))), {}, "Image tokens are integers"),
        ("tokens", (np.zeros((1, 2, 2), int),) * 2, {"palette": PALETTE}, "no input called palette"),
    ],
)
def test_mistakes_are_named(mode, inputs, options, message):
    with pytest.raises(UserError, match=message):
        evaluate.load(metric_path("dice"), mode).add_batch(predictions=inputs[0], references=inputs[1], **options)


def test_accumulator_takes_the_counts():
    overlap = SegmentationOverlap()
    for counts in equal_tokens(np.array([[1, 2, 3, 4]]), np.array([[1, 2, 3, 5]])):
        overlap.add_image(counts)
    assert overlap.compute()["dice"] == 3 / 4
