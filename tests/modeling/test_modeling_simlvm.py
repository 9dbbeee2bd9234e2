"""SimLVM: perplexity, losses, packing, gradients, saving and loading, what it refuses."""

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoImageProcessor, AutoModel, AutoProcessor

from visual_sentence.modeling import SimLVMConfig, SimLVMForVisualSentence, VQGANConfig, VQGANModel, flops_per_token
from visual_sentence.modeling.cache_names import cache_of

from .conftest import T, sentence

TWO = ("llama-codebook", "visual_gru-table")


@torch.no_grad()
def test_perplexity_is_that_of_the_last_image(simlvm):
    pixels = torch.rand(2, 3, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    tokens = simlvm.tokenize(pixels)
    assert tokens.shape == (2, 3, T)
    ids = tokens.flatten(1) + simlvm.config.image_token_offset
    if simlvm.converter.begin_id is not None:
        ids = torch.cat([torch.full((2, 1), simlvm.converter.begin_id), ids], 1)
    scores = simlvm(input_ids=ids).logits.log_softmax(-1)
    for place, found in enumerate(simlvm.perplexity(pixels)):
        length = ids.shape[1]
        losses = [-scores[place, at - 1, ids[place, at]] for at in range(length - T, length)]
        torch.testing.assert_close(found, torch.stack(losses).mean().exp(), atol=0, rtol=1e-4)


@torch.no_grad()
def test_pixels_and_ids_are_two_ways_to_say_the_same(simlvm):
    pixels = torch.rand(2, 3, 16, 16) * 2 - 1
    ids = sentence(simlvm, 2)
    filled = ids.clone()
    filled[:, -2 * T :] = simlvm.tokenize(pixels).flatten() + simlvm.config.image_token_offset
    empty = ids.clone()
    empty[:, -2 * T :] = -1
    assert torch.equal(simlvm.fill(empty, pixels), filled)
    assert torch.equal(simlvm(input_ids=empty, pixel_values=pixels).logits, simlvm(input_ids=filled).logits)
    assert torch.equal(simlvm.complete(empty, pixels).image_tokens, simlvm.complete(filled).image_tokens)


@torch.no_grad()
def test_a_pictures_tokens_are_drawn_by_the_image_tokenizer(simlvm):
    tokens = simlvm.tokenize(torch.rand(3, 3, 16, 16) * 2 - 1)
    assert tokens.unique().numel() > 5
    drawn = simlvm.draw(tokens)
    assert torch.equal(drawn, simlvm.vqgan.decode(tokens.view(3, 4, 4)))
    assert torch.equal(simlvm.draw(tokens.view(3, 4, 4)), drawn)


@torch.no_grad()
def test_embeddings_are_what_the_config_says(simlvm):
    ids = sentence(simlvm, 2)
    specials, first = simlvm.config.special_token_ids, simlvm.config.image_token_offset
    embedding = simlvm.get_input_embeddings()
    rows = []
    for place, number in enumerate(ids[0].tolist()):
        if simlvm.config.embedding == "table":
            row = embedding.weight[number]
        elif number in specials.values():
            row = embedding.specials.weight[sorted(specials.values()).index(number)]
        else:
            row = embedding.projection.weight @ simlvm.vqgan.quantizer.codebook[number - first]
        if simlvm.config.grid_positions:
            row = row + simlvm.grid_embedding.weight[(place - ("begin" in specials)) % T]
        before = place - T + 1  # of the token to come, one image earlier
        if simlvm.config.aligned_tokens and before >= 0 and ids[0, before].item() not in specials.values():
            begins = int("begin" in specials)
            start = (before - begins) // T * T + begins
            whole = aligned(simlvm, ids[:, begins : start + T] - first)
            row = row + whole[before - start]
        rows.append(row)
    expected = simlvm.language_model(inputs_embeds=torch.stack(rows)[None]).logits
    torch.testing.assert_close(simlvm(input_ids=ids).logits, expected, atol=1e-4, rtol=1e-4)


def test_loss_is_the_mean_over_the_labelled_places(simlvm):
    ids = sentence(simlvm, 3, rows=2)
    labels = ids.clone()
    labels[0, : -2 * T], labels[1, :-T], labels[:, -1] = -100, -100, -100
    logits = simlvm(input_ids=ids).logits
    losses = [
        -logits[row, at - 1].log_softmax(-1)[labels[row, at]]
        for row in range(2)
        for at in range(1, ids.shape[1])
        if labels[row, at] != -100
    ]
    found = simlvm(input_ids=ids, labels=labels)
    torch.testing.assert_close(found.loss, torch.stack(losses).mean(), atol=1e-5, rtol=1e-5)
    assert len(losses) == 3 * T - 2 and found.logits.shape == (len(losses), simlvm.config.vocab_size)
    empty = simlvm(input_ids=ids, labels=torch.full_like(labels, -100)).loss
    assert empty.item() == 0 and empty.requires_grad


@torch.no_grad()
def test_padding_between_a_read_beginning_and_its_rest_changes_nothing(simlvm):
    whole = sentence(simlvm, 4, seed=5)
    cut = whole.shape[1] - T
    cache = cache_of(simlvm(input_ids=whole[:, :cut], use_cache=True))
    padded = torch.cat([torch.full((1, 3), simlvm.converter.pad_id), whole[:, cut:]], 1)
    mask = torch.ones(1, cut + 3 + T, dtype=torch.long)
    mask[:, cut : cut + 3] = 0
    rest = simlvm(input_ids=padded, attention_mask=mask, cache=cache).logits[:, 3:]
    torch.testing.assert_close(rest, simlvm(input_ids=whole).logits[:, cut:], atol=1e-3, rtol=1e-3)


def aligned(model, tokens: torch.Tensor) -> torch.Tensor:
    """[T, H] of the last image of a sentence [1, n * T] alone."""
    images = tokens.view(-1, T)
    if not model.config.aligned_followers:
        return model.aligned_embedding(images[-1:])[0]
    last = len(images) - 1
    return model.aligned_embedding(images, torch.tensor([last]), torch.arange(last).flip(0)[None])[0]


@torch.no_grad()
def test_a_places_surroundings_are_those_in_its_own_image(make_simlvm):
    model = make_simlvm("llama", aligned_tokens=True, aligned_layers=1, aligned_width=8)
    reader = model.aligned_embedding
    reader.norm = reader.blocks[0].norm = torch.nn.Identity()  # it sees all of a map
    tokens = torch.randint(0, 32, (1, T), generator=torch.Generator().manual_seed(0))
    other = tokens.clone()
    other[0, 5] = (other[0, 5] + 1) % 32  # row 1, column 1 of 4 x 4
    changed = (reader(tokens) != reader(other)).any(-1)[0].view(4, 4)
    assert changed[:3, :3].all() and changed.sum() == 9  # as far as the kernel reaches


@torch.no_grad()
def test_followers_of_places_that_look_alike(make_simlvm):
    model = make_simlvm("llama", aligned_tokens=True, aligned_layers=2, aligned_width=8, aligned_followers=True)
    part = model.aligned_embedding.followers
    maps = torch.randn(5, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    found = part(maps, torch.tensor([4, 1]), torch.tensor([[3, 2, 1, 0], [0, -1, -1, -1]]))
    normed = part.norm(maps)
    for row, (number, earlier) in enumerate([(4, [3, 2, 1, 0]), (1, [0])]):
        for y, x in [(0, 0), (2, 3)]:
            added = []
            for head in range(4):
                of_head = slice(2 * head, 2 * head + 2)
                query = part.query(normed[number, :, y, x])[of_head]
                keys = torch.stack([part.key(normed[one, :, y, x])[of_head] for one in earlier])
                values = torch.stack([part.value(normed[one + 1, :, y, x])[of_head] for one in earlier])
                scores = torch.cat([part.nothing[head : head + 1], keys @ query / 2**0.5])
                added.append(scores.softmax(0)[1:] @ values)
            expected = maps[number, :, y, x] + part.projection(torch.cat(added))
            torch.testing.assert_close(found[row, :, y, x], expected, atol=1e-5, rtol=1e-5)
    # a sentence's first image has none before it
    alone = part(maps, torch.tensor([0]), torch.zeros(1, 0, dtype=torch.long))
    torch.testing.assert_close(alone, maps[:1] + part.projection.bias[:, None, None])


@pytest.mark.parametrize("sizes", [{"aligned_layers": 1}, {"aligned_layers": 2, "aligned_width": 6}])
def test_followers_want_two_halves_and_heads(make_simlvm, sizes):
    with pytest.raises(ValueError, match="give at least 2 layers of a multiple of 4 channels"):
        make_simlvm("llama", aligned_tokens=True, aligned_followers=True, **sizes)


@torch.no_grad()
@pytest.mark.parametrize("followers", [False, True])
def test_what_is_kept_of_the_image_before_is_made_anew_for_another(make_simlvm, followers):
    model = make_simlvm("llama", aligned_tokens=True, aligned_layers=2, aligned_width=8, aligned_followers=followers)
    ids = sentence(model, 4, rows=2)
    ids[:, 2 * T : 3 * T] = ids[:, T : 2 * T]  # an image that follows itself is another place in the sentence
    calls = []
    model.aligned_embedding.register_forward_hook(lambda module, given, out: calls.append(len(out)))
    whole = model(input_ids=ids).logits
    assert len(calls) == 1
    calls.clear()
    cache, found = None, []
    for place in range(ids.shape[1]):
        out = model(input_ids=ids[:, place : place + 1], cache=cache, use_cache=True)
        cache = cache_of(out)
        found.append(out.logits)
        if place == 2 * T:  # in the middle of a sentence rows change places, as in a search
            cache.reorder_cache(torch.tensor([1, 0]))
            ids = ids[[1, 0]]
    torch.testing.assert_close(torch.cat(found[: 2 * T + 1], 1), whole[:, : 2 * T + 1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.cat(found[2 * T + 1 :], 1), whole[[1, 0], 2 * T + 1 :], atol=1e-4, rtol=1e-4)
    assert len(calls) < 8  # not for every token


def test_aligned_tokens_want_ids(make_simlvm):
    model = make_simlvm("llama", aligned_tokens=True)
    with pytest.raises(ValueError, match="give input_ids"):
        model(inputs_embeds=torch.zeros(1, 3, model.config.text_config.hidden_size))


def test_packed_sentences_do_not_see_each_other(simlvm):
    parts = [sentence(simlvm, count, seed=count) for count in (2, 1, 3)]
    lengths = [part.shape[1] for part in parts]
    owner = torch.arange(3).repeat_interleave(torch.tensor(lengths))
    causal = torch.ones(len(owner), len(owner), dtype=torch.bool).tril()
    mask = (causal & (owner[:, None] == owner))[None, None]
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    with torch.no_grad():
        packed = simlvm(input_ids=torch.cat(parts, 1), attention_mask=mask, position_ids=positions).logits
        start = 0
        for part in parts:
            found = packed[:, start : start + part.shape[1]]
            torch.testing.assert_close(found, simlvm(input_ids=part).logits, atol=1e-3, rtol=1e-4)
            start += part.shape[1]


def test_gradients_reach_all_that_is_trained_and_nothing_else(simlvm):
    specials = [number for number in simlvm.config.special_token_ids.values() if number != simlvm.converter.begin_id]
    ids = torch.cat([torch.tensor([specials], dtype=torch.long), sentence(simlvm, 7)], 1)
    simlvm.train()
    simlvm(input_ids=ids, labels=ids).loss.backward()
    silent = [
        name
        for name, parameter in simlvm.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.abs().sum() > 0)
    ]
    assert silent == []
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in simlvm.vqgan.parameters())
    assert not simlvm.vqgan.training and simlvm.language_model.training
    others = sum(1 for name, _ in simlvm.named_parameters() if not name.startswith("vqgan."))
    assert len(simlvm.trainable_parameters()) == others


@pytest.mark.parametrize("backbone", ["llama", "visual_gru"])
def test_an_image_tokenizer_that_is_trained_has_gradients(make_simlvm, backbone):
    model = make_simlvm(backbone, train_vqgan=True).train()
    assert model.vqgan.training
    pixels = torch.rand(2, 3, 16, 16) * 2 - 1
    ids = torch.full((1, 2 * T), -1)
    labels = model.fill(ids, pixels).clone()
    found = model(input_ids=ids, pixel_values=pixels, labels=labels)
    alone = model(input_ids=labels, labels=labels).loss
    torch.testing.assert_close(found.loss, alone + model.vqgan(pixels).loss)
    found.loss.backward()
    silent = [name for name, parameter in model.vqgan.named_parameters() if parameter.grad is None]
    assert silent == []


def test_folder_comes_back_whole(simlvm, make_simlvm_processor, tmp_path):
    pixels, ids = torch.rand(3, 3, 16, 16) * 2 - 1, torch.full((1, 3 * T), -1)
    found = simlvm.complete(ids, pixels)
    simlvm.save_pretrained(tmp_path)
    processor = make_simlvm_processor(simlvm)
    processor.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert type(again) is SimLVMForVisualSentence
    assert again.config.to_dict()["text_config"] == simlvm.config.to_dict()["text_config"]
    state = again.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in simlvm.state_dict().items())
    assert state.keys() == simlvm.state_dict().keys()
    assert torch.equal(again.complete(ids, pixels).image_tokens, found.image_tokens)
    assert not any(parameter.requires_grad for parameter in again.vqgan.parameters())
    assert len(again.trainable_parameters()) == len(simlvm.trainable_parameters())
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is type(processor)
    for name in ("tokens_per_image", "max_images", "pad_id", "begin_id"):
        assert getattr(loaded, name) == getattr(processor, name)
    assert AutoImageProcessor.from_pretrained(tmp_path).local_fit == "stretch"


