"""The quantizer against hand-worked numbers, and against vector-quantize-pytorch's formulas by automatic derivation."""

import copy

import pytest
import torch
from torch.nn import functional as F

from visual_sentence.modeling import VectorQuantizer
from visual_sentence.modeling.vector_quantization import codebook_statistics


def quantizer(codebook, **options) -> VectorQuantizer:
    codebook = torch.tensor(codebook)
    module = VectorQuantizer(*codebook.shape, **options)
    with torch.no_grad():
        module.codebook.copy_(codebook)
    return module


def as_map(rows) -> torch.Tensor:
    """Latents [1, D, 1, n] of rows [n, D]."""
    return torch.tensor(rows).T[None, :, None, :].contiguous()


CODES = [[0.0, 0.0], [4.0, 0.0], [0.0, 3.0]]
LATENTS = [[1.0, 0.0], [3.0, 1.0]]  # nearest: entries 0 and 1


def test_tokens_values_and_losses_worked_out_by_hand():
    output = quantizer(CODES)(as_map(LATENTS))
    assert output.tokens.tolist() == [[[0, 1]]]
    assert output.quantized[0, :, 0].T.tolist() == [[0, 0], [4, 0]]
    # differences (1, 0) and (-1, 1): squares 1, 0, 1, 1, mean over four values
    assert output.codebook_loss.item() == output.commitment_loss.item() == 0.75
    assert output.codebook_usage.item() == pytest.approx(2 / 3)
    assert output.codebook_perplexity.item() == pytest.approx(2)


def test_straight_through_gradients_worked_out_by_hand():
    module, latents = quantizer(CODES), as_map(LATENTS).requires_grad_()
    output = module(latents)
    weights = as_map([[1.0, 2.0], [3.0, 5.0]])
    (output.quantized * weights).sum().backward(retain_graph=True)
    assert torch.equal(latents.grad, weights)  # as if nothing had happened on the way
    assert module.codebook.grad is None or not module.codebook.grad.any()  # the decoder does not move the entries

    latents.grad = None
    output.commitment_loss.backward(retain_graph=True)
    # d/dz mean((z - q)^2) = 2 (z - q) / 4
    assert latents.grad[0, :, 0].T.tolist() == [[0.5, 0.0], [-0.5, 0.5]]
    assert module.codebook.grad is None or not module.codebook.grad.any()

    latents.grad = None
    module.codebook.grad = None
    output.codebook_loss.backward()
    assert latents.grad is None
    assert module.codebook.grad.tolist() == [[-0.5, 0.0], [0.5, -0.5], [0.0, 0.0]]


def test_rotation_gradient_worked_out_by_hand():
    # from (2, 0) to (0, 1): a quarter turn and half the length, so the gradient (a, b) of the entry comes back
    # as R'(a, b) / 2 with R (x, y) = (-y, x), that is (b, -a) / 2
    module, latents = quantizer([[0.0, 1.0]], gradient="rotation"), as_map([[2.0, 0.0]]).requires_grad_()
    output = module(latents)
    assert torch.allclose(output.quantized.flatten(), torch.tensor([0.0, 1.0]))
    (output.quantized * as_map([[3.0, 5.0]])).sum().backward()
    assert torch.allclose(latents.grad.flatten(), torch.tensor([2.5, -1.5]), atol=1e-6)


def test_rotation_gradient_is_that_of_the_rotation_matrix():
    module, latents = VectorQuantizer(10, 6, gradient="rotation"), torch.randn(2, 6, 3, 3, requires_grad=True)
    module.codebook.data.normal_()
    output, upstream = module(latents), torch.randn(2, 6, 3, 3)
    (output.quantized * upstream).sum().backward()
    rows = [x.detach().permute(0, 2, 3, 1).reshape(-1, 6) for x in (latents, output.quantized, upstream)]
    expected = []
    for z, q, g in zip(*rows, strict=True):
        e, c = F.normalize(z, dim=0), F.normalize(q, dim=0)
        r = F.normalize(e + c, dim=0)
        rotation = torch.eye(6) - 2 * torch.outer(r, r) + 2 * torch.outer(c, e)
        assert torch.allclose(rotation @ z * q.norm() / z.norm(), q, atol=1e-5)
        expected.append(q.norm() / z.norm() * rotation.T @ g)
    found = latents.grad.permute(0, 2, 3, 1).reshape(-1, 6)
    assert torch.allclose(found, torch.stack(expected), atol=1e-5)


def test_rotation_agrees_with_vector_quantize_pytorch():
    reference = pytest.importorskip("vector_quantize_pytorch.vector_quantize_pytorch")
    module, latents = VectorQuantizer(10, 6, gradient="rotation"), torch.randn(1, 6, 1, 8, requires_grad=True)
    module.codebook.data.normal_()
    output, upstream = module(latents), torch.randn(1, 6, 1, 8)
    (gradient,) = torch.autograd.grad((output.quantized * upstream).sum(), latents)
    rows = latents.detach().permute(0, 2, 3, 1).reshape(1, -1, 6).requires_grad_()
    targets = output.quantized.detach().permute(0, 2, 3, 1).reshape(1, -1, 6)
    turned = reference.rotate_to(rows, targets)
    (expected,) = torch.autograd.grad((turned * upstream.permute(0, 2, 3, 1).reshape(1, -1, 6)).sum(), rows)
    assert torch.allclose(gradient.permute(0, 2, 3, 1).reshape(1, -1, 6), expected, atol=1e-5)


