"""Packing: whole sentences only, each place knows its sentence."""

import numpy as np
import pytest

from visual_sentence.data.packing import pack
from visual_sentence.data.token_sentences import TokenSentence
from visual_sentence.errors import UserError


def sentence(images: int, first: int = 0) -> TokenSentence:
    """Images of two tokens, counted on from `first`."""
    is_target = np.arange(images) % 2 == 1
    return TokenSentence(np.arange(first, first + 2 * images), images, is_target, "edges")


def test_a_row_worked_out_by_hand():
    (row,) = pack([sentence(2, 10), sentence(1, 20)], length_images=4)
    assert row.tokens.tolist() == [10, 11, 12, 13, 20, 21, 0, 0]
    assert row.is_target.tolist() == [False, False, True, True, False, False, False, False]
    assert row.sentence_ids.tolist() == [0, 0, 0, 0, 1, 1, -1, -1]
    assert row.position_ids.tolist() == [0, 1, 2, 3, 0, 1, 0, 0]


def test_each_goes_into_the_first_row_with_room():
    lengths = [4, 6, 4, 2, 6]  # rows of 8: 4+4, 6+2, 6
    rows = list(pack([sentence(length, 100 * place) for place, length in enumerate(lengths)], length_images=8))
    begins = [[int(row.tokens[place]) for place in np.flatnonzero(row.position_ids == 0)] for row in rows]
    starts = [[begin for begin in one if begin % 100 == 0] for one in begins]
    assert [one[:2] for one in starts[:2]] == [[0, 200], [100, 300]]
    assert starts[2][0] == 400 and rows[2].sentence_ids[-1] == -1


@pytest.mark.parametrize("open_rows", [1, 3, 100])
def test_nothing_is_lost_doubled_or_cut(open_rows):
    rng = np.random.default_rng(0)
    given = [sentence(int(images), 100 * place) for place, images in enumerate(rng.integers(1, 9, 200))]
    rows = list(pack(given, 10, open_rows))
    found = []
    for row in rows:
        assert len(row.tokens) == len(row.is_target) == len(row.sentence_ids) == len(row.position_ids) == 20
        for number in range(row.sentence_ids.max() + 1):
            places = np.flatnonzero(row.sentence_ids == number)
            assert np.array_equal(row.position_ids[places], np.arange(len(places)))
            found.append((row.tokens[places].tolist(), row.is_target[places].tolist()))
    wanted = [(one.tokens.tolist(), np.repeat(one.is_target, 2).tolist()) for one in given]
    assert sorted(found) == sorted(wanted)
    if open_rows == 100:  # first fit wastes little
        assert len(rows) <= 1.1 * sum(one.num_images for one in given) / 10


def test_a_sentence_that_is_too_long_is_one_line():
    with pytest.raises(UserError, match="6 images does not fit into rows of 4"):
        list(pack([sentence(6)], 4))