@pytest.mark.parametrize("backbone", ["llama", "visual_gru"])
def test_a_trained_image_tokenizer_stays_trained_after_loading(make_simlvm, backbone, tmp_path):
    make_simlvm(backbone, train_vqgan=True).save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert all(parameter.requires_grad for parameter in again.vqgan.parameters())


@pytest.mark.parametrize("variant", TWO)
def test_half_precision(make_variant, variant, tmp_path):
    model = make_variant(variant)
    model.save_pretrained(tmp_path)
    half = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.dtype == half.language_model.dtype == torch.bfloat16
    pixels = torch.rand(5, 3, 16, 16) * 2 - 1
    assert torch.equal(half.tokenize(pixels), model.tokenize(pixels))  # or tokens on disk would be of another model
    half.save_pretrained(tmp_path / "half")
    assert AutoModel.from_pretrained(tmp_path / "half").dtype == torch.bfloat16
    ids = sentence(model, 3, rows=2)
    found = half.complete(ids)
    assert found.image_tokens.shape == (2, 1, 4, 4) and bool(found.log_likelihood.isfinite().all())
    with torch.no_grad():
        exact, rounded = (one(input_ids=ids).logits.float() for one in (model, half))
    assert F.cosine_similarity(exact, rounded, dim=-1).mean() > 0.98
    assert half.draw(found.image_tokens[:, 0]).shape == (2, 3, 16, 16)


