"""Dice and IoU by hand and against torchmetrics."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import (
    binary_f1_score,
    binary_jaccard_index,
    multiclass_f1_score,
    multiclass_jaccard_index,
)

from visual_sentence.errors import UserError
from visual_sentence.metrics import SegmentationOverlap


def overlap(predictions, references, *settings, **options) -> dict:
    found = SegmentationOverlap(*settings, **options)
    found.update(predictions, references)
    return found.compute()


@pytest.fixture
def maps() -> tuple[torch.Tensor, torch.Tensor]:
    """Six label maps of four classes, half of their pixels right."""
    references = torch.randint(0, 4, (6, 9, 11))
    wrong = torch.rand(references.shape) < 0.5
    return torch.where(wrong, torch.randint(0, 4, references.shape), references), references


def test_binary_on_paper():
    prediction = np.array([[[1, 1, 0], [0, 0, 0]]], dtype=np.uint8)
    reference = np.array([[[1, 0, 0], [1, 1, 0]]], dtype=np.uint8)
    # 1 common, 2 predicted, 3 in the reference
    found = overlap(prediction, reference)
    assert found["dice"] == found["dice_images"] == pytest.approx(2 / 5)
    assert found["iou"] == found["iou_images"] == pytest.approx(1 / 4)
    assert found["iou_per_class"] == {1: pytest.approx(1 / 4)} and found["n"] == 1
    assert overlap(prediction.astype(bool), reference.astype(bool)) == found


def test_binary_is_torchmetrics(maps):
    predictions, references = (part > 1 for part in maps)
    found = overlap(predictions, references)
    assert found["dice"] == pytest.approx(binary_f1_score(predictions, references).item(), abs=1e-6)
    assert found["iou"] == pytest.approx(binary_jaccard_index(predictions, references).item(), abs=1e-6)
    images = [binary_jaccard_index(*pair).item() for pair in zip(predictions, references, strict=True)]
    assert found["iou_images"] == pytest.approx(np.mean(images), abs=1e-6)


@pytest.mark.parametrize("ignore_index", [None, 2, 255])
def test_label_maps_are_torchmetrics(maps, ignore_index):
    predictions, references = maps
    if ignore_index == 255:
        references = references.clone()
        references[:, :3] = 255
    if ignore_index == 2:  # torchmetrics counts predictions of the ignored class as one more class
        predictions = torch.where(predictions == 2, references, predictions)
    found = overlap(predictions, references, "labels", ignore_index=ignore_index)
    options = {"num_classes": 4, "ignore_index": ignore_index}
    iou = multiclass_jaccard_index(predictions, references, average="none", **options)
    dice = multiclass_f1_score(predictions, references, average="none", **options)
    classes = [label for label in range(4) if label != ignore_index]
    assert found["iou_per_class"] == pytest.approx({label: iou[label].item() for label in classes}, abs=1e-6)
    assert found["dice_per_class"] == pytest.approx({label: dice[label].item() for label in classes}, abs=1e-6)
    assert found["iou"] == pytest.approx(iou[classes].mean().item(), abs=1e-6)
    assert found["dice"] == pytest.approx(dice[classes].mean().item(), abs=1e-6)


def test_only_classes_that_occur_are_in_the_mean():
    prediction, reference = torch.tensor([[[0, 0, 7]]]), torch.tensor([[[0, 5, 5]]])
    found = overlap(prediction, reference, "labels")
    assert found["iou_per_class"] == {0: 0.5, 5: 0.0, 7: 0.0} and found["iou"] == pytest.approx(0.5 / 3)
    without = overlap(prediction, reference, "labels", background=0)
    assert without["iou_per_class"] == {5: 0.0, 7: 0.0} and without["iou"] == 0


def test_predicting_the_ignored_label_is_an_error_but_no_class():
    prediction, reference = torch.tensor([[[1, 255, 1, 1]]]), torch.tensor([[[1, 1, 255, 255]]])
    found = overlap(prediction, reference, "labels", ignore_index=255)
    assert found["iou_per_class"] == {1: 0.5} and found["iou"] == 0.5


def test_empty_against_empty_is_one():
    empty, full = torch.zeros(1, 2, 2, dtype=torch.bool), torch.ones(1, 2, 2, dtype=torch.bool)
    assert overlap(empty, empty)["dice"] == overlap(empty, empty)["iou_images"] == 1
    assert overlap(full, empty)["dice"] == overlap(empty, full)["iou_images"] == 0
    found = overlap(torch.cat([empty, full]), torch.cat([empty, full & ~full.triu()]))
    assert found["iou_images"] == pytest.approx((1 + 1 / 4) / 2) and found["iou"] == pytest.approx(1 / 4)
    ignored = torch.full((1, 2, 2), 9)
    assert overlap(ignored, ignored, "labels", ignore_index=9)["iou"] == 1


def test_pieces_and_merged_parts_are_the_whole(maps):
    predictions, references = maps
    whole = overlap(predictions, references, "labels", ignore_index=3)
    first, second = (SegmentationOverlap("labels", ignore_index=3) for _ in range(2))
    first.update(predictions[:1], references[:1])
    first.update(predictions[1:2], references[1:2])
    second.update(list(predictions[2:]), list(references[2:]))
    first.merge(second)
    merged = first.compute()
    assert merged.pop("iou_images") == pytest.approx(whole.pop("iou_images"))
    assert merged.pop("dice_images") == pytest.approx(whole.pop("dice_images"))
    assert merged == whole


def test_nonsense_is_named():
    ones = torch.ones(1, 2, 2, dtype=torch.uint8)
    with pytest.raises(UserError, match=r"found \[255\].*mask > 0"):
        overlap(ones * 255, ones)
    with pytest.raises(UserError, match=r"torch\.float32: threshold"):
        overlap(ones.float(), ones)
    with pytest.raises(UserError, match=r"\[2, 2\] and reference \[2, 3\]"):
        overlap(ones, torch.ones(1, 2, 3, dtype=torch.uint8))
    with pytest.raises(UserError, match="2 predictions for 1"):
        overlap(ones.repeat(2, 1, 1), ones)
    with pytest.raises(UserError, match="'panoptic' is no task"):
        SegmentationOverlap("panoptic")
    with pytest.raises(UserError, match="background of binary masks is 0"):
        SegmentationOverlap("binary", background=0)
    with pytest.raises(UserError, match="cannot be merged"):
        SegmentationOverlap().merge(SegmentationOverlap("labels"))
    with pytest.raises(UserError, match="No images"):
        SegmentationOverlap().compute()
    mixed = SegmentationOverlap()
    with pytest.raises(UserError):
        mixed.update(torch.cat([ones, ones * 3]), torch.cat([ones, ones]))
    assert mixed.n == 0
