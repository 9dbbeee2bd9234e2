"""How a SimLVM goes on with sentences, against a loop of whole forwards."""

import pytest
import torch
from torch.nn import functional as F

from .conftest import SIMLVMS, K, T, sentence

TWO = ("llama-codebook", "visual_gru-table")


@torch.no_grad()
def continue_by_loop(model, ids: torch.Tensor, images: int = 1, known: torch.Tensor | None = None):
    """The likeliest image token, step by step, with a forward of everything each time: tokens and log-likelihood."""
    first, total = model.config.image_token_offset, torch.zeros(len(ids))
    tokens = []
    for place in range(images * T):
        scores = model(input_ids=ids).logits[:, -1, first : first + K].log_softmax(-1)
        chosen = scores.argmax(-1)
        gained = scores.gather(1, chosen[:, None])[:, 0]
        if known is not None:
            given = known[:, place] >= 0
            chosen = torch.where(given, known[:, place], chosen)
            gained = gained.masked_fill(given, 0)
        total += gained
        tokens.append(chosen)
        ids = torch.cat([ids, chosen[:, None] + first], 1)
    return torch.stack(tokens, 1), total


def padded(model, rows: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Sentences of different lengths as a batch, filled up on the left."""
    longest = max(row.shape[1] for row in rows)
    pad = model.config.special_token_ids.get("pad", 0)
    ids = torch.cat([F.pad(row, (longest - row.shape[1], 0), value=pad) for row in rows])
    mask = torch.cat([F.pad(torch.ones_like(row), (longest - row.shape[1], 0)) for row in rows])
    return {"input_ids": ids, "attention_mask": mask}


def test_completion_is_that_of_the_loop(simlvm):
    ids = sentence(simlvm, 3, rows=2)
    tokens, likelihood = continue_by_loop(simlvm, ids)
    assert all(row.unique().numel() > 3 for row in tokens)  # of one token alone anything could be said
    found = simlvm.complete(ids)
    assert found.image_tokens.shape == (2, 1, 4, 4) and found.candidates is None
    assert torch.equal(found.image_tokens.flatten(1), tokens)
    torch.testing.assert_close(found.log_likelihood, likelihood, atol=1e-4, rtol=0)


@pytest.mark.parametrize("variant", TWO)
def test_several_images(make_variant, variant):
    model = make_variant(variant)
    ids = sentence(model, 1, rows=2)
    found = model.complete(ids, num_images=3)
    tokens, _ = continue_by_loop(model, ids, images=3)
    assert found.image_tokens.shape == (2, 3, 4, 4)
    assert torch.equal(found.image_tokens.flatten(1), tokens)


def test_a_shared_beginning_changes_no_token(simlvm):
    beginning = sentence(simlvm, 4)
    queries = sentence(simlvm, 1, rows=5, seed=1)[:, -T:]
    ids = torch.cat([beginning.expand(5, -1), queries], 1)
    apart = torch.cat([simlvm.complete(row[None]).image_tokens for row in ids])
    shared = simlvm.complete(ids)
    assert torch.equal(shared.image_tokens, apart)
    assert torch.equal(simlvm.complete(ids, share_prefix=False).image_tokens, apart)
    read = simlvm.read(beginning)
    assert torch.equal(simlvm.complete(queries, prefix=read).image_tokens, apart)
    assert torch.equal(simlvm.complete(queries[2:3], prefix=read).image_tokens, apart[2:3])  # it can be used again
    assert apart.flatten(1).unique(dim=0).shape[0] > 1


def test_equal_rows_share_all_but_their_last_token(simlvm):
    ids = sentence(simlvm, 2).expand(3, -1)
    found = simlvm.complete(ids).image_tokens
    assert torch.equal(found, simlvm.complete(ids[:1]).image_tokens.expand(3, -1, -1, -1))


def test_sentences_of_different_lengths_are_those_alone(simlvm):
    rows = [sentence(simlvm, count, seed=count) for count in (1, 5, 3)]
    found = simlvm.complete(**padded(simlvm, rows))
    for place, row in enumerate(rows):
        alone = simlvm.complete(row)
        assert torch.equal(found.image_tokens[place], alone.image_tokens[0])
        torch.testing.assert_close(found.log_likelihood[place], alone.log_likelihood[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("variant", TWO)
def test_a_read_beginning_goes_with_queries_of_different_lengths(make_variant, variant):
    model = make_variant(variant)
    beginning = sentence(model, 2)
    rows = [sentence(model, count, seed=count)[:, -count * T :] for count in (1, 3)]
    found = model.complete(**padded(model, rows), prefix=model.read(beginning))
    for place, row in enumerate(rows):
        alone = model.complete(torch.cat([beginning, row], 1))
        assert torch.equal(found.image_tokens[place], alone.image_tokens[0])


def test_known_tokens_are_kept_and_the_free_ones_follow_them(simlvm):
    ids = sentence(simlvm, 2, rows=2)
    known = torch.full((2, T), -1)
    known[0, 4:8], known[1, 0], known[1, 15] = torch.tensor([0, 31, 7, 7]), 5, 9
    found = simlvm.complete(ids, known_tokens=known)
    tokens, likelihood = continue_by_loop(simlvm, ids, known=known)
    assert torch.equal(found.image_tokens.flatten(1), tokens)
    assert torch.equal(found.image_tokens.flatten(1)[known >= 0], known[known >= 0])
    torch.testing.assert_close(found.log_likelihood, likelihood, atol=1e-4, rtol=0)
    assert not torch.equal(found.image_tokens, simlvm.complete(ids).image_tokens)


@pytest.mark.parametrize("variant", TWO)
def test_known_rows_are_those_of_the_partial_picture(make_variant, variant):
    model = make_variant(variant)
    ids, picture = sentence(model, 1), torch.rand(1, 3, 16, 16) * 2 - 1
    rows = torch.tensor([[True, False, False, True]])
    found = model.complete(ids, known_pixel_values=picture, known_rows=rows, num_images=2)
    given = model.tokenize(picture).view(4, 4)
    assert torch.equal(found.image_tokens[0, 0, [0, 3]], given[[0, 3]])
    known = torch.full((4, 4), -1)
    known[[0, 3]] = given[[0, 3]]
    known = torch.cat([known.flatten(), torch.full((T,), -1)])[None]  # of the second image nothing is known
    assert torch.equal(found.image_tokens.flatten(1), continue_by_loop(model, ids, images=2, known=known)[0])


def test_draws_repeat_with_their_seed(simlvm):
    ids = sentence(simlvm, 1, rows=2)
    drawn = [simlvm.complete(ids, do_sample=True, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(drawn[0].image_tokens, drawn[1].image_tokens)
    assert not torch.equal(drawn[0].image_tokens, drawn[2].image_tokens)
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    simlvm.complete(ids, do_sample=True, seed=1)
    assert torch.equal(torch.rand(1), expected)  # the global generator is left alone


def test_candidates_come_by_their_likelihood(simlvm):
    ids = sentence(simlvm, 2, rows=2)
    found = simlvm.complete(ids, do_sample=True, num_candidates=4, temperature=0.7, top_k=20, top_p=0.95, seed=3)
    assert found.candidates.shape == (2, 4, 1, 4, 4)
    assert torch.equal(found.candidates[:, 0], found.image_tokens)
    first = simlvm.config.image_token_offset
    for place in range(2):
        answers = found.candidates[place].flatten(1)
        with torch.no_grad():
            whole = torch.cat([ids[place].expand(4, -1), answers + first], 1)
            scores = simlvm(input_ids=whole).logits[:, -T - 1 : -1, first : first + K].log_softmax(-1)
        likelihoods = scores.gather(2, answers[..., None])[..., 0].sum(1)
        assert likelihoods.unique().numel() > 1
        assert torch.equal(likelihoods, likelihoods.sort(descending=True).values)
        torch.testing.assert_close(found.log_likelihood[place], likelihoods[0], atol=1e-4, rtol=0)


@torch.no_grad()
def test_expected_codes_are_means_over_all_tokens_of_each_place(simlvm):
    ids, first = sentence(simlvm, 2, rows=2), simlvm.config.image_token_offset
    found = simlvm.complete(ids, do_sample=True, num_candidates=3, temperature=0.5, seed=3, expect_codes=True)
    codes = simlvm.image_codes()
    assert codes.shape == (K, simlvm.config.vq_config.codebook_dim)
    assert torch.equal(codes[5], simlvm.vqgan.quantizer.lookup(torch.tensor([[[5]]]))[0, :, 0, 0])
    for place in range(2):
        whole = torch.cat([ids[place].expand(3, -1), found.candidates[place].flatten(1) + first], 1)
        chances = simlvm(input_ids=whole).logits[:, -T - 1 : -1, first : first + K].softmax(-1)
        expected = (chances @ codes).view(3, 1, 4, 4, -1).movedim(-1, 2)
        torch.testing.assert_close(found.expected_codes[place], expected, atol=1e-4, rtol=0)
    assert simlvm.complete(ids).expected_codes is None


@pytest.mark.parametrize("variant", TWO)
def test_the_expected_code_of_a_known_place_is_its_own(make_variant, variant):
    model = make_variant(variant)
    known = torch.arange(T)[None].clone()
    known[0, 6:] = -1
    found = model.complete(sentence(model, 1), known_tokens=known, expect_codes=True).expected_codes
    assert torch.equal(found[0, 0, 0].flatten(1).T[:6], model.image_codes()[:6])
    assert not torch.equal(found[0, 0, 0].flatten(1).T[6:], model.image_codes()[6:T])


def test_the_likeliest_of_one_is_the_likeliest(simlvm):
    ids = sentence(simlvm, 2)
    assert torch.equal(
        simlvm.complete(ids, do_sample=True, top_k=1, seed=0).image_tokens, simlvm.complete(ids).image_tokens
    )


def test_a_special_id_is_never_an_answer(make_variant):
    model = make_variant("llama-table", special_token_ids={"pad": 32, "end": 33})
    with torch.no_grad():  # ends and padding are what the language model wants most
        model.get_output_embeddings().weight[32:] = model.get_output_embeddings().weight[:8].abs() * 50
    ids = sentence(model, 1, rows=3)
    assert bool((model(input_ids=ids).logits[:, -1].argmax(-1) >= K).any())
    assert model.complete(ids).image_tokens.shape == (3, 1, 4, 4)


@pytest.mark.parametrize("variant", SIMLVMS)
def test_an_image_is_never_cut_short(make_variant, variant):
    end = SIMLVMS[variant].get("image_token_offset", 0) + 5
    model = make_variant(variant, text={"eos_token_id": end})  # as checkpoints of texts: an image token's id here
    known = torch.full((1, T), -1)
    known[0, 2] = 5
    found = model.complete(sentence(model, 1), known_tokens=known)
    assert found.image_tokens.shape == (1, 1, 4, 4) and found.image_tokens[0, 0, 0, 2] == 5


def test_any_language_model_of_transformers_will_do(make_simlvm):
    text = {"model_type": "mistral", "num_key_value_heads": 1, "sliding_window": None}
    model = make_simlvm("llama", text=text)
    assert model.config.text_config.model_type == "mistral"
    ids = sentence(model, 2)
    assert torch.equal(model.complete(ids).image_tokens.flatten(1), continue_by_loop(model, ids)[0])


def test_plain_generate_does_not_stop_at_an_image_token(make_simlvm):
    model = make_simlvm("llama", text={"eos_token_id": 5}, special_token_ids={"pad": 32, "end": 33})
    assert (model.generation_config.eos_token_id, model.generation_config.pad_token_id) == (33, 32)
    assert make_simlvm("llama").generation_config.eos_token_id is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_images": 3}, "9 images, this model reads 8: give fewer pairs"),
        ({"num_candidates": 2}, "candidates would be equal: pass do_sample=True"),
        ({"num_images": 0}, "at least 1, got 0 and 1"),
        ({"known_tokens": torch.zeros(1, 3, dtype=torch.long)}, r"known_tokens must have shape \(1, 16\)"),
        ({"known_tokens": torch.full((1, T), 32)}, r"must lie in \[0, 32\), found"),
        ({"known_pixel_values": torch.zeros(1, 3, 16, 16)}, "only with known_rows: pass both"),
        ({"known_rows": torch.ones(1, 4)}, "only with known_pixel_values: pass both"),
        ({"pixel_values": torch.zeros(1, 3, 16, 16)}, "places for 0 image tokens, but 1 pictures of 16 tokens"),
    ],
)
def test_requests_that_cannot_be_met(make_simlvm, options, said):
    model = make_simlvm()
    with pytest.raises(ValueError, match=said) as caught:
        model.complete(sentence(model, 6), **options)
    assert "\n" not in str(caught.value)
