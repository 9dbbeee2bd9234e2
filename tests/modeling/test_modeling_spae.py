"""SPAE: positions and means worked out by hand, prefixes, the semantic loss, saving, contradictions."""

import json
import math

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel

from visual_sentence.modeling import (
    LocalVocabulary,
    PyramidQuantizer,
    SPAEConfig,
    SPAEModel,
    VectorQuantizer,
    modeling_spae,
)
from visual_sentence.modeling.modeling_spae import candidate_cross_entropy
from visual_sentence.modeling.pyramid_quantization import layer_places

from ..conftest import TOWERS
from .conftest import CODEC

SIZES, COUNTS = [1, 2, 4, 8, 8, 8], (1, 5, 21, 85, 149, 213)
GUIDED = {"semantic_layers": 2, "semantic_thresholds": [0.9, 0.7]}


def pyramid(codebook, layer_sizes, **options) -> PyramidQuantizer:
    codebook = torch.tensor(codebook)
    module = PyramidQuantizer(*codebook.shape, layer_sizes, **options)
    module.codebook.copy_(codebook)
    return module


@pytest.fixture
def make_spae(vocabulary):
    """Builds a tiny SPAE of 40 words: 16 px to layers of up to 8 x 8 tokens; with a tower where one is named."""

    def make(tower: tuple | None = None, **options) -> SPAEModel:
        torch.manual_seed(0)
        encoder_type, encoder_config = tower or (None, None)
        halves = {"encoder_type": encoder_type, "encoder_config": encoder_config, "embedding_dim": 16, "num_words": 12}
        sizes = {"image_size": 16, "local_codebook_size": 40, "local_embedding_dim": 16, **CODEC}
        model = SPAEModel(SPAEConfig(**{**halves, **sizes, **GUIDED, "layer_sizes": SIZES, **options})).eval()
        if tower:
            model.load_codebook(F.normalize(torch.randn(12, 16)), torch.zeros(16), vocabulary)
        words = LocalVocabulary([f"word{index}" for index in range(40)], "tiny")
        model.load_local_codebook(torch.randn(40, model.config.local_embedding_dim), words)
        model.quant_conv.weight.data.mul_(20)  # latents as far apart as the codes, so that many are used
        return model

    return make


@pytest.fixture
def pixel_values() -> torch.Tensor:
    return torch.rand(2, 3, 16, 16) * 2 - 1


@pytest.fixture
def global_pixel_values() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32)


def test_positions_of_layers():
    # counted from 1, as in the paper
    found = {size: [place + 1 for place in range(4)[layer_places(size, 4)]] for size in (1, 2, 4)}
    assert found == {1: [3], 2: [2, 4], 4: [1, 2, 3, 4]}
    assert range(16)[layer_places(1, 16)][0] + 1 == 9
    for last in range(6):
        for level in range(last + 1):
            step = 2 ** (last - level)
            expected = [h * step - math.ceil(2 ** (last - level - 1)) + 1 for h in range(1, 2**level + 1)]
            assert [place + 1 for place in range(2**last)[layer_places(2**level, 2**last)]] == expected


def test_token_counts():
    config = SPAEConfig()
    assert config.token_counts == (1, 5, 21, 85, 341, 597, 853, 1109) and config.image_seq_length == 1109
    assert SPAEConfig(layer_sizes=[16], semantic_layers=1, semantic_thresholds=[0.9]).token_counts == (256,)


def test_streaming_average_worked_out_by_hand():
    module = pyramid([[0.0], [1.0], [4.0]], (1, 2, 2))
    latents = torch.tensor([[[[0.4, 0.9], [3.0, 1.8]]]])
    output = module(latents)
    # layer 1 stands on the last position; there layer 2 quantizes 1.8 + (1.8 - 1), layer 3 that + (1.8 - 4); elsewhere
    # layer 2 quantizes the latents, layer 3 the latents and what is left of them
    wanted = [layer.flatten().tolist() for layer in output.layer_latents]
    assert wanted == [pytest.approx([1.8]), pytest.approx([0.4, 0.9, 3, 2.6]), pytest.approx([0.8, 0.8, 2, 0.4])]
    assert output.tokens.tolist() == [[[1, 0, 1, 2, 2, 1, 1, 1, 0]]]
    codes = [prefix.flatten().tolist() for prefix in output.prefixes]
    assert codes == [[1, 1, 1, 1], pytest.approx([0, 1, 4, 2.5]), pytest.approx([0.5, 1, 2.5, 5 / 3])]
    assert torch.equal(output.quantized, output.prefixes[-1])
    # squares: 0.64 at the one position; 0.16, 0.01, 1, 0.49; 0.01, 0.01, 0.25, (2 / 15) ** 2
    assert output.commitment_loss.item() == pytest.approx((0.64 + 1.66 / 4 + (0.27 + 4 / 225) / 4) / 3)
    assert output.codebook_loss.item() == 0
    assert output.codebook_usage.item() == 1  # all of 0, 1 and 2
    frequencies = torch.tensor([2, 5, 2]) / 9
    assert output.codebook_perplexity.item() == pytest.approx((-(frequencies * frequencies.log()).sum()).exp().item())


