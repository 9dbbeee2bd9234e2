"""One line of text becomes a task and its data."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from visual_sentence import UserError
from visual_sentence.data import Example, Light, SentenceMaker, parse_task_data


def test_options_go_where_they_belong():
    data = parse_task_data("denoising:shapes[10:20]?sigma=10-30&size=32&seed=4&draws=3")
    assert data.task.name == "denoising" and data.task.sigma == (10.0, 30.0)
    assert len(data.source) == 10 and data.source[0].source == "shapes-4-10" and data.source[0].image.size == (32, 32)
    assert data.draws == 3 and data.text.startswith("denoising:")
    assert parse_task_data("edges:shapes").draws == 1


def test_light_is_for_training_and_leaves_annotations_alone():
    data = parse_task_data("segmentation:shapes[:3]?gamma=0.5-2&tint=0.3&draws=2")
    assert data.light == Light((0.5, 2.0), 0.3) and parse_task_data("segmentation:shapes").light is None
    assert parse_task_data("segmentation:shapes?tint=0.1").light == Light((1.0, 1.0), 0.1)
    plain, lit = (SentenceMaker(one, size=32) for one in (replace(data, light=None), data))
    pairs = [(plain.pair(number), lit.pair(number)) for number in range(6)]
    for one, other in pairs:
        assert one.target.tobytes() == other.target.tobytes()
        assert one.input.tobytes() != other.input.tobytes()
    # another light each time the example is drawn; the same one for the same number
    assert pairs[0][1].input.tobytes() != pairs[3][1].input.tobytes()
    assert pairs[0][1].input.tobytes() == lit.pair(0).input.tobytes()


def test_light_is_a_power_of_values_and_its_tint_one_of_channels():
    example = Example(Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("RGB"), "ramp")
    rng = np.random.default_rng(0)
    lit = np.asarray(Light((2.0, 2.0)).apply(example, rng).image)[..., 0].ravel()
    assert np.array_equal(lit, np.rint(255 * (np.arange(256) / 255) ** 2))
    tinted = np.asarray(Light(tint=0.5).apply(example, rng).image).reshape(256, 3)
    assert (tinted[0] == 0).all() and (tinted[255] == 255).all() and (np.diff(tinted.astype(int), axis=0) >= 0).all()
    assert len({tuple(channel) for channel in tinted.T}) == 3
    with pytest.raises(UserError, match="is no light"):
        Light((0.0, 1.0))


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
        ("segmentation:shapes?gamma=0", "gamma=0"),
        ("segmentation:shapes?tint=x", "tint=x"),
        ("denoising:nowhere/at-all.parquet", "no such file"),
    ],
)
def test_mistakes_are_named_in_one_line(text, says):
    with pytest.raises(UserError, match=says) as caught:
        parse_task_data(text)
    assert "\n" not in str(caught.value)
