"""Near codes become one: k-means by hand, and every tensor of a reduced SimLVM against sums written out once more."""

import re
from copy import deepcopy

import pytest
import torch
from torch import nn
from transformers import AutoModel

from visual_sentence import UserError
from visual_sentence.conversion.codebook_reduction import cluster_codes, reduce_codebook, weighted_means
from visual_sentence.modeling import SimLVMConfig, SimLVMForVisualSentence, SimLVMProcessor, VQGANImageProcessor

K, S = 32, 12
VQGAN = {
    "image_size": 16,
    "codebook_size": K,
    "codebook_dim": 8,
    "block_out_channels": [8, 8, 8],
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 4,
}
TEXT = {"vocab_size": 40, "hidden_size": 16, "num_attention_heads": 2, "max_position_embeddings": 160}
BACKBONES = {
    "llama": {"model_type": "llama", "intermediate_size": 24, "num_hidden_layers": 1, **TEXT},
    "visual_gru": {"model_type": "visual_gru", "num_gru_layers": 1, "num_attention_layers": 1, **TEXT},
    "phi": {"model_type": "phi", "intermediate_size": 24, "num_hidden_layers": 1, **TEXT},
}
SPECIALS = {"image_token_offset": 3, "special_token_ids": {"pad": 1, "begin": 36, "end": 39}}
# How the tokens' ids meet the language model; every kind has other tables with a row for each token.
KINDS = {
    "llama": {},
    "visual_gru": {"backbone": "visual_gru"},
    "specials": SPECIALS,
    "visual_gru-specials": {"backbone": "visual_gru", **SPECIALS},
    "codebook": {"embedding": "codebook", **SPECIALS},
    "visual_gru-codebook": {"backbone": "visual_gru", "embedding": "codebook"},
    "tied": {"text": {"tie_word_embeddings": True}},
    "aligned": {"grid_positions": True, "aligned_tokens": True},
    "followers": {"aligned_tokens": True, "aligned_layers": 2, "aligned_width": 8, "aligned_followers": True},
}


def make_simlvm(backbone: str = "llama", text: dict | None = None, vqgan: dict | None = None, **options):
    """A tiny SimLVM whose every tensor is random, and whose pictures take different tokens."""
    torch.manual_seed(0)
    config = SimLVMConfig(
        vq_config={**VQGAN, **(vqgan or {})},
        text_config={**BACKBONES[backbone], **(text or {})},
        **{"max_images": 8, **options},
    )
    model = SimLVMForVisualSentence(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
        latents = model.vqgan.encode_pixels(torch.rand(16, 3, 16, 16) * 2 - 1).permute(0, 2, 3, 1).flatten(0, 2)
        model.vqgan.quantizer.codebook.copy_(latents[torch.randperm(len(latents))[:K]])
    model.take_codes()
    return model


@pytest.fixture
def counts() -> torch.Tensor:
    """How often each of K codes is used; some never."""
    return torch.randint(0, 9, (K,), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def codes() -> torch.Tensor:
    return torch.randn(K, 3, generator=torch.Generator().manual_seed(2))


@pytest.fixture(params=KINDS)
def kind(request) -> dict:
    return KINDS[request.param]


def test_a_centroid_is_the_mean_of_its_codes_each_as_often_as_it_is_used():
    codes = torch.tensor([[0.0, 5.0], [1.0, 5.0], [10.0, 5.0], [14.0, 7.0]])
    centroids, members = cluster_codes(codes, torch.tensor([3, 1, 1, 1]), 2)
    near, far = int(members[0]), int(members[2])
    assert members.tolist() == [near, near, far, far] and {near, far} == {0, 1}
    assert torch.allclose(centroids[near], torch.tensor([0.25, 5.0]), atol=1e-3)
    assert torch.allclose(centroids[far], torch.tensor([12.0, 6.0]), atol=1e-3)


def test_a_code_that_is_never_used_pulls_nothing():
    codes = torch.tensor([[0.0], [2.0], [50.0]])
    centroids, members = cluster_codes(codes, torch.tensor([4, 0, 4]), 2)
    assert members[0] == members[1] != members[2]
    assert float(centroids[members[0], 0]) == pytest.approx(0, abs=2e-3)


def test_without_any_use_all_codes_weigh_the_same():
    codes = torch.tensor([[0.0], [2.0], [50.0]])
    centroids, members = cluster_codes(codes, torch.zeros(3, dtype=torch.long), 2)
    assert centroids[members].flatten().tolist() == pytest.approx([1, 1, 50])


def test_every_code_goes_to_its_nearest_centroid(codes, counts):
    centroids, members = cluster_codes(codes, counts, S)
    distances = (codes[:, None] - centroids).square().sum(-1)
    assert members.dtype == torch.int64 and torch.equal(members, distances.argmin(1))


@pytest.mark.parametrize("size", [1, 2, 8, 19, 20])
def test_no_centroid_is_empty_where_codes_are_the_same(size):
    copies = torch.randn(5, 3).repeat(4, 1)
    centroids, members = cluster_codes(copies, torch.ones(20), size)
    assert sorted(set(members.tolist())) == list(range(size))
    assert centroids.shape == (size, 3) and centroids.isfinite().all()
    if size >= 5:
        assert torch.allclose(centroids[members], copies, atol=1e-6)


def test_clusters_are_better_than_codes_taken_at_random(codes, counts):
    def cost(centroids: torch.Tensor) -> float:
        nearest = (codes[:, None] - centroids).square().sum(-1).amin(1)
        return float((nearest * counts).sum())

    drawn = [cost(codes[torch.randperm(K)[:S]]) for _ in range(20)]
    assert cost(cluster_codes(codes, counts, S)[0]) < min(drawn)


def test_a_seed_decides_the_clusters(codes, counts):
    first, again, other = (cluster_codes(codes, counts, S, seed) for seed in (3, 3, 4))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])


