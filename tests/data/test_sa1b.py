"""COCO's run lengths against pycocotools, and folders of SA-1B."""

import json

import numpy as np
import pytest
from PIL import Image

from visual_sentence import UserError
from visual_sentence.data import open_examples, parse_task_data
from visual_sentence.data.sa1b import decode_rle


def run_lengths(mask: np.ndarray) -> dict:
    """Uncompressed run lengths, one pixel after another."""
    counts, value, length = [], False, 0
    for pixel in mask.T.ravel():
        if pixel != value:
            counts.append(length)
            value, length = pixel, 0
        length += 1
    return {"size": list(mask.shape), "counts": [*counts, length]}


def test_a_mask_worked_out_by_hand():
    # columns: 0 1 | 1 1 | 0 0, so 1 background, 3 foreground, 2 background: "132" of the characters 48 + number
    wanted = [[False, True, False], [True, True, False]]
    assert decode_rle({"size": [2, 3], "counts": [1, 3, 2]}).tolist() == wanted
    assert decode_rle({"size": [2, 3], "counts": "132"}).tolist() == wanted
    with pytest.raises(ValueError, match="5 pixels"):
        decode_rle({"size": [2, 3], "counts": [5]})


def test_compressed_masks_are_pycocotools(rng):
    coco = pytest.importorskip("pycocotools.mask", reason="needs pycocotools")
    for threshold in (0.001, 0.1, 0.5, 0.99, 1.0):
        for shape in ((1, 1), (7, 5), (63, 200)):
            mask = rng.random(shape) < threshold
            encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
            assert (decode_rle(encoded) == mask).all()
            assert (decode_rle({**encoded, "counts": encoded["counts"].decode()}) == mask).all()
            assert (decode_rle(run_lengths(mask)) == mask).all()


@pytest.fixture
def folder(tmp_path):
    large, small = np.zeros((2, 8, 10), bool)
    large[1:7, 1:9] = True
    small[2:4, 2:4] = True
    small[0, 0] = True
    annotations = [{"segmentation": run_lengths(mask), "area": int(mask.sum())} for mask in (small, large)]
    for number in range(2):
        Image.new("RGB", (10, 8), (number, 0, 0)).save(tmp_path / f"sa_{number}.jpg")
        (tmp_path / f"sa_{number}.json").write_text(json.dumps({"annotations": annotations if number == 0 else []}))
    return tmp_path


def test_smaller_masks_lie_on_top(folder):
    first, second = open_examples(str(folder))
    assert first.label_map[2, 2] == 2 == first.label_map[0, 0] and first.label_map[6, 8] == 1
    assert first.label_map[7, 9] == 0 and first.mask.sum() == 6 * 8 + 1
    assert second.source.endswith("/sa_1") and not second.mask.any()
    data = parse_task_data(f"instance_segmentation:{folder}[:1]")
    colours = np.asarray(data.task.pair(data.source[0], np.random.default_rng(0)).target)
    assert len(np.unique(colours.reshape(-1, 3), axis=0)) == 3


def test_bad_annotations_are_named(folder):
    (folder / "sa_1.json").write_text("{}")
    with pytest.raises(UserError, match=r"sa_1\.json is no annotation"):
        open_examples(str(folder))[1]
    (folder / "sa_1.json").unlink()
    with pytest.raises(UserError, match=r"sa_1\.jpg and 0 more are without a JSON"):
        open_examples(str(folder))