def test_uncovered_positions_take_the_nearest_covered_one():
    module = pyramid([[10.0], [11.0], [12.0], [13.0]], (2, 4))
    codes = module.lookup(torch.tensor([[[0, 1, 2, 3]]]))
    assert codes[0, 0].tolist() == [[10, 10, 10, 11], [10, 10, 10, 11], [10, 10, 10, 11], [12, 12, 12, 13]]


@pytest.mark.parametrize("gradient", ["straight-through", "rotation"])
def test_lookup_of_a_prefix_is_what_the_layers_gave(gradient):
    module, latents = PyramidQuantizer(30, 3, SIZES, gradient=gradient), torch.randn(2, 3, 8, 8)
    module.codebook.normal_()
    output = module(latents)
    assert output.tokens.shape == (2, 1, 213) and torch.equal(module.assign(latents), output.tokens)
    for count, codes in zip(COUNTS, output.prefixes, strict=True):
        assert torch.allclose(module.lookup(output.tokens[..., :count]), codes, atol=1e-5), count
    # each further layer over the whole grid comes nearer, as each quantizes what is left
    errors = [(codes - latents).square().mean() for codes in output.prefixes[3:]]
    assert errors[0] > errors[1] > errors[2]


def test_straight_through_gradient_of_every_prefix_and_of_what_layers_quantize():
    module, latents = PyramidQuantizer(30, 3, SIZES), torch.randn(1, 3, 8, 8, requires_grad=True)
    module.codebook.normal_()
    output, upstream = module(latents), torch.randn(1, 3, 8, 8)
    for codes in output.prefixes:
        (found,) = torch.autograd.grad(codes, latents, upstream, retain_graph=True)
        assert torch.equal(found, upstream)
    # z + sum of (z - e) over the layers before that stand on a position
    (found,) = torch.autograd.grad(output.layer_latents[4].sum(), latents)
    before = torch.zeros(8, 8)
    for size in SIZES[:4]:
        before[layer_places(size, 8), layer_places(size, 8)] += 1
    assert torch.equal(found, (1 + before).expand(1, 3, 8, 8))


def test_a_single_layer_is_a_vector_quantizer():
    module, reference = PyramidQuantizer(50, 4, [8]), VectorQuantizer(50, 4, trainable=False)
    module.codebook.normal_()
    reference.codebook.copy_(module.codebook)
    for shape in ((2, 4, 8, 8), (1, 4, 3, 5)):
        latents = torch.randn(shape)
        ours, theirs = module(latents), reference(latents)
        assert torch.equal(ours.tokens, theirs.tokens) and torch.equal(ours.quantized, theirs.quantized)
        assert torch.allclose(ours.commitment_loss, theirs.commitment_loss)
        assert torch.equal(module.assign(latents), theirs.tokens)
        assert torch.equal(module.lookup(ours.tokens), reference.lookup(theirs.tokens))


def test_every_prefix_is_an_image(make_spae, pixel_values):
    model = make_spae()
    output = model.encode(pixel_values)
    assert output.local_tokens.shape == (2, 1, 213) and output.local_tokens.dtype == torch.long
    images = [model.decode(output.local_tokens[..., :count]) for count in COUNTS]
    for count, image in zip(COUNTS, images, strict=True):
        assert image.shape == pixel_values.shape
        assert torch.equal(model.decode(output.local_tokens[:, 0, :count]), image)
    assert all(not torch.allclose(one, other) for one, other in zip(images[1:], images[:-1], strict=True))
    assert torch.allclose(model(pixel_values).pixel_values, images[-1], atol=1e-5)


