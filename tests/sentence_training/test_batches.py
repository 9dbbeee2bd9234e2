"""Batches against rows that were written by hand; packing, dealing, and going on where a feed stood."""

import numpy as np
import pytest
import torch

from visual_sentence.data.shards import TokenShards
from visual_sentence.data.token_rows import TokenRow
from visual_sentence.data.token_sentences import SentenceTable, TokenSentence
from visual_sentence.data.token_stream import SentenceStream
from visual_sentence.errors import UserError
from visual_sentence.modeling import ImageTokenConverter
from visual_sentence.sentence_training.batches import (
    Collator,
    SentenceFeed,
    StreamChunks,
    TableChunks,
    block_mask,
    pack_first_fit,
    sentence_sizes,
    stream_chunk,
)
from visual_sentence.training.data import Share

PLAIN = ImageTokenConverter(5, 0, {}, 5)
FRAMED = ImageTokenConverter(5, 10, {"pad": 0, "begin": 1, "end": 2}, 20)
X = -100  # nothing is asked


def hand(images: list[list[int]], targets: list[int] | None = None) -> TokenSentence:
    """A sentence of images of two tokens."""
    is_target = np.zeros(len(images), bool)
    is_target[1 :: 2 if targets is None else len(images)] = True
    if targets is not None:
        is_target[:] = False
        is_target[targets] = True
    return TokenSentence(np.array(images, np.int64).reshape(-1), len(images), is_target, "edges")


PAIRS = hand([[0, 1], [2, 0], [3, 4], [0, 0]])  # token 0 is as good as any other
SHORT = hand([[4, 4], [1, 0]])


def collate(converter, loss_on, packing, rows):
    return Collator(converter, 2, 8, loss_on, packing)(rows)


def test_targets_only():
    batch = collate(PLAIN, "targets", "none", [[PAIRS], [SHORT]])
    assert batch.input_ids.tolist() == [[0, 1, 2, 0, 3, 4, 0, 0], [4, 4, 1, 0, 0, 0, 0, 0]]
    assert batch.labels.tolist() == [[X, X, 2, 0, X, X, 0, 0], [X, X, 1, 0, X, X, X, X]]
    assert batch.attention_mask.tolist() == [[1] * 8, [1] * 4 + [0] * 4]
    assert batch.position_ids is None and batch.sentence_numbers is None
    assert (batch.tokens, batch.asked) == (12, 6)


def test_everything_but_the_first_token_before_which_nothing_stands():
    batch = collate(PLAIN, "everything", "none", [[PAIRS]])
    assert batch.labels.tolist() == [[X, 1, 2, 0, 3, 4, 0, 0]]
    assert batch.attention_mask is None and batch.asked == 7


def test_begin_and_end():
    batch = collate(FRAMED, "targets", "none", [[PAIRS], [SHORT]])
    assert batch.input_ids.tolist() == [[1, 10, 11, 12, 10, 13, 14, 10, 10, 2], [1, 14, 14, 11, 10, 2, 0, 0, 0, 0]]
    assert batch.labels.tolist() == [[X, X, X, 12, 10, X, X, 10, 10, X], [X, X, X, 11, 10, X, X, X, X, X]]
    batch = collate(FRAMED, "everything", "none", [[SHORT]])
    assert batch.labels.tolist() == [[X, 14, 14, 11, 10, 2]]


def test_packed_apart():
    batch = collate(PLAIN, "everything", "separate", [[SHORT, PAIRS], [PAIRS]])
    assert batch.input_ids.tolist() == [[4, 4, 1, 0, 0, 1, 2, 0, 3, 4, 0, 0], [0, 1, 2, 0, 3, 4, 0, 0, 0, 0, 0, 0]]
    # a sentence's first token is not to be guessed of another sentence
    assert batch.labels.tolist() == [[X, 4, 1, 0, X, 1, 2, 0, 3, 4, 0, 0], [X, 1, 2, 0, 3, 4, 0, 0, X, X, X, X]]
    assert batch.sentence_numbers.tolist() == [[0] * 4 + [1] * 8, [0] * 8 + [-1] * 4]
    # padding begins no sentence: that would be a row of its own for a GRU
    assert batch.position_ids.tolist() == [[*range(4), *range(8)], [*range(12)]]
    assert batch.attention_mask is None
    mask = batch.inputs()["attention_mask"]
    assert mask.shape == (2, 1, 12, 12) and torch.equal(mask, block_mask(batch.sentence_numbers))


