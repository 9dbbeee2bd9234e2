"""The light autoregression: its layers by hand, its cache, padding, packing, and the same calls as other models."""

import math

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, DynamicCache

from visual_sentence.modeling import VisualGRUConfig, VisualGRUForCausalLM
from visual_sentence.modeling.cache_names import cache_of

SIZES = {"vocab_size": 20, "hidden_size": 16, "num_gru_layers": 2, "num_attention_layers": 2, "num_attention_heads": 2}
TOLERANCE = {"atol": 1e-5, "rtol": 1e-4}


def make(**options) -> VisualGRUForCausalLM:
    torch.manual_seed(0)
    config = VisualGRUConfig(**{**SIZES, "initializer_range": 0.4, "max_position_embeddings": 64, **options})
    return VisualGRUForCausalLM(config).eval()


@pytest.fixture
def model() -> VisualGRUForCausalLM:
    return make()


def some_ids(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 20, (rows, length), generator=torch.Generator().manual_seed(seed))


def rms_norm(weight: torch.Tensor, vector: torch.Tensor, eps: float) -> torch.Tensor:
    return vector / (vector.square().mean() + eps).sqrt() * weight


def gru_step(gru: torch.nn.GRU, entry: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    """Cho et al. 2014 (https://arxiv.org/abs/1406.1078) as PyTorch writes it: reset, update, new."""
    entry_parts = (gru.weight_ih_l0 @ entry + gru.bias_ih_l0).chunk(3)
    state_parts = (gru.weight_hh_l0 @ state + gru.bias_hh_l0).chunk(3)
    reset, update = (torch.sigmoid(entry_parts[at] + state_parts[at]) for at in (0, 1))
    new = torch.tanh(entry_parts[2] + reset * state_parts[2])
    return (1 - update) * new + update * state


def turned(vector: torch.Tensor, position: int, base: float) -> torch.Tensor:
    """Each pair (i, i + d / 2) as a complex number, turned by its angle."""
    half = len(vector) // 2
    pairs = torch.complex(vector[:half], vector[half:])
    angles = torch.tensor([position * base ** (-place / half) for place in range(half)])
    rotated = pairs * torch.polar(torch.ones(half), angles)
    return torch.cat([rotated.real, rotated.imag])


def attention_by_hand(layer, rows: list[torch.Tensor], base: float, eps: float) -> list[torch.Tensor]:
    width = len(rows[0])
    per_head = width // layer.heads
    parts = [(layer.qkv.weight @ rms_norm(layer.norm.weight, row, eps)).split(width) for row in rows]
    found = []
    for at in range(len(rows)):
        heads = []
        for head in range(layer.heads):
            own = slice(head * per_head, (head + 1) * per_head)
            query = turned(parts[at][0][own], at, base)
            scores = torch.stack([query @ turned(parts[to][1][own], to, base) for to in range(at + 1)])
            weights = torch.softmax(scores / math.sqrt(per_head), 0)
            heads.append(sum(weights[to] * parts[to][2][own] for to in range(at + 1)))
        found.append(rows[at] + layer.out.weight @ torch.cat(heads))
    return found


@torch.no_grad()
def test_logits_are_those_by_hand(model):
    ids, config, body = some_ids(1, 7), model.config, model.model
    rows = [body.embed_tokens.weight[number] for number in ids[0].tolist()]
    for layer in body.gru_layers:
        state = torch.zeros(16)
        for at, row in enumerate(rows):
            state = gru_step(layer.gru, rms_norm(layer.norm.weight, row, config.rms_norm_eps), state)
            rows[at] = row + state
    for layer in body.attention_layers:
        rows = attention_by_hand(layer, rows, config.rope_base, config.rms_norm_eps)
    rows = [model.lm_head.weight @ rms_norm(body.norm.weight, row, config.rms_norm_eps) for row in rows]
    torch.testing.assert_close(model(ids).logits[0], torch.stack(rows), **TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("lengths", [(9, 1, 1, 1), (1,) * 12, (5, 7), (3, 8, 1)])
def test_pieces_with_a_cache_are_the_whole(model, lengths):
    ids = some_ids(3, 12)
    cache, found = None, []
    for piece in ids.split(lengths, 1):
        out = model(piece, cache=cache, use_cache=True)
        cache = cache_of(out)
        found.append(out.logits)
    torch.testing.assert_close(torch.cat(found, 1), model(ids).logits, **TOLERANCE)
    assert cache.get_seq_length() == 12


@torch.no_grad()
def test_a_cache_is_cut_off_repeated_and_chosen_from(model):
    ids = some_ids(2, 10)
    expected = model(ids).logits
    cache = cache_of(model(torch.cat([ids[:, :6], some_ids(2, 3, seed=1)], 1), use_cache=True))
    cache.crop(-3)
    torch.testing.assert_close(model(ids[:, 6:], cache=cache).logits, expected[:, 6:], **TOLERANCE)
    cache = cache_of(model(ids[:1, :6], use_cache=True))
    cache.batch_repeat_interleave(3)
    rest = torch.cat([ids[:1, 6:], some_ids(2, 4, seed=2)])
    whole = torch.cat([ids[:1, :6].expand(3, -1), rest], 1)
    torch.testing.assert_close(model(rest, cache=cache).logits, model(whole).logits[:, 6:], **TOLERANCE)
    cache = cache_of(model(ids[:, :6], use_cache=True))
    cache.reorder_cache(torch.tensor([1, 0]))
    swapped = ids[[1, 0]]
    torch.testing.assert_close(model(swapped[:, 6:], cache=cache).logits, expected[[1, 0]][:, 6:], **TOLERANCE)


def rows_with_gaps() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, mask and positions of rows with padding in front, behind, in between, and none."""
    mask = torch.tensor(
        [
            [0, 0, 0, 1, 1, 1, 1, 1, 1, 1],
            [1, 1, 1, 1, 1, 1, 0, 0, 0, 0],
            [1, 1, 0, 0, 1, 1, 0, 1, 1, 1],
            [1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        ]
    )
    return some_ids(4, 10), mask, (mask.cumsum(1) - 1).clamp(min=0)


@torch.no_grad()
@pytest.mark.parametrize("lengths", [(10,), (4, 6), (3, 4, 3), (6, 2, 2), (7, 1, 1, 1), (1,) * 10])
def test_padding_is_passed_over(model, lengths):
    ids, mask, positions = rows_with_gaps()
    cache, found, done = DynamicCache(), [], 0
    for piece in ids.split(lengths, 1):
        upto = slice(done, done + piece.shape[1])
        done += piece.shape[1]
        out = model(piece, mask[:, :done], positions[:, upto], cache=cache, use_cache=True)
        found.append(out.logits)
    found = torch.cat(found, 1)
    for row in range(4):
        real = mask[row].bool()
        torch.testing.assert_close(found[row, real], model(ids[row, real][None]).logits[0], **TOLERANCE)
    assert bool(found.isfinite().all())


@torch.no_grad()
def test_a_batch_of_padding_alone_says_nothing_and_breaks_nothing(model):
    ids, mask = some_ids(1, 5), torch.tensor([[0, 0, 1, 1, 1]])
    cache = cache_of(model(ids[:, :2], mask[:, :2], use_cache=True))
    found = model(ids[:, 2:], mask, torch.arange(3)[None], cache=cache).logits
    torch.testing.assert_close(found, model(ids[:, 2:]).logits, **TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("cut", [None, 4, 6, 7])
def test_packed_sentences_begin_anew(model, cut):
    """Two rows of sentences of lengths (4, 5, 2) and (7, 4), perhaps read in two pieces."""
    ids = some_ids(2, 11)
    lengths = ((4, 5, 2), (7, 4))
    owner = torch.stack([torch.arange(len(row)).repeat_interleave(torch.tensor(row)) for row in lengths])
    positions = torch.stack([torch.cat([torch.arange(length) for length in row]) for row in lengths])
    mask = (owner[:, :, None] == owner[:, None, :]) & torch.ones(11, 11, dtype=torch.bool).tril()
    mask = mask[:, None]
    if cut is None:
        found = model(ids, mask, positions).logits
    else:
        first = model(ids[:, :cut], mask[:, :, :cut, :cut], positions[:, :cut], use_cache=True)
        second = model(ids[:, cut:], mask[:, :, cut:], positions[:, cut:], cache=cache_of(first))
        found = torch.cat([first.logits, second.logits], 1)
    for row, parts in enumerate(lengths):
        start = 0
        for length in parts:
            alone = model(ids[row : row + 1, start : start + length]).logits[0]
            torch.testing.assert_close(found[row, start : start + length], alone, **TOLERANCE)
            start += length


@torch.no_grad()
def test_generation_with_and_without_a_cache(model):
    ids, mask, _ = rows_with_gaps()
    ids, mask = ids[[0, 3]], mask[[0, 3]]  # padded on the left, as `generate` wants it
    options = {"attention_mask": mask, "max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    cached, plain = (model.generate(ids, use_cache=use, **options) for use in (True, False))
    assert torch.equal(cached, plain) and cached.shape == (2, 18)
    beams = model.generate(ids, num_beams=3, **options)  # reorders the cache
    assert torch.equal(beams, model.generate(ids, num_beams=3, use_cache=False, **options))


def test_loss_and_gradients(model):
    ids = some_ids(2, 9)
    labels = ids.clone()
    labels[0, :4] = -100
    found = model.train()(ids, labels=labels)
    expected = F.cross_entropy(found.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
    torch.testing.assert_close(found.loss, expected)
    found.loss.backward()
    silent = [name for name, parameter in model.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert silent == []


@torch.no_grad()
def test_arguments_of_other_language_models(model):
    ids = some_ids(1, 6)
    whole = model(ids).logits
    embedded = model(inputs_embeds=model.get_input_embeddings()(ids)).logits
    torch.testing.assert_close(embedded, whole, **TOLERANCE)
    torch.testing.assert_close(model(ids, logits_to_keep=2).logits, whole[:, -2:], **TOLERANCE)
    chosen = model(ids, logits_to_keep=torch.tensor([1, 3])).logits
    torch.testing.assert_close(chosen, whole[:, [1, 3]], **TOLERANCE)
    assert cache_of(model(ids, use_cache=False)) is None
    for wrong in ({}, {"input_ids": ids, "inputs_embeds": model.get_input_embeddings()(ids)}):
        with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
            model(**wrong)


@pytest.mark.parametrize("tied", [False, True])
def test_saving_and_loading(tied, tmp_path):
    model = make(tie_word_embeddings=tied)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(again) is VisualGRUForCausalLM
    ids = some_ids(1, 6)
    torch.testing.assert_close(again(ids).logits, model(ids).logits, **TOLERANCE)
    assert (again.lm_head.weight is again.model.embed_tokens.weight) == tied


def test_a_new_model_begins_as_the_config_says():
    model = make(hidden_size=64, initializer_range=0.05)
    for weight in (model.lm_head.weight, model.model.embed_tokens.weight, model.model.attention_layers[0].qkv.weight):
        assert abs(weight.std().item() - 0.05) < 0.005
    bound = 1 / math.sqrt(64)
    recurrent = model.model.gru_layers[0].gru.weight_hh_l0
    assert recurrent.abs().max() <= bound and abs(recurrent.std().item() - bound / math.sqrt(3)) < 0.005


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_attention_heads": 3}, "num_attention_heads 3 does not cut hidden_size 16 into even parts"),
        ({"num_attention_heads": 16}, "num_attention_heads 16"),
        ({"num_gru_layers": 0}, "got 0 and 2: give at least one of each"),
        ({"num_attention_layers": 0}, "got 2 and 0"),
    ],
)
def test_impossible_sizes(options, said):
    with pytest.raises(ValueError, match=said):
        make(**options)
