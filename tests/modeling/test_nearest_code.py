"""The search gives exactly what the plain computation gives, equals included, in bounded memory."""

import resource
import subprocess
import sys

import pytest
import torch

from visual_sentence.modeling.nearest_code import nearest_codes


def plain(latents: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    """Every difference written out; the first of equals, as `argmin` gives it on the CPU."""
    rows = [(row - codebook).square().sum(-1) for row in latents]
    return torch.stack([(row == row.min()).nonzero()[0, 0] for row in rows])


SIZES = [(1, 1, 1), (33, 7, 1), (100, 500, 8), (64, 3000, 64), (50, 1500, 768)]


@pytest.mark.parametrize(("count", "entries", "width"), SIZES)
def test_equal_to_the_plain_computation(count, entries, width):
    latents, codebook = torch.randn(count, width), torch.randn(entries, width)
    assert torch.equal(nearest_codes(latents, codebook), plain(latents, codebook))


@pytest.mark.parametrize(("count", "entries", "width"), SIZES)
def test_the_first_of_equal_entries_is_taken(count, entries, width):
    latents, half = torch.randn(count, width), torch.randn(entries, width)
    codebook = torch.cat([half, half, half.flip(0)])
    found = nearest_codes(latents, codebook)
    assert torch.equal(found, plain(latents, codebook))
    assert found.max() < entries


def test_ties_between_different_entries():
    # whole numbers: most latents have many different entries at exactly the same distance
    latents, codebook = torch.randint(-2, 3, (200, 6)).float(), torch.randint(-2, 3, (4000, 6)).float()
    assert torch.equal(nearest_codes(latents, codebook), plain(latents, codebook))


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e-3])
def test_entries_that_are_all_but_the_same(scale):
    # the matrix product alone cannot tell these apart
    latents, codebook = torch.randn(40, 64), 1 + scale * torch.randn(700, 64)
    assert torch.equal(nearest_codes(latents, codebook), plain(latents, codebook))


def test_many_tiles_and_many_passes(monkeypatch):
    latents, codebook = torch.randn(60, 16), torch.randn(300, 16)
    codebook[150:] = codebook[:150].clone()
    expected = plain(latents, codebook)
    for name, value in (("ROW_VALUES", 16 * 7), ("TILE_VALUES", 7 * 11), ("PAIR_VALUES", 16 * 3)):
        monkeypatch.setattr(f"visual_sentence.modeling.nearest_code.{name}", value)
    assert torch.equal(nearest_codes(latents, codebook), expected)


def test_entries_are_projected_tile_by_tile():
    latents, codebook, layer = torch.randn(20, 12), torch.randn(500, 5), torch.nn.Linear(5, 12)
    with torch.no_grad():
        assert torch.equal(nearest_codes(latents, codebook, layer), plain(latents, layer(codebook)))


def test_a_coarse_matrix_product_changes_nothing(monkeypatch):
    latents, codebook = torch.randn(50, 64), 1 + 0.05 * torch.randn(2000, 64)
    expected = plain(latents, codebook)
    product = torch.addmm
    # as a processor with bfloat16 instructions is allowed to compute it at that precision
    monkeypatch.setattr(
        torch, "addmm", lambda bias, a, b, beta: product(bias, a.bfloat16().float(), b.bfloat16().float(), beta=beta)
    )
    assert not torch.equal(nearest_codes(latents, codebook), expected)  # when it is not told
    before = torch.backends.mkldnn.matmul.fp32_precision
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    try:
        assert torch.equal(nearest_codes(latents, codebook), expected)
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = before


def test_half_precision_latents_and_autocast_are_compared_in_float32():
    latents, codebook = torch.randn(50, 64).bfloat16(), torch.randn(2000, 64)
    with torch.autocast("cpu", torch.bfloat16):
        found = nearest_codes(latents, codebook)
    assert torch.equal(found, plain(latents.float(), codebook))


def test_latents_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        nearest_codes(torch.tensor([[0.0, torch.nan]]), torch.zeros(3, 2))


MEMORY = """
import resource, sys, torch
from visual_sentence.modeling.nearest_code import nearest_codes
torch.set_num_threads(1)
count, entries, kind = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
codebook = torch.ones(entries, 64) if kind == "equal" else torch.randn(entries, 64)
latents = torch.randn(count, 64)
nearest_codes(latents[:50], codebook[:500])  # what the libraries take once
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
nearest_codes(latents, codebook)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "entries", "kind"), [(20_000, 32_000, "random"), (600, 256_000, "random"), (3_000, 4_000, "equal")]
)
def test_working_memory_stays_under_64_mib(count, entries, kind):
    assert resource  # getrusage exists on this platform
    result = subprocess.run(
        [sys.executable, "-c", MEMORY, str(count), str(entries), kind], capture_output=True, text=True, check=True
    )
    assert float(result.stdout) < 64