def test_packed_apart_with_begin_and_end():
    batch = collate(FRAMED, "targets", "separate", [[SHORT, SHORT]])
    assert batch.input_ids.tolist() == [[1, 14, 14, 11, 10, 2] * 2]
    assert batch.labels.tolist() == [[X, X, X, 11, 10, X] * 2]
    assert batch.position_ids.tolist() == [[*range(6), *range(6)]]


def test_packed_together_is_one_sentence():
    batch = collate(PLAIN, "everything", "together", [[SHORT, PAIRS]])
    assert batch.labels.tolist() == [[X, 4, 1, 0, 0, 1, 2, 0, 3, 4, 0, 0]]
    assert (batch.attention_mask, batch.position_ids, batch.sentence_numbers) == (None, None, None)
    batch = collate(FRAMED, "targets", "together", [[SHORT, PAIRS]])
    assert batch.input_ids.tolist() == [[1, 14, 14, 11, 10, 10, 11, 12, 10, 13, 14, 10, 10, 2]]
    assert batch.labels.tolist() == [[X, X, X, 11, 10, X, X, 12, 10, X, X, 10, 10, X]]


def test_frames_are_answers_but_for_the_first():
    batch = collate(PLAIN, "targets", "none", [[hand([[0, 1], [2, 3], [4, 0]], targets=[1, 2])]])
    assert batch.labels.tolist() == [[X, X, 2, 3, 4, 0]]


def test_tokens_of_another_codebook_are_refused():
    with pytest.raises(ValueError, match="another codebook"):
        collate(PLAIN, "targets", "none", [[hand([[0, 1], [2, 5]])]])


def test_block_mask_by_a_plain_loop():
    numbers = torch.tensor([[0, 0, 1, 1, 1, -1], [0, 1, 2, 2, -1, -1]])
    found = block_mask(numbers)
    for row in range(2):
        for query in range(6):
            for key in range(6):
                same = numbers[row, query] == numbers[row, key] != -1 and key <= query
                assert bool(found[row, 0, query, key]) == bool(same or query == key)


@pytest.mark.parametrize("limit", [8, 12])
def test_first_fit_by_a_plain_loop(limit):
    sizes = np.random.default_rng(0).integers(1, 9, 300).tolist()
    rows: list[list[int]] = []
    for place, size in enumerate(sizes):
        for row in rows:
            if sum(sizes[one] for one in row) + size <= limit:
                row.append(place)
                break
        else:
            rows.append([place])
    assert pack_first_fit(sizes, limit) == rows


def test_sizes_of_sentences_that_are_not_composed(open_shards):
    rows = [TokenRow(np.arange(16 * 2) % 7, "edges", "", f"p{place}", "pair", place) for place in range(9)]
    rows += [TokenRow(np.arange(16 * n) % 7, "video", "", f"v{n}", "sequence", n) for n in (1, 3, 5)]
    epoch = SentenceTable(open_shards(rows), (1, 2), 0).epoch(0)
    assert sentence_sizes(epoch) == [one.num_images for one in epoch] == sentence_sizes(list(epoch))


@pytest.fixture
def table(shards):
    return lambda pairs=(1, 2): SentenceTable(TokenShards.open(str(shards)), pairs, seed=3)


SHARE = Share(2, 1)


def feed(chunks, share=SHARE, packing="none", **options) -> SentenceFeed:
    collator = Collator(ImageTokenConverter(32, 0, {}, 40), 16, options.get("max_images", 8), "targets", packing)
    return SentenceFeed(chunks, share, collator)


def take(batches: SentenceFeed, steps: int) -> list[list[list[int]]]:
    found, source = [], iter(batches)
    for _ in range(steps):
        found.append([batch.input_ids.tolist() for batch in next(source)])
    return found


@pytest.mark.parametrize("packing", ["none", "separate"])
def test_processes_share_what_one_would_take(table, packing):
    one = take(feed(TableChunks(table((1, 1))), Share(4, 2), packing), 5)
    two = [take(feed(TableChunks(table((1, 1))), Share(2, 2, 2, rank), packing), 5) for rank in range(2)]
    joined = [[first + second for first, second in zip(*parts, strict=True)] for parts in zip(*two, strict=True)]
    assert joined == one