def test_a_single_layer_takes_tokens_as_v2l_does(make_spae, pixel_values):
    model = make_spae(layer_sizes=[8], semantic_layers=1, semantic_thresholds=[0.9])
    tokens = model.encode(pixel_values).local_tokens
    assert tokens.shape == (2, 8, 8)
    image, known = model.decode(tokens), torch.rand(2, 8, 8) < 0.5
    masked = model.decode(tokens, known=known)
    assert not torch.allclose(masked, image)
    for shape in ((2, 64), (2, 1, 64)):
        assert torch.equal(model.decode(tokens.view(shape)), image)
        assert torch.equal(model.decode(tokens.view(shape), known=known.view(shape)), masked)


def test_a_training_step_moves_the_codec_and_no_word(make_spae, pixel_values, global_pixel_values):
    model = make_spae(TOWERS["clip"]).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.trainable_parameters(), lr=0.01)
    model(pixel_values, global_pixel_values).loss.backward()
    optimizer.step()
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    codec = ("encoder.", "quant_conv.", "post_quant_conv.", "decoder.")
    assert moved == {name for name in before if name.startswith(codec)}


@pytest.mark.parametrize("prefix_losses", ["all", "none"])
def test_loss_is_the_sum_of_its_parts(make_spae, pixel_values, global_pixel_values, prefix_losses):
    model = make_spae(TOWERS["clip"], prefix_losses=prefix_losses, semantic_weight=0.3).train()
    output = model(pixel_values, global_pixel_values)
    expected = F.mse_loss(output.pixel_values, pixel_values) + 0.25 * output.commitment_loss
    if prefix_losses == "all":
        shorter = [model.decode(output.local_tokens[..., :count]) for count in (85, 149)]
        expected = expected + sum(F.mse_loss(image, pixel_values) for image in shorter) / 2
    layers = model.local_quantizer(output.latents).layer_latents
    expected = expected + 0.3 * model.semantic_loss(layers, output.image_embeds)
    assert torch.allclose(output.loss, expected, atol=1e-5)
    again = model(pixel_values, image_embeds=model.encode(None, global_pixel_values).image_embeds)
    assert torch.allclose(again.loss, output.loss)
    for term in (output.commitment_loss, model.semantic_loss(layers, output.image_embeds)):
        (found,) = torch.autograd.grad(term, model.encoder.net.conv_in.weight, retain_graph=True)
        assert found.abs().sum() > 0  # each by itself reaches the encoder's first layer
    unquantized = model(pixel_values, global_pixel_values, quantize=False)
    assert torch.equal(unquantized.loss, unquantized.reconstruction_loss)


def test_a_random_prefix_is_one_of_the_shorter_whole_ones(make_spae, pixel_values):
    model = make_spae(prefix_losses="random", semantic_weight=0.0).train()
    output = model(pixel_values)
    shorter = [F.mse_loss(model.decode(output.local_tokens[..., :count]), pixel_values) for count in (85, 149)]
    common = output.reconstruction_loss + 0.25 * output.commitment_loss
    drawn = set()
    for _ in range(12):
        term = model(pixel_values).loss - common
        matching = [index for index, loss in enumerate(shorter) if torch.allclose(term, loss, atol=1e-5)]
        assert len(matching) == 1
        drawn.update(matching)
    assert drawn == {0, 1}
    assert torch.allclose(model.eval()(pixel_values).loss - common, sum(shorter) / 2, atol=1e-5)


def test_candidate_cross_entropy_is_that_of_the_softmax(monkeypatch):
    latents = torch.randn(2, 3, 4, 4, requires_grad=True)
    codes, candidates = torch.randn(7, 3), torch.tensor([[True, False, True, False, False, True, False], [True] * 7])
    rows = latents.permute(0, 2, 3, 1).reshape(2, 16, 1, 3)
    log_likelihoods = (-(rows - codes).square().sum(-1)).log_softmax(-1)  # [B, positions, K]
    expected = -torch.stack([log_likelihoods[b][:, candidates[b]].mean() for b in range(2)]).mean()
    (expected_gradient,) = torch.autograd.grad(expected, latents)
    for distances in (modeling_spae.DISTANCES, 7 * 5):  # all positions at once, and five at a time
        monkeypatch.setattr(modeling_spae, "DISTANCES", distances)
        found = candidate_cross_entropy(latents, codes, candidates)
        assert torch.allclose(found, expected, atol=1e-5)
        assert torch.allclose(torch.autograd.grad(found, latents)[0], expected_gradient, atol=1e-6)


