"""Rows that go on from one beginning, against a cache that holds a copy of it for each."""

import pytest
import torch
from torch.nn import functional as F
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from visual_sentence.modeling import branching_cache
from visual_sentence.modeling.branching_cache import BranchedStates, BranchingLayer, branch


@pytest.fixture(autouse=True)
def seeded(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(branching_cache, "ROOM", 3)


def filled(rows: int, length: int) -> DynamicCache:
    cache = DynamicCache()
    for layer in range(2):
        cache.update(*torch.randn(2, rows, 2, length, 4), layer)
    return cache


def repeated(cache: DynamicCache, times: int) -> DynamicCache:
    found = DynamicCache()
    for place, layer in enumerate(cache.layers):
        found.update(layer.keys.repeat_interleave(times, 0), layer.values.repeat_interleave(times, 0), place)
    return found


def both(length: int = 5) -> tuple[DynamicCache, DynamicCache]:
    """The same 6 rows twice: three behind one beginning, then two behind each of these."""
    first = filled(1, length)
    plain, branching = repeated(first, 3), branch(first, 3)
    for layer in range(2):
        added = torch.randn(2, 3, 2, 4, 4)
        plain.update(*added, layer)
        branching.update(*added, layer)
    return repeated(plain, 2), branch(branching, 2)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_states_are_those_of_a_copy_for_each_row(length):
    plain, branching = both(length)
    for added in (2, 1, 1, 1, 4, 1):
        for layer in range(2):
            states = torch.randn(2, 6, 2, added, 4)
            expected, found = plain.update(*states, layer), branching.update(*states, layer)
            assert [part.shape for part in found] == [part.shape for part in expected]
            assert all(torch.equal(one + 0, other) for one, other in zip(found, expected, strict=True))
        assert branching.get_seq_length() == plain.get_seq_length()
        assert branching.get_mask_sizes(3, 0) == plain.get_mask_sizes(3, 0)


@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("mask", [None, "bool", "float", "padding"])
def test_attention_by_parts(length, mask, monkeypatch):
    plain, branching = both()
    states = torch.randn(2, 6, 2, length, 4)
    (keys, values), (own_keys, own_values) = plain.update(*states, 0), branching.update(*states, 0)
    assert isinstance(own_keys, BranchedStates) and len(own_keys.parts) == 3
    monkeypatch.setattr(BranchedStates, "whole", None)  # nothing is copied for it
    queries, places = torch.randn(6, 2, length, 4), keys.shape[2]
    if mask is not None:
        given = torch.ones(length, places, dtype=torch.bool).tril(places - length).expand(6, 1, -1, -1).clone()
        if mask == "padding":
            given[2, :, :, :7] = False  # all of the first part, and some of the second
        if mask == "float":
            given = torch.randn(6, 1, length, places).masked_fill(~given, -torch.inf)
        mask = given
    found = F.scaled_dot_product_attention(queries, own_keys, own_values, attn_mask=mask, scale=0.3)
    expected = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=0.3)
    torch.testing.assert_close(found, expected)
    assert type(found) is torch.Tensor


def test_other_ways_of_attention_have_a_copy_for_each_row():
    plain, branching = both()
    states = torch.randn(2, 6, 2, 1, 4)
    (keys, values), (own_keys, own_values) = plain.update(*states, 0), branching.update(*states, 0)
    queries = torch.randn(6, 4, 1, 4)
    found = F.scaled_dot_product_attention(queries, own_keys, own_values, enable_gqa=True)
    assert torch.equal(found, F.scaled_dot_product_attention(queries, keys, values, enable_gqa=True))
    assert torch.equal(queries[:, :2] @ own_keys.transpose(2, 3), queries[:, :2] @ keys.transpose(2, 3))


def test_what_was_branched_stays_as_it_was():
    first = filled(2, 5)
    before = [layer.keys.clone() for layer in first.layers]
    one, other = branch(first, 3), branch(first, 2)
    for cache, rows in ((one, 6), (other, 4)):
        for layer in range(2):
            cache.update(*torch.randn(2, rows, 2, 2, 4), layer)
    assert first.get_seq_length() == 5 and one.get_seq_length() == other.get_seq_length() == 7
    assert all(torch.equal(layer.keys, kept) for layer, kept in zip(first.layers, before, strict=True))


def test_layers_of_other_kinds_are_copied():
    cache = DynamicCache()
    cache.layers = [DynamicSlidingWindowLayer(sliding_window=4), DynamicLayer()]
    states = torch.randn(2, 2, 2, 6, 4)
    for layer in range(2):
        cache.update(*states, layer)
    kept = cache.layers[0].keys.clone()
    found = branch(cache, 3)
    assert [type(layer) for layer in found.layers] == [DynamicSlidingWindowLayer, BranchingLayer]
    assert torch.equal(found.layers[0].keys, kept.repeat_interleave(3, 0)) and found.get_seq_length() == 6
    found.update(*torch.randn(2, 6, 2, 1, 4), 0)
    assert torch.equal(cache.layers[0].keys, kept)


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.reorder_cache(torch.tensor([5, 0, 1, 2, 4, 3])),
        lambda layer: layer.batch_select_indices(torch.tensor([4, 1])),
        lambda layer: layer.batch_repeat_interleave(2),
        lambda layer: layer.crop(-7),  # into the shared part
    ],
)
def test_rows_and_places_change(change):
    plain, branching = both()
    states = torch.randn(2, 6, 2, 2, 4)
    for cache in (plain, branching):
        cache.update(*states, 0)
        change(cache.layers[0])
    assert isinstance(branching.layers[0], BranchingLayer)
    added = torch.randn(2, plain.layers[0].keys.shape[0], 2, 1, 4)
    expected, found = plain.update(*added, 0), branching.update(*added, 0)
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))