@pytest.mark.parametrize("packing", ["none", "separate", "together"])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_feed_goes_on_where_another_stood(table, packing, streaming):
    def make() -> SentenceFeed:
        own = table()
        chunks = StreamChunks(SentenceStream(own.shards, (1, 2), 3), 20) if streaming else TableChunks(own)
        return feed(chunks, Share(2, 2), packing)

    whole = take(make(), 12)  # several epochs
    assert len({str(step) for step in whole}) == 12
    for cut in (1, 3, 4, 7):
        first, second = make(), make()
        assert take(first, cut) == whole[:cut]
        second.position = first.position
        assert take(second, 12 - cut) == whole[cut:]


def test_every_row_is_seen_once_an_epoch_but_for_what_fills_no_step(table):
    own = table((0, 0))  # a row is a sentence
    seen = [tuple(row) for step in take(feed(TableChunks(own), Share(3, 1)), 13) for batch in step for row in batch]
    rows = {tuple(own.shards[place].tokens.tolist()) for place in range(40)}
    assert len(seen) == len(set(seen)) == 39 and set(seen) <= rows


def test_a_stream_makes_whole_steps():
    collator = Collator(PLAIN, 2, 8, "targets", "none")
    assert stream_chunk(Share(96, 2), collator) == 576  # a multiple of 192
    assert stream_chunk(Share(16, 8), Collator(PLAIN, 2, 8, "targets", "separate")) == 2048


def test_too_few_rows_for_a_step_and_sentences_that_are_too_long(table):
    with pytest.raises(UserError, match=r"A step takes 64 rows \(--batch-size 16 x 2 processes x --gradient-acc"):
        take(feed(TableChunks(table()), Share(16, 2, 2, 0)), 1)
    with pytest.raises(UserError, match="has 6 images, this model reads 4"):
        take(feed(TableChunks(table()), max_images=4), 1)
    small = feed(TableChunks(table()), Share(16, 1))
    small.position = {"chunk": {"epoch": 0}, "row": 16}  # an epoch of fewer rows than a step does not end a run
    assert len(take(small, 1)[0][0]) == 16


def test_a_stream_without_a_sentence_is_one_line(open_shards):
    rows = [TokenRow(np.zeros(32, np.int64), "edges", "", "the same", "pair", place) for place in range(4)]
    with pytest.raises(UserError, match="no sentence can be composed"):
        take(feed(StreamChunks(SentenceStream(open_shards(rows), (1, 1)))), 1)


@pytest.mark.parametrize("backbone", ["llama", "visual_gru"])
@pytest.mark.parametrize("options", [{}, {"special_token_ids": {"begin": 33, "end": 34}, "grid_positions": True}])
@pytest.mark.parametrize("loss_on", ["targets", "everything"])
def test_a_packed_row_learns_what_its_sentences_learn_apart(make_simlvm, sentence, backbone, options, loss_on):
    model = make_simlvm(backbone, text={"initializer_range": 0.4}, **options)
    if model.grid_embedding is not None:
        model.grid_embedding.weight.data.normal_()
    collate = {packing: Collator(model.converter, 16, 8, loss_on, packing) for packing in ("none", "separate")}
    rows = [[sentence(2, 1), sentence(4, 2), sentence(2, 3)], [sentence(4, 4), sentence(2, 5)]]
    packed = collate["separate"](rows)
    assert packed.sentence_numbers is not None and (packed.sentence_numbers == -1).any()
    total, count = 0.0, 0
    for one in (one for row in rows for one in row):
        batch = collate["none"]([[one]])
        total += model(**batch.inputs()).loss.item() * batch.asked
        count += batch.asked
    assert packed.asked == count
    assert model(**packed.inputs()).loss.item() == pytest.approx(total / count, rel=1e-5)
    # padding of a plain batch changes nothing either
    plain = collate["none"]([[one] for row in rows for one in row])
    assert model(**plain.inputs()).loss.item() == pytest.approx(total / count, rel=1e-5)
    together = Collator(model.converter, 16, 8, loss_on, "together")(rows)
    assert model(**together.inputs()).loss.item() != pytest.approx(total / count, rel=1e-4)