def circle(*degrees: float) -> torch.Tensor:
    """Unit vectors [n, 2] at angles."""
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], 1)


def test_candidates_are_the_words_that_suit_the_image(make_spae):
    model = make_spae(semantic_thresholds=[0.9, 0.6])
    model.local_quantizer = pyramid([[0.0, 0.0]] * 5, SIZES)
    # similarities with the image at 0 degrees: 1, cos 40 = 0.77, cos 60 = 0.5, 0, -1; scaled to [0, 1]: 1, 0.88, 0.75,
    # 0.5, 0; the words' lengths do not matter
    codes = circle(0, 40, 60, 90, 180) * torch.tensor([[1.0], [2.0], [0.5], [1.0], [1.5]])
    model.local_quantizer.codebook.copy_(codes)
    layers = torch.randn(1, 2, 1, 1), torch.randn(1, 2, 2, 2), torch.full((1, 2, 4, 4), torch.nan)
    found = model.semantic_loss(layers, circle(0))
    chosen = (torch.arange(5) < 1)[None], (torch.arange(5) < 3)[None]
    expected = sum(candidate_cross_entropy(layer, codes, words) for layer, words in zip(layers, chosen, strict=False))
    assert torch.allclose(found, expected / 2)


def test_words_are_centred_where_the_image_is(make_spae):
    model = make_spae(TOWERS["clip"], semantic_layers=1, semantic_thresholds=[0.99])
    codes = torch.zeros(40, 16)
    codes[:, 0] = 5.0  # what all words have in common
    codes[:20, 1], codes[20:, 1] = 1.0, -1.0
    codes[0, :2] = torch.tensor([2.0, -3.0])
    model.load_local_codebook(codes)
    image = torch.zeros(1, 16)
    image[0, 1] = -1.0
    layers = (torch.zeros(1, 16, 1, 1),)
    words = model.local_quantizer.codebook

    def nearest(directions: torch.Tensor) -> torch.Tensor:
        similarities = image @ F.normalize(directions, dim=1).T
        return similarities >= similarities.max() - 0.01 * (similarities.max() - similarities.min())

    plain, centred = nearest(words), nearest(words - words.mean(0))
    assert plain[0].nonzero().flatten().tolist() == [0]
    assert centred[0].nonzero().flatten().tolist() == list(range(20, 40))
    assert torch.allclose(model.semantic_loss(layers, image), candidate_cross_entropy(layers[0], words, plain))
    model.global_quantizer.image_center.fill_(0.1)
    assert torch.allclose(model.semantic_loss(layers, image), candidate_cross_entropy(layers[0], words, centred))


def test_the_semantic_loss_pulls_a_layer_to_its_word(make_spae):
    model = make_spae(semantic_layers=1, semantic_thresholds=[1.0])
    word = model.local_quantizer.codebook[7]
    latents = torch.randn(2, 16, 1, 1, requires_grad=True)
    embeds = F.normalize(word, dim=0).expand(2, 16)  # most similar to word 7
    distances, losses = [], []
    for _ in range(3):
        distances.append((latents.detach()[..., 0, 0] - word).norm(dim=1))
        losses.append(model.semantic_loss((latents,), embeds))
        (gradient,) = torch.autograd.grad(losses[-1], latents)
        latents = (latents - 0.1 * gradient).detach().requires_grad_()
    assert (distances[1] < distances[0]).all() and (distances[2] < distances[1]).all()
    assert losses[2] < losses[1] < losses[0]


def test_what_training_has_to_pass(make_spae, pixel_values, global_pixel_values):
    assert make_spae(TOWERS["clip"]).guidance == "image_embeds"
    assert make_spae().guidance is None
    unguided = make_spae(TOWERS["clip"], semantic_weight=0.0)
    assert unguided.guidance is None
    without = unguided(pixel_values).loss
    assert torch.equal(unguided(pixel_values, global_pixel_values).loss, without)