@pytest.mark.parametrize("gradient", ["straight-through", "rotation"])
def test_the_projector_learns_through_the_codebook_term_only(gradient):
    module = VectorQuantizer(20, 5, 8, trainable=False, projector=True, gradient=gradient)
    module.reset_parameters()
    module.codebook.normal_()
    latents = torch.randn(2, 8, 4, 4, requires_grad=True)
    output = module(latents)
    projected = module.projector(module.codebook)
    rows = latents.permute(0, 2, 3, 1).reshape(-1, 8)
    expected = torch.cdist(rows, projected, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
    assert torch.equal(output.tokens.flatten(), expected)
    output.quantized.sum().backward(retain_graph=True)
    assert module.projector.weight.grad is None
    output.codebook_loss.backward()
    by_hand = torch.autograd.grad(F.mse_loss(projected[expected], rows.detach()), module.projector.weight)[0]
    assert torch.allclose(module.projector.weight.grad, by_hand, atol=1e-6)
    assert not module.codebook.requires_grad


def projecting() -> VectorQuantizer:
    module = VectorQuantizer(50, 4, 6, trainable=False, projector=True)
    module.reset_parameters()
    module.codebook.normal_()
    return module.eval()


@pytest.mark.parametrize(
    "change",
    [
        lambda module: module.projector.weight.data.normal_(),  # past the version counter, as averaging weights does
        lambda module: module.projector.bias.data.add_(torch.randn(6)),
        lambda module: module.codebook.normal_(),
        lambda module: module.load_state_dict(projecting().state_dict()),
        lambda module: torch.optim.SGD(module.parameters(), 1).step(
            lambda: module.train()(torch.randn(2, 6, 4, 4)).codebook_loss.backward()
        ),
    ],
    ids=["weight", "bias", "codebook", "load_state_dict", "step"],
)
def test_projected_codebook_is_kept_until_a_weight_changes(change):
    module, latents = projecting(), torch.randn(4, 6, 8, 8)
    before = module(latents).tokens
    kept = module._projection_cache.entries
    module(latents)
    assert module._projection_cache.entries is kept
    change(module)
    module.eval()
    fresh = copy.deepcopy(module)
    assert fresh._projection_cache is None
    after = module(latents).tokens
    assert torch.equal(after, fresh(latents).tokens)
    assert not torch.equal(after, before)


def test_cached_and_uncached_search_agree():
    module, latents = projecting(), torch.randn(4, 6, 8, 8)
    evaluated = module(latents).tokens
    assert torch.equal(module.train()(latents).tokens, evaluated)
    assert module._projection_cache is None


def test_bfloat16_latents_keep_their_dtype_and_are_compared_in_float32():
    module, latents = quantizer(torch.randn(30, 8).tolist()), torch.randn(2, 8, 4, 4).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        output = module(latents)
    assert output.quantized.dtype == torch.bfloat16
    assert output.codebook_loss.dtype == torch.float32
    assert torch.equal(output.tokens, module(latents.float()).tokens)


def test_maps_of_any_layout_in_memory_give_the_same_tokens(monkeypatch):
    module, latents = quantizer(torch.randn(30, 8).tolist()), torch.randn(3, 8, 4, 6)
    expected = module.assign(latents)
    assert torch.equal(module.assign(latents.to(memory_format=torch.channels_last)), expected)
    assert torch.equal(torch.cat([module.assign(image[None]) for image in latents]), expected)


@pytest.mark.parametrize("token", [-1, 3])
def test_tokens_outside_the_codebook_are_named(token):
    with pytest.raises(ValueError, match=rf"must lie in \[0, 3\), found {token}"):
        quantizer(CODES).lookup(torch.tensor([[[0, token]]]))


@pytest.mark.parametrize(("width", "bias"), [(6, True), (3, True), (3, False)])
def test_a_projected_codebook_takes_the_latents_mean_and_covariance(width, bias):
    module = VectorQuantizer(400, 6, width, trainable=False, projector=True, projector_bias=bias)
    module.codebook.normal_()
    mixing = torch.randn(width, width)
    rows = torch.randn(3000, width) @ mixing.T + 5.0
    module.fit_to(rows.T.reshape(1, width, 50, 60))
    codes = module.projector(module.codebook).detach()
    if bias:
        assert torch.allclose(codes.mean(0), rows.mean(0), atol=1e-4)
        assert torch.allclose(codes.T.cov(correction=0), rows.T.cov(correction=0), rtol=1e-3, atol=1e-3)
    else:
        assert torch.allclose(codes.T @ codes / len(codes), rows.T @ rows / len(rows), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("projector", [False, True])
def test_fitting_brings_most_of_the_codebook_into_use(projector):
    module = VectorQuantizer(64, 6, trainable=not projector, projector=projector)
    module.reset_parameters()
    latents = 3 + 0.01 * torch.randn(8, 6, 16, 16)  # close together and far away, as at a random start
    before = module(latents).codebook_usage
    module.fit_to(latents, torch.Generator().manual_seed(0))
    after = module(latents)
    assert before < 0.2 < 0.9 < after.codebook_usage
    assert after.codebook_loss < 1e-4


def test_statistics_worked_out_by_hand():
    usage, perplexity = codebook_statistics(torch.tensor([[0, 0], [1, 2]]), 8)
    assert usage.item() == 3 / 8
    # entropy of (1/2, 1/4, 1/4) is 1.5 bits
    assert perplexity.item() == pytest.approx(2**1.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"latent_dim": 5}, "without a projector"), ({"gradient": "gumbel"}, "must be one of straight-through, rotation")],
)
def test_contradictions_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        VectorQuantizer(10, 4, **options)
