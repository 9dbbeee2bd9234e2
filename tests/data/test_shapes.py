"""The generator against what it promises: numbers alone decide, and grey values tell colours."""

import numpy as np
import pytest
from scipy import ndimage

from visual_sentence import UserError
from visual_sentence.data import Shapes, open_examples
from visual_sentence.data.shapes import BACKGROUND, COLOURS, KINDS


def same(first, second) -> bool:
    return first.image.tobytes() == second.image.tobytes() and (first.label_map == second.label_map).all()


def test_an_example_depends_on_seed_and_number_only():
    assert same(Shapes(count=10)[7], Shapes(count=1000)[7])
    assert same(Shapes(count=10)[-1], Shapes(count=10)[9])
    assert not same(Shapes(seed=0)[7], Shapes(seed=1)[7])
    assert len({Shapes()[number].image.tobytes() for number in range(100)}) == 100


def test_slices_are_parts_of_one_set():
    part = open_examples("shapes[40:50:3]", seed=3)
    assert len(part) == 4
    assert part[1].source == "shapes-3-43" == part.source_of(1)
    assert same(part[1], Shapes(seed=3)[43])
    assert len(open_examples("shapes[:12000]")) == 12_000  # beyond the usual number
    assert len(open_examples("shapes[4000:]")) == 6000


def test_mask_and_label_map_agree_and_all_kinds_occur():
    examples = [Shapes()[number] for number in range(60)]
    for example in examples:
        assert example.image.size == (64, 64) and example.mask.dtype == bool and example.label_map.dtype == np.int64
        assert (example.mask == (example.label_map > 0)).all()
        assert 0.005 < example.mask.mean() < 0.9
    assert set(np.unique([example.label_map for example in examples])) == set(range(len(KINDS)))


def test_flat_pixels_have_a_colour_of_the_list_and_backgrounds_are_grey():
    for number in range(30):
        example = Shapes()[number]
        pixels = np.asarray(example.image).astype(int)
        far_from_shapes = ~ndimage.binary_dilation(example.mask, iterations=2)
        background = pixels[far_from_shapes]
        assert (background == background[:, :1]).all()
        assert background.min() >= BACKGROUND[0] and background.max() <= BACKGROUND[1]
        listed = (pixels[:, :, None] == np.array(COLOURS)).all(-1).any(-1)
        assert not listed[far_from_shapes].any()
        assert listed[ndimage.binary_erosion(example.mask, iterations=2)].mean() > 0.5  # edges between shapes remain


def test_every_colour_and_background_has_a_luminance_of_its_own():
    luminance = sorted(0.299 * red + 0.587 * green + 0.114 * blue for red, green, blue in COLOURS)
    assert np.diff(luminance).min() >= 15
    assert all(value < BACKGROUND[0] - 15 or value > BACKGROUND[1] + 15 for value in luminance)


def test_a_lone_shape_covers_what_its_kind_says():
    # share of the bounding box: known for a circle, smaller for a ring by its hole, and a ring's centre is free
    shares: dict[str, list[float]] = {"circle": [], "ring": []}
    for number in range(400):
        labels = Shapes()[number].label_map
        parts, count = ndimage.label(labels > 0)
        kind = KINDS[labels.max()]
        rows, columns = ndimage.find_objects(parts)[0] if count else (slice(0), slice(0))
        inside = rows.start > 0 and columns.start > 0 and rows.stop < 64 and columns.stop < 64
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if count == 1 and kind in shares and len(np.unique(labels)) == 2 and inside and max(height, width) <= 36:
            if abs(height - width) > 1:
                continue  # two shapes that touch
            shares[kind].append((labels[rows, columns] > 0).mean())
            if kind == "ring":
                assert labels[(rows.start + rows.stop) // 2, (columns.start + columns.stop) // 2] == 0
    assert len(shares["circle"]) >= 3 and len(shares["ring"]) >= 3
    assert np.median(shares["circle"]) == pytest.approx(np.pi / 4, abs=0.03)
    assert np.median(shares["ring"]) == pytest.approx(np.pi / 4 * 0.75, abs=0.05)


def test_larger_pictures_show_the_same_scene():
    small, large = Shapes(size=32)[5], Shapes(size=128)[5]
    assert large.image.size == (128, 128)
    shrunk = large.stretched((32, 32))
    assert (shrunk.mask == small.mask).mean() > 0.95


@pytest.mark.parametrize("options", [{"size": 8}, {"count": 0}, {"size": "big"}, {"colour": 1}])
def test_impossible_shapes_are_refused(options):
    with pytest.raises(UserError, match=r"size|count|colour"):
        open_examples("shapes", **options)
