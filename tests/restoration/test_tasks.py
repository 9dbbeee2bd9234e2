"""Holes and steps against maps written out by hand."""

import pytest
import torch

from visual_sentence import UserError
from visual_sentence.restoration.tasks import TASKS, fill_with_nearest, hole_of, map_bytes, seeded, steps_of

DRAWN = {
    "inpainting": ["......", ".###..", ".###..", "......"],
    "outpainting": ["......", "......", "######", "######"],
    "deblurring": ["######"] * 4,
    "rotation": ["######"] * 4,
    "shift": ["######"] * 4,
}


@pytest.mark.parametrize("task", TASKS)
def test_holes_are_where_they_are_drawn(task):
    rows = ["".join("#" if place else "." for place in row) for row in hole_of(task, 4, 6).tolist()]
    assert rows == DRAWN[task]


def test_the_papers_holes_are_those_of_16_by_16():
    inpainting, outpainting = hole_of("inpainting", 16, 16), hole_of("outpainting", 16, 16)
    assert inpainting.nonzero().unique().tolist() == list(range(4, 12)) and inpainting.sum() == 64
    assert outpainting[8:].all() and not outpainting[:8].any()


def test_steps_are_neighbours_in_raster_order():
    assert steps_of("inpainting", 4, 6, 2) == [(7, 8), (9,), (13, 14), (15,)]
    assert steps_of("outpainting", 4, 6, 5) == [(12, 13, 14, 15, 16), (17, 18, 19, 20, 21), (22, 23)]
    assert [place for step in steps_of("shift", 4, 6, 7) for place in step] == list(range(24))
    published = {task: len(steps_of(task, 16, 16, 2)) for task in TASKS}
    assert published == {"inpainting": 32, "outpainting": 64, "deblurring": 128, "rotation": 128, "shift": 128}


def test_mistakes_are_named():
    with pytest.raises(UserError, match="no restoration task 'sharpening': choose one of inpainting"):
        hole_of("sharpening", 4, 4)
    with pytest.raises(UserError, match="1 x 8 tokens is too small"):
        hole_of("inpainting", 1, 8)


def test_a_hole_is_filled_by_its_nearest_neighbour():
    tokens = torch.arange(24).view(1, 4, 6)
    filled = fill_with_nearest(tokens, hole_of("inpainting", 4, 6))[0].tolist()
    # in the middle the row above and the row below are as near as each other: the first in raster order counts
    assert filled == [[0, 1, 2, 3, 4, 5], [6, 1, 2, 3, 10, 11], [12, 12, 20, 16, 16, 17], [18, 19, 20, 21, 22, 23]]
    below = fill_with_nearest(tokens, hole_of("outpainting", 4, 6))[0]
    assert below[2].tolist() == below[3].tolist() == [6, 7, 8, 9, 10, 11]


def test_what_is_drawn_depends_on_seed_and_purpose_alone():
    def draw(*arguments):
        return torch.randint(1_000_000, (4,), generator=seeded(*arguments)).tolist()

    content = map_bytes(torch.arange(6).view(2, 3))
    assert draw(0, "blur", content) == draw(0, "blur", content)
    drawn = [draw(0, "blur", content), draw(1, "blur", content), draw(0, "copies", content), draw(0, "blur", b"")]
    assert len({tuple(row) for row in [*drawn, draw(0, "blurcop", b"ies")]}) == 5
    assert map_bytes([[0, 1, 2], [3, 4, 5]]) == content