def test_a_trained_image_tokenizer_is_taken_over(make_simlvm, make_vqgan):
    model = make_simlvm("llama", embedding="codebook")
    other = VQGANModel(model.config.vq_config)
    torch.nn.init.normal_(other.quantizer.codebook)
    model.take_vqgan(other)
    pixels = torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.equal(model.tokenize(pixels), other.eval().encode(pixels).image_tokens.flatten(1))
    assert torch.equal(model.get_input_embeddings().codes, other.quantizer.codebook)
    # what its weights want comes along, though no shape says it
    options = {"value_range": "unit", "normalize_latents": True, "commitment_loss_weight": 0.5}
    other = VQGANModel(VQGANConfig(**{**model.config.vq_config.to_dict(), **options})).eval()
    model.take_vqgan(other)
    assert torch.equal(model.tokenize(pixels), other.encode(pixels).image_tokens.flatten(1))
    tokens = model.tokenize(pixels)
    assert torch.equal(model.draw(tokens), other.decode(tokens))
    assert all(getattr(model.config.vq_config, name) == value for name, value in options.items())
    with pytest.raises(ValueError, match=r"layers are not this model's, e.g. at decoder\."):
        model.take_vqgan(make_vqgan(block_out_channels=[8, 16, 32]))
    with pytest.raises(ValueError, match=r"codebook_size is 16, this model's 32.*made for"):
        model.take_vqgan(make_vqgan(codebook_size=16, block_out_channels=[8, 16, 16]))
    with pytest.raises(ValueError, match="image_seq_length is 64, this model's 16"):
        model.take_vqgan(make_vqgan())


