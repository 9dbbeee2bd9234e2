"""Real sets: that each column means what the sources take it for."""

import numpy as np
import pytest

from visual_sentence.data import SentenceMaker, parse_task_data


def test_camvid_road(real_data):
    data = parse_task_data(f"segmentation:{real_data('camvid/val.parquet')}[:20]?foreground=3")
    example = data.source[0]
    assert min(example.image.size) == 256 and set(np.unique(example.label_map)) <= set(range(12))
    sentence = SentenceMaker(data, size=64).sentence(0, 3)
    assert len(set(sentence.sources)) == 4 and sentence.setting.endswith("foreground=3")
    for answer in sentence.images()[1::2]:
        white = np.asarray(answer)[..., 0] == 255
        assert white[40:].mean() > 3 * white[:24].mean()  # the road is below


def test_camvid_classes(real_data):
    data = parse_task_data(f"palette_segmentation:{real_data('camvid/val.parquet')}[:3]?classes=0-11")
    pair = data.task.pair(data.source[1], np.random.default_rng(0))
    palette = {colour: index for index, colour in enumerate(data.task.palette())}
    target, labels = np.asarray(pair.target), data.source[1].label_map
    for row in range(0, labels.shape[0], 16):
        for column in range(0, labels.shape[1], 16):
            assert palette[tuple(int(value) for value in target[row, column])] == labels[row, column]


@pytest.mark.parametrize(("name", "count", "sources"), [("dsb-he-train", 91, 23), ("monuseg-test", 63, 7)])
def test_nuclei_are_darker_and_sources_known(real_data, name, count, sources):
    data = parse_task_data(f"segmentation:{real_data(f'nuclei/{name}.parquet')}")
    assert len(data.source) == count
    assert len({data.source.source_of(index) for index in range(count)}) == sources
    example = data.source[0]
    grey = np.asarray(example.image.convert("L"), float)
    assert grey[example.mask].mean() < grey[~example.mask].mean() - 10
    stain = parse_task_data(f"stain_brightness:{real_data(f'nuclei/{name}.parquet')}?factor=1.5")
    pair = stain.task.pair(stain.source[0], np.random.default_rng(0))
    assert np.asarray(pair.input).mean() < np.asarray(pair.target).mean() - 5


def test_coco_foregrounds_agree(real_data):
    path = real_data("segmentation/coco100-val.parquet")
    semantic = parse_task_data(f"segmentation:{path}?foreground=any&ignore=none&mask_column=foreground").source
    instances = parse_task_data(f"instance_segmentation:{path}?ignore=none").source
    for index in range(0, len(semantic), 9):
        assert (semantic[index].mask == (semantic[index].label_map > 0)).all()
        assert (semantic[index].mask == (instances[index].label_map > 0)).all()
        assert semantic[index].label_map.max() in (*range(91), 255)
    maker = SentenceMaker(parse_task_data(f"segmentation:{path}?foreground=any"), size=64)
    sentence = maker.sentence(1, 2)
    assert all(np.asarray(answer).max() == 255 for answer in sentence.images()[1::2])


def test_bsds_regions(real_data):
    data = parse_task_data(f"instance_segmentation:{real_data('segmentation/bsds500-val.parquet')}[:2]")
    example = data.source[0]
    assert example.label_map.min() == 1
    colours = np.asarray(data.task.pair(example, np.random.default_rng(0)).target).reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) == len(np.unique(example.label_map))
