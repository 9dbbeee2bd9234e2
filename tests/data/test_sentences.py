"""Composition: who stands with whom, that chance repeats, and that annotations follow their pictures."""

import numpy as np
import pytest
from PIL import Image

from visual_sentence import UserError
from visual_sentence.data import Augmentation, Example, SentenceMaker, TaskData, make_task, parse_task_data


def numbered(count: int, group: int = 1, classes=lambda number: {number % 3}) -> list[Example]:
    """Examples whose picture, mask, labels and target all show their number."""
    examples = []
    for number in range(count):
        values = np.arange(12 * 10, dtype=np.int64).reshape(12, 10)
        present = sorted(classes(number))
        labels = np.array([0, *present])[values % (len(present) + 1)]
        picture = Image.fromarray(np.repeat((values + number).astype(np.uint8)[..., None], 3, axis=2))
        target = Image.fromarray(255 - np.asarray(picture))
        examples.append(Example(picture, f"s{number // group}", values % 2 == 0, labels, target))
    return examples


@pytest.fixture
def make(list_source):
    def build(task: str, examples, augment=None, seed=0, size=None, **options) -> SentenceMaker:
        data = TaskData(make_task(task, **options), list_source(examples))
        return SentenceMaker(data, augment, seed, size)

    return build


def contents(sentence) -> list[bytes]:
    return [picture.tobytes() for picture in sentence.images()]


def test_pictures_come_in_order(make):
    sentence = make("pairs", numbered(9)).sentence(0, 3)
    assert len(sentence.images()) == 8 and len(sentence.images(with_target=False)) == 7
    assert sentence.images()[-1] is sentence.target and sentence.images()[-2] is sentence.query
    for question, answer in zip(sentence.images()[::2], sentence.images()[1::2], strict=True):
        assert (np.asarray(question).astype(int) + np.asarray(answer) == 255).all()
    assert sentence.task == "pairs" and sentence.setting == "data=list"


def test_no_source_comes_twice(make):
    maker = make("denoising", numbered(12, group=3))
    for index in range(40):
        sources = maker.sentence(index, 3).sources
        assert len(sources) == 4 == len(set(sources))
    with pytest.raises(UserError, match="4 different sources, so 3 pairs fit beside the query, you asked for 4"):
        maker.sentence(0, 4)


def test_a_sentence_repeats_and_grows_by_more_pairs(make):
    one, other = (make("denoising", numbered(30), seed=7) for _ in range(2))
    other.sentence(5, 2)
    assert contents(one.sentence(4, 3)) == contents(other.sentence(4, 3))
    short, long = one.sentence(4, 1), one.sentence(4, 5)
    assert contents(short)[:2] == contents(long)[:2] and contents(short)[-2:] == contents(long)[-2:]
    assert contents(one.sentence(4, 3)) != contents(one.sentence(5, 3))
    assert contents(one.sentence(4, 3)) != contents(make("denoising", numbered(30), seed=8).sentence(4, 3))


def test_queries_take_turns_or_are_named(make):
    maker = make("colourisation", numbered(10))
    for turn in range(2):
        assert sorted(maker.sentence(10 * turn + at, 1).sources[-1] for at in range(10)) == sorted(
            f"s{number}" for number in range(10)
        )
    assert maker.sentence(3, 2, query=6).sources[-1] == "s6"
    with pytest.raises(UserError, match="no number 10"):
        maker.sentence(0, 1, query=10)


def test_the_class_is_shared_and_everywhere_present(make):
    maker = make("segmentation", numbered(20, classes=lambda number: {1 + number % 2, 3}), foreground="any")
    seen = set()
    for index in range(20):
        sentence = maker.sentence(index, 3)
        assert {pair.setting for pair in sentence.pairs} == {sentence.setting}
        assert all(np.asarray(picture).max() == 255 for picture in sentence.images()[1::2])
        seen.add(sentence.setting)
    assert seen == {f"data=list,foreground={index}" for index in (1, 2, 3)}


def test_classes_that_too_few_have_are_given_up(make):
    maker = make("segmentation", numbered(8, classes=lambda number: {9} if number == 0 else {5}), foreground="any")
    assert {maker.sentence(index, 4).setting for index in range(8)} == {"data=list,foreground=5"}
    with pytest.raises(UserError, match="7 different sources with data=list,foreground=5, so 6 pairs fit"):
        maker.sentence(0, 7)
    with pytest.raises(UserError, match=r"1 different sources with .*foreground=9, so 0 pairs fit"):
        maker.sentence(0, 1, query=0)


