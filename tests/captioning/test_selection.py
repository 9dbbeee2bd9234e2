"""Which examples are chosen, against plain loops; and never the picture itself."""

from random import Random

import pytest
import torch

from visual_sentence.captioning import ExamplePool, captions_of, read_captions
from visual_sentence.captioning.selection import picture_digest, see
from visual_sentence.errors import UserError


@pytest.fixture
def others(pictures) -> list:
    """Three pictures that are not in the pool."""
    return [picture.rotate(90) for picture in pictures[:3]]


def texts(chosen: list) -> list[str]:
    return [example.row.texts[0] for example in chosen]


def test_equal_pixels_have_one_digest(pictures, tmp_path):
    pictures[0].save(tmp_path / "one.png")
    pictures[0].save(tmp_path / "one.bmp")
    (from_png,) = captions_of([(tmp_path / "one.png", "a")]).rows
    (from_bmp,) = captions_of([(tmp_path / "one.bmp", "a")]).rows
    digests = {picture_digest(picture) for picture in (pictures[0], from_png.open(), from_bmp.open())}
    assert len(digests) == 1
    assert len({picture_digest(picture) for picture in pictures}) == len(pictures)
    assert picture_digest(pictures[0].crop((0, 0, 20, 40))) != picture_digest(pictures[0].crop((0, 0, 40, 20)))


def test_random_is_one_draw_for_all(finder, pairs, others):
    queries = list(see(finder, others, 3))
    order = [text for _, text in pairs]
    Random(4).shuffle(order)
    pool = ExamplePool(captions_of(pairs), finder, num_words=3, num_examples=3, seed=4)
    assert [texts(pool.examples_for(query)) for query in queries] == [order[:3]] * 3
    words = [tuple(found.words) for found in finder.find([picture for picture, _ in pairs], 3)]
    known = dict(zip((text for _, text in pairs), words, strict=True))
    assert all(example.seen.words == known[example.row.texts[0]] for example in pool.examples_for(queries[0]))


def test_a_picture_is_never_its_own_example(finder, pairs, caption_folder):
    order = [text for _, text in pairs]
    Random(0).shuffle(order)
    for choose in ("random", "nearest"):
        pool = ExamplePool(read_captions(str(caption_folder)), finder, 3, num_examples=4, choose=choose)
        for picture, own in pairs:
            (query,) = see(finder, [picture], 3)
            chosen = texts(pool.examples_for(query))
            assert own not in chosen and len(set(chosen)) == 4
            if choose == "random":  # left out, and the next drawn one behind the others
                assert chosen == [text for text in order if text != own][:4]


def test_nearest_is_a_plain_loop_over_cosines(finder, pairs, others):
    embeds = [found.image_embeds for found in finder.find([picture for picture, _ in pairs], 3)]
    pool = ExamplePool(captions_of(pairs), finder, 3, num_examples=2, choose="nearest")
    for query in see(finder, others, 3):
        cosines = [float(torch.cosine_similarity(embed, query.image_embeds, dim=0)) for embed in embeds]
        ranked = sorted(range(5), key=lambda place: -cosines[place])
        assert texts(pool.examples_for(query)) == [pairs[ranked[1]][1], pairs[ranked[0]][1]]  # the nearest last
        assert pool.nearest(query).row.texts[0] == pairs[ranked[0]][1]


def test_all_that_are_given_keep_their_order(finder, pairs, others):
    (query,) = see(finder, others[:1], 3)
    given = [*pairs, (pairs[0][0], "the first again")]
    pool = ExamplePool(captions_of(given), finder, 3, num_examples=None)
    assert texts(pool.examples_for(query)) == [text for _, text in given]
    (query,) = see(finder, [pairs[2][0]], 3)
    assert texts(pool.examples_for(query)) == [text for place, (_, text) in enumerate(given) if place != 2]


def test_a_picture_with_several_rows_is_shown_once(finder, pairs, others):
    table = captions_of([*pairs[:2], (pairs[0][0], "a cat again"), (pairs[1][0], "dogs again")])
    (query,) = see(finder, others[:1], 3)
    for choose in ("random", "nearest"):
        chosen = texts(ExamplePool(table, finder, 3, 2, choose).examples_for(query))
        assert {"cat" in text.lower() for text in chosen} == {True, False}
        with pytest.raises(UserError, match="Only 2 pictures of the examples can be examples here, 3 are asked for"):
            ExamplePool(table, finder, 3, 3, choose).examples_for(query)


def test_words_are_found_once_and_only_where_needed(finder, pairs, others):
    looked_at = []
    finder.model.image_tower.register_forward_pre_hook(lambda module, inputs: looked_at.append(len(inputs[0])))
    queries = list(see(finder, others, 3))
    del looked_at[:]
    pool = ExamplePool(captions_of(pairs), finder, 3, num_examples=2)
    for query in queries:
        pool.examples_for(query)
    assert looked_at == [2]
    pool.nearest(queries[0])
    assert sum(looked_at) == 5


def test_too_few_examples_are_named(finder, pairs):
    (query,) = see(finder, [pairs[0][0]], 3)
    for choose in ("random", "nearest"):
        with pytest.raises(UserError, match="Only 4 pictures of the examples can be examples here, 5 are asked for"):
            ExamplePool(captions_of(pairs), finder, 3, 5, choose).examples_for(query)
        with pytest.raises(UserError, match=r"Only 0 pictures .* 1 are asked for"):
            ExamplePool(captions_of(pairs[:1]), finder, 3, None, choose).examples_for(query)


def test_broken_pictures_end_it_or_are_passed_over(finder, caption_folder, others):
    (caption_folder / "1.png").write_bytes(b"text")
    (query,) = see(finder, others[:1], 3)
    for choose in ("random", "nearest"):
        strict = ExamplePool(read_captions(str(caption_folder)), finder, 3, 4, choose)
        for _ in range(2):  # a second call finds it as broken as the first
            with pytest.raises(UserError, match=r"captioned, row 1: .*is not a picture"):
                strict.examples_for(query)
        rows = read_captions(str(caption_folder))
        pool = ExamplePool(rows, finder, 3, 4, choose, skip_bad=True)
        assert sorted(texts(pool.examples_for(query))) == ["A cat.", "The moon above a boat.", "a red car", "a tree"]
        assert len(rows.problems) == 1 and "row 1" in rows.problems[0]


def test_wrong_values_are_named(finder, pairs):
    with pytest.raises(UserError, match="no way 'best' to choose examples: use random or nearest"):
        ExamplePool(captions_of(pairs), finder, choose="best")
    with pytest.raises(UserError, match="num_examples must be at least 1, got 0"):
        ExamplePool(captions_of(pairs), finder, num_examples=0)
