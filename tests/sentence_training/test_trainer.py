"""What a run learns, weighs, reports and refuses."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor

from visual_sentence.data.shards import TokenShards
from visual_sentence.data.token_sentences import SentenceTable
from visual_sentence.modeling import SimLVMForVisualSentence, flops_per_token
from visual_sentence.sentence_training import machine, trainer
from visual_sentence.sentence_training import meter as meters
from visual_sentence.sentence_training.batches import Collator
from visual_sentence.sentence_training.meter import Meter, training_flops


@pytest.mark.parametrize("backbone", ["llama", "visual_gru"])
def test_a_run_learns_and_leaves_a_model(run, model_folder, vqgan_folder, backbone):
    config = model_folder(backbone, weights=False)
    done = run("--vqgan", vqgan_folder(), "--max-steps", "25", "--min-pairs", "2", config=config)
    assert done.curve()[-1] < done.curve()[0] - 0.1
    assert done.report["stopped_by"] == "steps" and done.report["steps"] == 25
    model = AutoModel.from_pretrained(done.folder / "model")
    assert isinstance(model, SimLVMForVisualSentence)
    assert AutoProcessor.from_pretrained(done.folder / "model").max_images == 8
    # the image tokenizer is the one that was given, bit by bit
    given = load_file(vqgan_folder() / "model.safetensors")
    assert all(torch.equal(done.weights[f"vqgan.{name}"], tensor) for name, tensor in given.items())


def test_the_summary_and_the_report(start, capsys):
    done = start("--packing", "separate", "--loss-on", "everything", "--gradient-checkpointing")
    assert done.status == 0, done.err
    assert done.out.count("\n") == 1 and done.out.startswith("finished after 4 steps, ")
    report = json.loads((done.folder / "training.json").read_text())
    tokens = 4 * 2 * 8 * 16
    assert 0.5 * tokens < report["tokens_seen"] <= tokens and f"{report['tokens_seen']:,} tokens" in done.out
    assert report["trainable_parameters"] < sum(
        parameter.numel() for parameter in AutoModel.from_pretrained(done.folder / "model").parameters()
    )
    assert report["settings"]["rows"] == 40 and report["settings"]["model.text_config.hidden_size"] == 16
    names = {"loss", "accuracy", "gradient_norm", "learning_rate", "tokens_per_second", "loader_share"}
    for line in (done.folder / "log.jsonl").read_text().splitlines():
        assert names | {"flops_utilization", "step"} == set(json.loads(line))


def test_gradient_checkpointing_changes_nothing(run):
    assert run().curve() == pytest.approx(run("--gradient-checkpointing", output="kept").curve(), rel=1e-5)


def test_accumulated_batches_weigh_tokens_alike(run):
    # sentences of 1 and 2 pairs: batches have unequal numbers of answers
    whole = run("--batch-size", "4")
    parts = run("--batch-size", "1", "--gradient-accumulation", "4", output="parts")
    assert parts.curve() == pytest.approx(whole.curve(), abs=2e-6)
    assert parts.curve("accuracy") == pytest.approx(whole.curve("accuracy"), abs=1e-6)
    assert parts.curve("gradient_norm") == pytest.approx(whole.curve("gradient_norm"), rel=1e-4)


def test_the_first_step_by_hand(run, model_folder, shards):
    """AdamW's first step moves weights by the rate against the gradient's sign, decayed where they are matrices."""
    done = run("--max-steps", "1", "--warmup-steps", "0", "--batch-size", "4", "--max-gradient-norm", "0")
    model = SimLVMForVisualSentence.from_pretrained(model_folder())
    epoch = SentenceTable(TokenShards.open(str(shards)), (1, 2), 0).epoch(0)
    batch = Collator(model.converter, 16, 8, "targets", "none")([[epoch[place]] for place in range(4)])
    loss = model(**batch.inputs()).loss
    loss.backward()
    assert done.curve() == pytest.approx([loss.item()], rel=1e-6)
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            assert name.startswith("vqgan.")
            continue
        decayed = parameter * (1 - 1e-2 * 0.1) if parameter.ndim > 1 else parameter
        wanted = decayed - 1e-2 * parameter.grad / (parameter.grad.abs() + 1e-8)
        assert torch.allclose(done.weights[name], wanted, atol=2e-5), name
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None))
    assert done.curve("gradient_norm") == pytest.approx([norm], rel=1e-4)


def test_rates_warm_up_and_fall_to_a_share(run):
    done = run("--max-steps", "5", "--warmup-steps", "2", "--final-learning-rate", "0.1")
    shares = [(1 + math.cos(math.pi * part)) / 2 for part in (0, 1 / 3, 2 / 3)]
    cosine = [1e-2 * (0.1 + 0.9 * share) for share in shares]
    assert done.curve("learning_rate") == pytest.approx([0.5e-2, 1e-2, *cosine])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_run_before_it_harms(start, monkeypatch, value):
    forward, calls = trainer.NextToken.forward, []

    def spoiled(self, model, inputs):
        found = forward(self, model, inputs)
        calls.append(None)
        return {**found, "loss": found["loss"] * value} if len(calls) == 3 else found

    monkeypatch.setattr(trainer.NextToken, "forward", spoiled)
    done = start("--checkpoint-every", "1")
    assert done.status == 2 and "The loss of step 3 is" in done.err.splitlines()[-1]
    assert "lower --learning-rate (last checkpoint" in done.err and "step-000002" in done.err
    folder = done.folder / "checkpoints" / "step-000002"
    assert all(tensor.isfinite().all() for tensor in load_file(folder / "model.safetensors").values())
    assert not (done.folder / "model").exists()


def test_the_meters_arithmetic(monkeypatch):
    meter = Meter(10.0, flops=6.0, peak=1200.0)
    now = iter([100.0, 101.0, 200.0, 200.5])
    # the module's own clock: others of this process go on looking at theirs
    monkeypatch.setattr(meters, "time", SimpleNamespace(monotonic=lambda: next(now)))
    for loss, tokens in ((2.0, 300), (4.0, 100)):
        with meter.loading():
            pass
        meter.add({"loss": loss}, tokens)
    kept = meter.state_dict(12.0)
    again = Meter(0.0, 6.0, 1200.0)
    again.load_state_dict(kept, 50.0)  # after an interruption, when 50 seconds had been trained
    for one, seconds in ((meter, 15.0), (again, 53.0)):
        found = one.read(seconds)
        assert found == {"loss": 3.0, "tokens_per_second": 80.0, "loader_share": 0.3, "flops_utilization": 0.4}
    meter.add({"loss": 1.0}, 7)
    assert meter.read(16.0) == {
        "loss": 1.0,
        "tokens_per_second": 7.0,
        "loader_share": 0.0,
        "flops_utilization": pytest.approx(0.035),
    }


def test_frozen_weights_are_not_counted_twice(make_simlvm):
    model = make_simlvm()
    layer = 4 * 16 * 16 + 3 * 16 * 24 + 2 * 16
    weights = layer + 16 + 40 * 16  # a layer, the last norm, the head
    attention = 12 * 1 * 16 * 64
    assert flops_per_token(model, 128) == training_flops(model, 128) == 6 * weights + attention
    model.language_model.requires_grad_(False)
    model.language_model.lm_head.requires_grad_(True)
    assert training_flops(model, 128) == 6 * 40 * 16 + 4 * (weights - 40 * 16) + attention


def test_a_matrix_product_is_timed(monkeypatch):
    monkeypatch.setattr(machine, "SIDE", 64)
    now = iter([0.0, 4.0, 10.0, 12.0, 20.0, 23.0, 30.0, 35.0])
    monkeypatch.setattr(machine, "time", SimpleNamespace(perf_counter=lambda: next(now)))
    assert machine.product_flops(torch.device("cpu"), "no") == 2 * 64**3 / 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--max-pairs", "9"),
            "--max-pairs 9 and the query's pair are 20 images, this model reads 8: make --max-pairs 3",
        ),
        (("--batch-size", "64"), "A step takes 64 rows"),
        (("--min-pairs", "3"), "--min-pairs is 3 and --max-pairs 2"),
        (("--warmup-steps", "4"), "The warm-up takes 4 steps"),
        (("--set", "max_images=2"), "has weights, so --set max_images=2 would not fit them"),
        (("--lora-rank", "2", "--lora-targets", "nothing"), "no layers called nothing (it has down_proj, gate_proj"),
        (("--llama", "nowhere/at-all"), "nowhere/at-all"),
        (("--resume", "nowhere"), "no checkpoint's folder"),
        (("--learning-rates", "1"), "unrecognized arguments"),
    ],
)
def test_mistakes_are_one_line(refused, arguments, said):
    assert said in refused(*arguments)


def test_checkpointing_of_a_gru_is_one_line(refused, model_folder):
    line = refused("--gradient-checkpointing", config=model_folder("visual_gru"))
    assert "--gradient-checkpointing does not go with a visual_gru language model" in line


def test_shards_of_another_vqgan_are_one_line(refused, model_folder):
    line = refused(config=model_folder(vqgan_seed=5))
    assert "tokens of the VQGAN" in line and "scripts/tokenize_dataset.py" in line
