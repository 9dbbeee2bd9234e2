"""Sentences composed of rows: one task and setting, different sources, every row once."""

import time
from collections import Counter

import numpy as np
import pytest

from visual_sentence.data.shards import TokenHeader, TokenRow, TokenShards, write_shards
from visual_sentence.data.token_sentences import SentenceTable, compose
from visual_sentence.errors import UserError

HEADER = TokenHeader("ab" * 32, 50, (1, 2))


def pair(number: int, task: str = "denoising", setting: str = "", source: str | None = None) -> TokenRow:
    """A pair whose tokens say which it is: input (a, b), target (a, b) + 20."""
    a, b = number % 20, number // 20 % 20
    return TokenRow(np.array([a, b, a + 20, b + 20]), task, setting, source or f"picture-{number}", "pair", number)


def shards_of(rows: list[TokenRow], folder) -> TokenShards:
    write_shards(folder, HEADER, rows, shard_rows=70)
    return TokenShards.open(folder)


def test_every_row_is_used_once_among_its_own_kind(tmp_path):
    rows = [
        pair(number, ("denoising", "segmentation")[number % 2], f"s={number % 3}", f"picture-{number // 7}")
        for number in range(300)
    ]
    table = SentenceTable(shards_of(rows, tmp_path), (1, 4), seed=3)
    sentences = table.epoch(0)
    used = Counter()
    for place in range(len(sentences)):
        members = [rows[row] for row in sentences.composition.members(place)]
        used.update(row.index for row in members)
        assert len({(row.task, row.setting) for row in members}) == 1
        assert len({row.source for row in members}) == len(members)
        assert 2 <= len(members) <= 5
        sentence = sentences[place]
        np.testing.assert_array_equal(sentence.tokens, np.concatenate([row.tokens for row in members]))
        assert sentence.tokens.dtype == np.int64
        assert (sentence.num_images, sentence.task) == (2 * len(members), members[0].task)
        assert sentence.is_target.tolist() == [False, True] * len(members)
    assert sorted(used) == list(range(300)) and set(used.values()) == {1}
    assert len(sentences.unplaced) == 0


def test_epochs_differ_and_are_repeatable(tmp_path):
    shards = shards_of([pair(number) for number in range(60)], tmp_path)

    def tokens(seed: int, epoch: int) -> list[list[int]]:
        return [one.tokens.tolist() for one in SentenceTable(shards, seed=seed).epoch(epoch)]

    assert tokens(0, 1) == tokens(0, 1)
    assert tokens(0, 1) != tokens(0, 0)
    assert tokens(0, 1) != tokens(1, 1)


def test_numbers_of_pairs_are_equally_likely():
    rng = np.random.default_rng(0)
    found = compose(np.zeros(14_000, np.int64), np.arange(14_000), (1, 4), rng)
    sizes = Counter(np.diff(found.offsets).tolist())
    assert set(sizes) == {2, 3, 4, 5}  # pairs before the query, and the query's own
    # 4,000 sentences expected, 1,000 of each size; five standard deviations are 137
    assert all(abs(count - 1000) < 137 for count in sizes.values())


def test_the_query_is_any_of_the_rows():
    rng = np.random.default_rng(0)
    # source 0 has half of the rows: it stands in every sentence, but must not always stand first or last
    source = np.where(np.arange(2000) < 1000, 0, np.arange(2000))
    found = compose(np.zeros(2000, np.int64), source, (1, 1), rng)
    heavy_last = [source[found.members(place)[-1]] == 0 for place in range(len(found))]
    assert len(found) == 1000 and len(found.unplaced) == 0
    assert 400 < sum(heavy_last) < 600


@pytest.mark.parametrize("num_pairs", [(1, 1), (1, 4), (2, 3), (3, 3), (0, 2)])
def test_no_row_is_left_out_that_could_be_placed(num_pairs):
    rng = np.random.default_rng(1)
    for _ in range(150):
        source = rng.integers(0, rng.integers(1, 9), size=rng.integers(1, 40)) ** 2
        found = compose(np.zeros(len(source), np.int64), source, num_pairs, rng)
        everything = sorted([*found.rows.tolist(), *found.unplaced.tolist()])
        assert everything == list(range(len(source)))
        sizes = np.diff(found.offsets)
        assert sizes.max(initial=1) <= num_pairs[1] + 1
        for place in range(len(found)):
            members = source[found.members(place)]
            assert len(set(members)) == len(members)
        # rows of the commonest source each need a row of another
        most = Counter(source.tolist()).most_common(1)[0][1]
        lost = max(0, 2 * most - len(source))
        if num_pairs[1] == 1:
            lost = max(lost, len(source) % 2)
        if num_pairs[0] == 0:
            lost = 0
        else:
            assert sizes.min(initial=2) >= 2
        assert len(found.unplaced) == lost


def test_rows_without_company_are_reported(tmp_path):
    rows = [pair(number) for number in range(10)]
    rows += [pair(number, "edges", source="one") for number in (10, 11)] + [pair(12, setting="sigma=50")]
    table = SentenceTable(shards_of(rows, tmp_path))
    assert table.unplaced.tolist() == [10, 11, 12]
    assert table.epoch(4).unplaced.tolist() == [10, 11, 12]
    assert len(SentenceTable(table.shards, (0, 2)).unplaced) == 0


def test_sequences_are_sentences_by_themselves(tmp_path):
    frames = TokenRow(np.arange(6), "video", source="film", layout="sequence")
    table = SentenceTable(shards_of([frames, *(pair(number) for number in range(4))], tmp_path), (3, 3))
    found = sorted(table.epoch(0), key=lambda one: one.task)
    assert [one.task for one in found] == ["denoising", "video"]
    assert found[1].tokens.tolist() == [0, 1, 2, 3, 4, 5]
    assert (found[1].num_images, found[1].is_target.tolist()) == (3, [False, True, True])


def test_hopeless_data_is_one_line(tmp_path):
    shards = shards_of([pair(number, source="same") for number in range(4)], tmp_path)
    with pytest.raises(UserError, match=r"no sentence can be composed of its 4 rows"):
        SentenceTable(shards)
    with pytest.raises(UserError, match=r"3 to 1 pairs"):
        SentenceTable(shards, (3, 1))


def test_a_hundred_thousand_rows_are_composed_in_seconds():
    rng = np.random.default_rng(0)
    group, source = rng.integers(0, 30, 100_000), rng.integers(0, 20_000, 100_000)
    begin = time.process_time()
    found = compose(group, source, (1, 4), rng)
    assert time.process_time() - begin < 5
    assert len(found.rows) == 100_000