def test_a_named_class_is_in_the_pairs_but_need_not_be_in_a_named_query(make):
    maker = make("segmentation", numbered(9, classes=lambda number: {1} if number < 6 else {2}), foreground="1")
    sentence = maker.sentence(0, 5, query=8)
    assert set(sentence.sources[:-1]) <= {f"s{number}" for number in range(6)}
    assert np.asarray(sentence.target).max() == 0
    assert {maker.pair(index).source for index in range(9)} == {f"s{number}" for number in range(6)}
    with pytest.raises(UserError, match="None of the 9 examples"):
        make("segmentation", numbered(9), foreground="7").pair(0)


def test_pairs_by_number_are_drawn_anew_each_turn(make):
    maker = make("denoising", numbered(5))
    assert [maker.pair(index).source for index in range(7)] == ["s0", "s1", "s2", "s3", "s4", "s0", "s1"]
    assert maker.pair(0).input.tobytes() != maker.pair(5).input.tobytes()
    assert maker.pair(0).target.tobytes() == maker.pair(5).target.tobytes()
    assert maker.pair(5).input.tobytes() == make("denoising", numbered(5)).pair(5).input.tobytes()


def test_length_counts_draws():
    assert len(SentenceMaker(parse_task_data("denoising:shapes[:12]?draws=3"))) == 36


def test_pictures_are_stretched_before_they_are_damaged(make):
    pair = make("denoising", numbered(3), size=64, sigma=20).pair(0)
    assert pair.input.size == (64, 64)
    assert (np.asarray(pair.input, float) - np.asarray(pair.target)).std() > 15  # resizing it would smooth the noise


def test_augmentation_moves_everything_alike(rng):
    example = numbered(1)[0]
    augment = Augmentation(flip_vertical=True, rotate=True, crop_scale=(0.3, 1.0))
    seen = set()
    for _ in range(40):
        changed = augment.apply(example, rng)
        values = np.asarray(changed.image)[..., 0].astype(int)  # each pixel knows where it was
        assert changed.source == "s0" and changed.label_map.dtype == np.int64
        assert (changed.mask == (values % 2 == 0)).all()
        assert (changed.label_map == example.label_map[values // 10, values % 10]).all()
        assert (np.asarray(changed.target)[..., 0] == 255 - values).all()
        seen.add((values.shape, values[0, 0]))
    assert len(seen) > 20
    assert {shape[0] > shape[1] for shape, _ in seen} == {True, False}  # quarter turns too


def test_augmentation_that_may_do_nothing_does_nothing(rng):
    example = numbered(1)[0]
    changed = Augmentation(flip_horizontal=False, crop_scale=(1.0, 1.0)).apply(example, rng)
    assert changed.image.tobytes() == example.image.tobytes() and (changed.mask == example.mask).all()
    with pytest.raises(UserError, match="crop of 0"):
        Augmentation(crop_scale=(0.0, 1.0))


def test_crops_do_not_lose_the_class(make):
    corner = np.zeros((40, 40), np.int64)
    corner[:3, :3] = 1
    examples = [Example(Image.new("RGB", (40, 40)), f"s{number}", label_map=corner) for number in range(6)]
    maker = make("segmentation", examples, Augmentation(crop_scale=(0.2, 0.4)), foreground="1")
    assert all(np.asarray(maker.pair(index).target).max() == 255 for index in range(30))


def test_stretching_treats_masks_and_labels_as_such():
    labels = np.array([[1, 1, 7, 7], [1, 1, 7, 7]])
    mask = np.array([[True, True, True, False], [False, True, False, False]])
    example = Example(Image.new("RGB", (4, 2), "red"), "x", mask, labels)
    small, large = example.stretched((2, 1)), example.stretched((8, 4))
    assert small.mask.tolist() == [[True, False]]  # three of four, one of four
    assert small.label_map.tolist() == [[1, 7]] and set(np.unique(large.label_map)) == {1, 7}
    assert (large.mask == np.kron(mask, np.ones((2, 2))).astype(bool)).all()
