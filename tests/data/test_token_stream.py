"""Streams: every row once per epoch over all nodes, and from any position on exactly as without the interruption."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from visual_sentence.data.shards import TokenHeader, TokenRow, TokenShards, write_shards
from visual_sentence.data.token_stream import SentenceStream
from visual_sentence.errors import UserError

HEADER = TokenHeader("ab" * 32, 2000, (1, 2))
ROWS = 1500


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> TokenShards:
    """1,500 pairs of two tasks in shards of 700 rows; the first token of a row is its number."""
    folder = tmp_path_factory.mktemp("stream") / "shards"
    tasks = ["edges" if number < 600 else "denoising" for number in range(ROWS)]
    rows = (
        TokenRow(np.array([number, 0, number, 1]), task, "", f"picture-{number // 2}", "pair", number)
        for number, task in enumerate(tasks)
    )
    write_shards(folder, HEADER, rows, shard_rows=700)
    return TokenShards.open(folder)


def make(shards: TokenShards, rank: int = 0, world_size: int = 1, **options) -> SentenceStream:
    return SentenceStream(shards, (1, 3), seed=5, block_rows=512, rank=rank, world_size=world_size, **options)


def epochs(stream: SentenceStream, count: int):
    """Sentences of some epochs, as lists of tokens."""
    for _ in range(count):
        yield from (sentence.tokens.tolist() for sentence in stream)


def rows_of(sentences: list[list[int]]) -> list[int]:
    """Numbers of the rows that the sentences are made of."""
    return [row for tokens in sentences for row in tokens[::4]]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_the_nodes_of_an_epoch_see_every_row_once(shards, world_size):
    for epoch in (0, 1):
        seen = Counter()
        for rank in range(world_size):
            stream = make(shards, rank, world_size)
            found = [list(epochs(stream, 1)) for _ in range(epoch + 1)][-1]
            assert stream.unplaced == 0
            for tokens in found:
                members = rows_of([tokens])
                assert len({row // 2 for row in members}) == len(members) >= 2  # sources differ
                assert len({row < 600 for row in members}) == 1  # one task
            seen.update(rows_of(found))
        assert sorted(seen) == list(range(ROWS)) and set(seen.values()) == {1}


def test_epochs_mix_shards_and_differ(shards):
    stream = make(shards)
    first, second = list(epochs(stream, 1)), list(epochs(stream, 1))
    assert first != second
    assert first == list(epochs(make(shards), 1))
    # a block of two runs of 256 rows is not two neighbours: the order of reading is drawn
    assert max(np.diff(rows_of(first)[:400])) > 300


@pytest.mark.parametrize(("rank", "world_size"), [(0, 1), (1, 2), (0, 3), (2, 3)])
def test_a_stream_goes_on_exactly_where_it_was_left(shards, rank, world_size):
    whole = list(epochs(make(shards, rank, world_size), 2))
    middle = len(whole) // 2
    for cut in (0, 1, 17, 100, middle - 1, middle, middle + 1, len(whole) - 3):
        left = make(shards, rank, world_size)
        before = list(islice(epochs(left, 2), cut))
        state = left.state_dict()
        after = make(shards, rank, world_size)
        after.load_state_dict(state)
        assert before + list(islice(epochs(after, 3), len(whole) - cut)) == whole


def test_positions_of_other_streams_are_refused(shards):
    state = make(shards, 0, 2).state_dict()
    with pytest.raises(UserError, match=r"left with rank 0, now it is 1"):
        make(shards, 1, 2).load_state_dict(state)
    with pytest.raises(UserError, match=r"left with seed 5, now it is 6"):
        SentenceStream(shards, (1, 3), 6, 512, 0, 2).load_state_dict(state)
    with pytest.raises(UserError, match=r"left with rows None"):
        make(shards).load_state_dict({"epoch": 0})


def test_too_many_nodes_are_one_line(shards):
    with pytest.raises(UserError, match=r"7 runs of up to 256 rows, too few for 8 nodes"):
        make(shards, 0, 8)
    with pytest.raises(UserError, match=r"Node 2 is none of 2"):
        make(shards, 2, 2)


def test_rows_that_find_no_company_are_counted(tmp_path):
    rows = [TokenRow(np.array([n, 0, n, 1]), "edges", "", f"p{min(n, 7)}", "pair", n) for n in range(20)]
    write_shards(tmp_path / "s", HEADER, rows)
    stream = SentenceStream(TokenShards.open(tmp_path / "s"), (1, 1))
    found = list(epochs(stream, 1))
    # 13 rows of one picture, 7 of others
    assert len(found) == 7 and stream.unplaced == 6