def test_as_many_centroids_as_codes_keep_every_code(codes, counts):
    centroids, members = cluster_codes(codes, counts, K)
    assert sorted(members.tolist()) == list(range(K))
    assert torch.equal(centroids[members], codes)


@pytest.mark.parametrize("size", [-1, 0, K + 1])
def test_other_numbers_of_codes_are_refused(codes, counts, size):
    with pytest.raises(UserError, match=rf"codebook of 32 cannot be reduced to {size} codes: give 1 to 32\."):
        cluster_codes(codes, counts, size)


def test_weighted_means_by_hand():
    rows = torch.tensor([[2.0, 0.0], [4.0, 4.0], [8.0, 1.0]], dtype=torch.bfloat16)
    means = weighted_means(rows, torch.tensor([3.0, 1.0, 9.0]), torch.tensor([1, 1, 0]), 2)
    assert means.dtype == torch.bfloat16 and means.tolist() == [[8, 1], [2.5, 1]]


def mixed(rows: torch.Tensor, members: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Rows of S tokens: of each cluster the mean of its members' rows, each as often as it is used."""
    found = []
    for place in range(int(members.max()) + 1):
        of_it = (members == place).nonzero().flatten().tolist()
        weights = [float(counts[token]) + 1e-3 * float(counts.double().mean()) for token in of_it]
        shares = torch.tensor([weight / sum(weights) for weight in weights], dtype=torch.float64)
        found.append((rows[of_it].double() * shares[:, None]).sum(0))
    return torch.stack(found).float()


def test_every_tensor_with_a_row_for_each_token_is_mixed_and_no_other_is_changed(kind, counts):
    model = make_simlvm(**kind)
    reduced, members = reduce_codebook(model, counts, S)
    first = model.config.image_token_offset
    by_id = re.compile(r"embed_tokens\.weight|lm_head\.weight")
    by_token = re.compile(r"\.codes$|quantizer\.codebook$|^aligned_embedding\.(embedding\.)?weight$")
    before, after = model.state_dict(), reduced.state_dict()
    assert before.keys() == after.keys()
    changed = set()
    for name, rows in before.items():
        expected = rows
        if by_id.search(name):
            expected = torch.cat([rows[:first], mixed(rows[first : first + K], members, counts), rows[first + K :]])
        elif by_token.search(name):
            expected = mixed(rows, members, counts)
        assert torch.allclose(after[name], expected, atol=1e-6), name
        changed |= set() if expected is rows else {name}
        assert expected is not rows or torch.equal(after[name], rows), name
    # codebook, embeddings and head; with aligned tokens their embeddings, and codes under the convolutions
    assert len(changed) == 3 + bool(kind.get("aligned_tokens")) + bool(kind.get("aligned_layers"))


def test_the_model_that_is_reduced_stays_as_it_was(kind, counts):
    model = make_simlvm(**kind)
    state, config = deepcopy(model.state_dict()), model.config.to_dict()
    reduce_codebook(model, counts, S)
    assert model.config.to_dict() == config
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_ids_behind_the_image_tokens_move_up(counts):
    reduced, _ = reduce_codebook(make_simlvm(**SPECIALS), counts, S)
    config = reduced.config
    assert (config.codebook_size, config.vocab_size, config.image_token_offset) == (S, 40 - K + S, 3)
    assert config.special_token_ids == {"pad": 1, "begin": 16, "end": 19}
    generation = reduced.generation_config
    assert (generation.pad_token_id, generation.bos_token_id, generation.eos_token_id) == (1, 16, 19)


@pytest.mark.parametrize("token", ["pad_token_id", "bos_token_id", "eos_token_id"])
@pytest.mark.parametrize(("before", "after"), [(0, 0), (39, 19), (20, None)])
def test_ids_in_the_language_models_own_config_move_too(counts, token, before, after):
    model = make_simlvm(text={token: before}, image_token_offset=3)
    reduced, _ = reduce_codebook(model, counts, S)
    assert getattr(reduced.config.text_config, token) == after


def test_what_a_special_id_says_stays_the_same(counts):
    model = make_simlvm(**SPECIALS)
    reduced, _ = reduce_codebook(model, counts, S)
    for name, number in model.config.special_token_ids.items():
        other = reduced.config.special_token_ids[name]
        for part in ("get_input_embeddings", "get_output_embeddings"):
            assert torch.equal(getattr(reduced, part)().weight[other], getattr(model, part)().weight[number])


def test_with_all_codes_kept_logits_are_the_same_in_another_order(kind, counts):
    model = make_simlvm(**kind)
    kept, members = reduce_codebook(model, counts, K)
    first, size = model.config.image_token_offset, model.config.vocab_size
    moved = torch.arange(size)
    moved[first : first + K] = first + members
    tokens = torch.randint(0, K, (2, 3 * 16))
    begin = model.converter.begin_id
    ids = model.converter.to_ids(tokens)
    ids = ids if begin is None else torch.cat([torch.full((2, 1), begin), ids], 1)
    with torch.no_grad():
        expected, found = model(input_ids=ids).logits, kept(input_ids=moved[ids]).logits
    assert not torch.equal(moved, torch.arange(size))
    assert torch.allclose(found[..., moved], expected, atol=1e-5)


def test_pictures_are_written_with_the_codes_that_theirs_became(counts):
    model = make_simlvm()
    reduced, members = reduce_codebook(model, counts, K)
    pictures = torch.rand(3, 3, 16, 16) * 2 - 1
    tokens = model.tokenize(pictures)
    assert len(tokens.unique()) > 3
    assert torch.equal(reduced.tokenize(pictures), members[tokens])


def test_a_reduced_model_is_read_back_and_completes_a_sentence(kind, counts, tmp_path, pictures):
    reduced, _ = reduce_codebook(make_simlvm(**kind), counts, S)
    reduced.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    state = reduced.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())
    begin = reduced.converter.begin_id
    processor = SimLVMProcessor(VQGANImageProcessor(local_size=16, local_fit="stretch"), 16, 8, begin_id=begin)
    asked = processor(pairs=[tuple(pictures[:2]), tuple(pictures[2:4])], query=pictures[4])
    answers = [one.complete(**asked).image_tokens for one in (reduced, loaded)]
    assert torch.equal(*answers)
    assert answers[0].numel() == 16 and int(answers[0].min()) >= 0 and int(answers[0].max()) < S


def test_a_reduced_model_is_ready_to_answer_and_its_tokenizer_frozen(counts):
    reduced, _ = reduce_codebook(make_simlvm().train(), counts, S)
    assert not reduced.training
    assert not any(parameter.requires_grad for parameter in reduced.vqgan.parameters())


def test_codes_that_follow_from_a_layer_are_refused_in_one_line(counts):
    with pytest.raises(UserError, match=r"^This model's codebook is 'simvq'.*only a learned codebook is reduced\.$"):
        reduce_codebook(make_simlvm(vqgan={"codebook": "simvq"}), counts, S)


def test_a_head_with_a_bias_is_refused_in_one_line(counts):
    model = make_simlvm("phi")
    assert isinstance(model.get_output_embeddings().bias, nn.Parameter)
    with pytest.raises(UserError, match=r"^The language model's head has a bias"):
        reduce_codebook(model, counts, S)


@pytest.mark.parametrize("size", [0, K + 1])
def test_a_model_is_not_reduced_to_other_numbers_of_codes(counts, size):
    with pytest.raises(UserError, match=f"cannot be reduced to {size} codes"):
        reduce_codebook(make_simlvm(), counts, size)
