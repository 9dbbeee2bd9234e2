"""One line of text becomes a task and its data."""

import numpy as np
import pytest
from PIL import Image

from visual_sentence import UserError
from visual_sentence.data import parse_task_data


def test_options_go_where_they_belong():
    data = parse_task_data("denoising:shapes[10:20]?sigma=10-30&size=32&seed=4&draws=3")
    assert data.task.name == "denoising" and data.task.sigma == (10.0, 30.0)
    assert len(data.source) == 10 and data.source[0].source == "shapes-4-10" and data.source[0].image.size == (32, 32)
    assert data.draws == 3 and data.text.startswith("denoising:")
    assert parse_task_data("edges:shapes").draws == 1


def test_the_task_says_which_labels_it_wants(write_table, cell):
    pixels = np.zeros((4, 4), np.uint8)
    row = {"image": cell(Image.new("RGB", (4, 4))), "semantic": cell(pixels + 3), "instances": cell(pixels + 8)}
    path = write_table([row])
    assert parse_task_data(f"segmentation:{path}?foreground=3").source[0].label_map[0, 0] == 3
    assert parse_task_data(f"instance_segmentation:{path}").source[0].label_map[0, 0] == 8
    named = parse_task_data(f"instance_segmentation:{path}?label_column=semantic")
    assert named.source[0].label_map[0, 0] == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("denoising", "which data"),
        ("denoising:", "which data"),
        ("sharpening:shapes", "no task 'sharpening'"),
        ("denoising:shapes?sigma", "'sigma' is no option"),
        ("denoising:shapes?sigma=1&sigma=2", "twice"),
        ("denoising:shapes?draws=0", "draws=0"),
        ("denoising:shapes?draws=x", "draws=x"),
        ("denoising:shapes?seeed=3", "'seeed'"),
        ("denoising:shapes?mask_column=m", "mask_column"),
        ("denoising:shapes[5:5]", "nothing"),
        ("denoising:nowhere/at-all.parquet", "no such file"),
    ],
)
def test_mistakes_are_named_in_one_line(text, says):
    with pytest.raises(UserError, match=says) as caught:
        parse_task_data(text)
    assert "\n" not in str(caught.value)