def test_operations_per_token(make_simlvm):
    model = make_simlvm("llama")
    attention, feed_forward, norms = 4 * 32 * 32, 3 * 32 * 48, 2 * 32
    weights = 2 * (attention + feed_forward + norms) + 32 + 40 * 32  # layers, last norm, head
    assert flops_per_token(model, 100) == 6 * weights + 12 * 2 * 32 * 50


def test_perplexity_needs_something_before(make_simlvm):
    with pytest.raises(ValueError, match="last of 2 to 8 images, got 1"):
        make_simlvm().perplexity(torch.zeros(1, 1, 3, 16, 16))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"embedding": "both"}, "must be one of table, codebook, got 'both'"),
        ({"embedding": "codebook", "train_vqgan": True}, "choose one"),
        ({"embedding": "codebook", "text": {"tie_word_embeddings": True}}, "tie_word_embeddings"),
        ({"max_images": 11}, "11 of 16 tokens are 176, but the language model's max_position_embeddings is 160"),
        ({"max_images": 1}, "at least a query and its answer"),
        ({"image_token_offset": 9}, "ids 9 to 40, but the language model's vocabulary has 40"),
        ({"special_token_ids": {"pad": 3}}, "'pad' has id 3, which is an image token's"),
        ({"special_token_ids": {"pad": 40}}, "'pad' has id 40"),
        ({"special_token_ids": {"stop": 33}}, "'stop': there are pad, begin, end"),
        ({"text": {"model_type": "lama"}}, "'lama', which transformers does not know"),
    ],
)
def test_configurations_that_contradict_themselves(make_simlvm, options, said):
    with pytest.raises(ValueError, match=said) as caught:
        make_simlvm(**options)
    assert "\n" not in str(caught.value)


def test_the_config_knows_its_parts():
    config = SimLVMConfig()
    assert (config.tokens_per_image, config.codebook_size, config.vocab_size) == (256, 8192, 8292)
    again = SimLVMConfig.from_dict(config.to_dict())
    assert again.to_dict() == config.to_dict()
    assert again.text_config.hidden_size == 1024
