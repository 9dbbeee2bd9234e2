"""Which optimizer moves what."""

import pytest
import torch

from visual_sentence import UserError
from visual_sentence.sentence_training import optimizer as optimizer_module
from visual_sentence.sentence_training.config import SentenceTrainingConfig
from visual_sentence.sentence_training.optimizer import Float32Muon, MuonWithAdamW, make_optimizer


def config(**options) -> SentenceTrainingConfig:
    return SentenceTrainingConfig(data=["x"], output="y", **{"optimizer": "muon", **options})


def trained(model) -> list:
    return [(name, one) for name, one in model.named_parameters() if one.requires_grad]


@pytest.mark.parametrize("backbone", ["llama", "visual_gru"])
def test_muon_moves_matrices_inside_of_layers_and_adamw_the_rest(make_simlvm, backbone):
    named = trained(make_simlvm(backbone, aligned_tokens=True, grid_positions=True))
    found = make_optimizer(config(weight_decay=0.3), named, is_shared=False)
    muon, tables, vectors = ({id(one) for one in group["params"]} for group in found.param_groups)
    for name, one in named:
        own = muon if id(one) in muon else tables if id(one) in tables else vectors
        assert id(one) in own
        is_table = "embed" in name or "lm_head" in name
        assert own is (vectors if one.ndim == 1 else tables if is_table else muon), name
    assert len(muon) + len(tables) + len(vectors) == len(named)
    assert [group["weight_decay"] for group in found.param_groups] == [0.3, 0.3, 0.0]
    assert [group["peak_lr"] for group in found.param_groups] == [1e-2, 3e-4, 3e-4]


@pytest.mark.parametrize(("dtype", "kind"), [(torch.bfloat16, torch.optim.Muon), (torch.float32, Float32Muon)])
def test_both_parts_step_as_they_would_alone_also_from_a_saved_state(monkeypatch, dtype, kind):
    monkeypatch.setattr(optimizer_module, "cpu_dtype", lambda: dtype)
    torch.manual_seed(0)
    start, gradients = (torch.randn(6, 4), torch.randn(5)), [(torch.randn(6, 4), torch.randn(5)) for _ in range(4)]
    options = {"lr": 0.02, "weight_decay": 0.1}, {"lr": 0.01}

    def fresh():
        matrix, vector = (torch.nn.Parameter(one.clone()) for one in start)
        return matrix, vector, MuonWithAdamW([matrix], [{"params": [vector], "weight_decay": 0.0}], *options)

    matrix, vector = (torch.nn.Parameter(one.clone()) for one in start)
    alone = (
        kind([matrix], adjust_lr_fn="match_rms_adamw", **options[0]),
        torch.optim.AdamW([vector], weight_decay=0.0, **options[1]),
    )
    ours, our_vector, both = fresh()
    for place, (one, other) in enumerate(gradients):
        matrix.grad = ours.grad = one
        vector.grad = our_vector.grad = other
        for part in (*alone, both):
            part.step()
        assert torch.equal(ours, matrix) and torch.equal(our_vector, vector)
        if place == 1:  # another process goes on
            state, kept, kept_vector = both.state_dict(), ours.detach().clone(), our_vector.detach().clone()
            ours, our_vector, both = fresh()
            ours.data.copy_(kept)
            our_vector.data.copy_(kept_vector)
            both.load_state_dict(state)


def test_the_schedule_scales_both_rates(run):
    rates = run("--optimizer", "muon", "--max-steps", "3", "--muon-learning-rate", "0.02").curve("learning_rate")
    assert rates[0] == pytest.approx(1e-2) and rates[-1] < rates[0]


def test_muon_learns_what_adamw_would(run):
    done = run("--optimizer", "muon", "--max-steps", "25", "--min-pairs", "2")
    assert done.curve()[-1] < done.curve()[0] - 0.1


def test_muon_is_refused_where_matrices_are_cut_or_absent(make_simlvm):
    named = trained(make_simlvm())
    with pytest.raises(UserError, match="FSDP2 or DeepSpeed cuts them"):
        make_optimizer(config(), named, is_shared=True)
    assert isinstance(make_optimizer(config(optimizer="adamw"), named, is_shared=True), torch.optim.AdamW)
    with pytest.raises(UserError, match="no matrix to move"):
        make_optimizer(config(), [one for one in named if one[1].ndim == 1], is_shared=False)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_in_float32_moves_as_torchs_in_bfloat16(shape, nesterov):
    generator = torch.Generator().manual_seed(0)
    start, gradients = torch.randn(shape, generator=generator), torch.randn(3, *shape, generator=generator)
    options = {"lr": 0.02, "weight_decay": 0.1, "nesterov": nesterov, "adjust_lr_fn": "match_rms_adamw"}
    ends = []
    for kind in (torch.optim.Muon, Float32Muon):
        matrix = torch.nn.Parameter(start.clone())
        optimizer = kind([matrix], **options)
        for gradient in gradients:
            matrix.grad = gradient.clone()
            optimizer.step()
        ends.append(matrix.detach())
        assert set(optimizer.state[matrix]) == {"momentum_buffer"}  # a checkpoint of one goes on with the other
    moved = (ends[0] - start).abs().max()
    assert moved > 0.01 and (ends[0] - ends[1]).abs().max() < 0.03 * moved


def test_muon_in_float32_is_taken_where_bfloat16_is_slow(monkeypatch):
    for dtype, kind in ((torch.float32, Float32Muon), (torch.bfloat16, torch.optim.Muon)):
        monkeypatch.setattr(optimizer_module, "cpu_dtype", lambda dtype=dtype: dtype)
        matrix, vector = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))
        found = MuonWithAdamW([matrix], [{"params": [vector]}], {"lr": 0.1}, {"lr": 0.1})
        assert type(found._parts[0]) is kind