def test_saved_and_loaded_model_is_the_same(make_spae, pixel_values, tmp_path):
    model = make_spae(TOWERS["clip"], prefix_losses="random")
    model.save_pretrained(tmp_path)
    loaded, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is SPAEModel and not report["missing_keys"] and not report["unexpected_keys"]
    assert loaded.config.to_dict() == {**model.config.to_dict(), "_name_or_path": loaded.config._name_or_path}
    for (name, ours), theirs in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
    assert loaded.local_vocabulary == model.local_vocabulary and loaded.vocabulary.words == model.vocabulary.words
    tokens = model.encode(pixel_values).local_tokens
    assert torch.equal(loaded.encode(pixel_values).local_tokens, tokens)
    for count in COUNTS:
        assert torch.equal(loaded.decode(tokens[..., :count]), model.decode(tokens[..., :count]))
    # what a machine without this package needs lies beside the weights
    assert json.loads((tmp_path / "config.json").read_text())["auto_map"]["AutoModel"] == "modeling_spae.SPAEModel"
    assert {"modeling_spae.py", "configuration_spae.py", "pyramid_quantization.py"} <= {
        path.name for path in tmp_path.iterdir()
    }


def test_bfloat16_keeps_the_codebook_in_float32(make_spae, pixel_values, tmp_path):
    make_spae().save_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert model.local_quantizer.codebook.dtype == torch.float32 and model.quant_conv.weight.dtype == torch.bfloat16
    output = model(pixel_values, image_embeds=torch.randn(2, 16))
    assert output.latents.dtype == torch.bfloat16 and torch.isfinite(output.loss)


def test_what_cannot_be_decoded_or_fitted_is_named(make_spae, pixel_values):
    model = make_spae()
    tokens = model.encode(pixel_values).local_tokens
    for wrong in (tokens[..., :20], tokens[:, 0, :64], tokens[..., :64].view(2, 8, 8)):
        with pytest.raises(ValueError, match="give 1, 5, 21, 85, 149 or 213 of them"):
            model.decode(wrong)
    with pytest.raises(ValueError, match=r"must lie in \[0, 40\), found 40"):
        model.decode(torch.full((1, 5), 40))
    with pytest.raises(ValueError, match="known was given, but"):
        model.decode(tokens, known=tokens > 3)
    with pytest.raises(ValueError, match=r"map of 4 x 4, but the layers of tokens are of a grid of 8 x 8"):
        model.encode(pixel_values[..., :8, :8])
    with pytest.raises(ValueError, match=r"image_embeds must be \(2, 16\).*got \(1, 16\)"):
        model(pixel_values, image_embeds=torch.zeros(1, 16))
    with pytest.raises(ValueError, match="frozen and has no projector"):
        model.fit_codebook(model.encode(pixel_values).latents)
    with pytest.raises(ValueError, match="not finite"):
        model.local_quantizer(torch.full((1, 16, 8, 8), torch.nan))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"local_projector": True}, "local_projector is True, but SPAE compares"),
        ({"local_codebook_trainable": True}, "stays as it is"),
        ({"cross_attention": "paper"}, "sees nothing but the tokens: set it to None"),
        ({"layer_sizes": [1, 2, 4]}, r"grid of 16 x 16.*end them with 16"),
        ({"layer_sizes": []}, "end them with 16"),
        ({"layer_sizes": [3, 16]}, "layer_sizes has 3, but"),
        ({"layer_sizes": [0, 16]}, "layer_sizes has 0, but"),
        ({"layer_sizes": [1, 4, 2, 8, 16]}, "has 2 behind 4"),
        ({"image_size": 96, "layer_sizes": [4, 12]}, "layer_sizes has 4, but.*12 divided by a power of two"),
        ({"layer_sizes": [16]}, "semantic_layers is 5, but there are 1 layers"),
        ({"semantic_layers": 0, "semantic_thresholds": []}, "or semantic_weight 0"),
        ({"semantic_layers": 2}, "5 semantic_thresholds, but semantic_layers is 2"),
        ({"semantic_layers": 2, "semantic_thresholds": [0.9, 1.1]}, "choose values above 0 and up to 1"),
        ({"semantic_weight": -1.0}, "semantic_weight is -1.0"),
        ({"prefix_losses": "some"}, "prefix_losses must be one of all, random, none, got 'some'"),
        ({"local_codebook_size": 9, "local_embedding_dim": 512}, "embeddings are 768 wide, the local codebook's 512"),
    ],
)
def test_contradictions_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        SPAEConfig(**values)


def test_config_survives_its_file(tmp_path):
    config = SPAEConfig(**GUIDED, encoder_type=None, prefix_losses="none", semantic_weight=0.5, local_codebook_size=9)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is SPAEConfig and loaded.to_diff_dict() == config.to_diff_dict()
    assert loaded.token_counts == config.token_counts and loaded.semantic_thresholds == [0.9, 0.7]
