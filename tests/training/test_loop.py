"""The loop: gradients, averages, and everything that may end a run."""

import errno
import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

from visual_sentence.errors import UserError
from visual_sentence.modeling import VQGANModel

ADVERSARIAL = {"adversarial_weight": 0.5, "discriminator_layers": 1, "discriminator_width": 4}


def first_gradients(prepare, **settings) -> list[torch.Tensor]:
    """The gradients of the first step, model's then discriminator's, as they were before the update."""
    outcome = prepare(**settings)
    found: list[torch.Tensor] = []
    stepper = outcome.trainer.stepper
    update = stepper._update

    def note(active) -> None:
        found.extend(p.grad.clone() for one in active for group in one.param_groups for p in group["params"])
        update(active)

    stepper._update = note
    outcome.trainer.train()
    return found


@pytest.mark.parametrize("norm", ["group", "none"])
def test_accumulated_gradients_are_those_of_the_large_batch(prepare, tmp_path, norm):
    # an adaptive weight is a ratio of each batch's own gradients, so it is left out
    common = {**ADVERSARIAL, "adversarial_adaptive": False, "discriminator_norm": norm, "max_steps": 1}
    whole = first_gradients(prepare, batch_size=6, output=str(tmp_path / "whole"), **common)
    parts = first_gradients(prepare, batch_size=2, gradient_accumulation=3, output=str(tmp_path / "parts"), **common)
    assert len(whole) == len(parts) > 20
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    assert max(one.abs().max() for one in whole) > 1e-2


def test_the_first_steps_gradient_is_that_of_the_models_own_loss(prepare, picture_folder):
    outcome = prepare(max_steps=1)
    (batch,) = next(outcome.trainer.feeder.steps())
    model = outcome.trainer.model
    images = batch["pixels"].permute(0, 3, 1, 2).float() / 127.5 - 1
    assert (images.min(), images.max()) >= (-1, 0)
    output = model(images)
    weights = (model.config.codebook_loss_weight, model.config.commitment_loss_weight)
    assert weights == (1.0, 0.25)
    expected = torch.nn.functional.l1_loss(output.pixel_values, images) + 1.25 * output.codebook_loss.detach()
    outcome.trainer.train()
    assert outcome.curve("loss")[0] == pytest.approx(expected.item(), rel=1e-5)
    assert outcome.curve("reconstruction_loss")[0] == pytest.approx(output.reconstruction_loss.item(), rel=1e-5)


def test_learning_lowers_the_loss(run):
    curve = run(max_steps=40, batch_size=8).curve("reconstruction_loss")
    assert np.mean(curve[-5:]) < 0.85 * np.mean(curve[:5])


def test_clipping_scales_the_gradient_to_its_norm(prepare):
    outcome = prepare(max_steps=1, max_gradient_norm=0.01)
    stepper, norms = outcome.trainer.stepper, []
    update = stepper._update

    def note(active) -> None:
        grads = [p.grad.flatten() for p in outcome.trainer.model.trainable_parameters()]
        norms.append(torch.cat(grads).norm().item())
        update(active)

    stepper._update = note
    outcome.trainer.train()
    assert norms == [pytest.approx(0.01, rel=1e-3)]
    assert outcome.curve("gradient_norm")[0] > 0.1  # what it was before


def test_mixed_precision_trains_like_full_precision(run, tmp_path):
    common = {**ADVERSARIAL, "max_gradient_norm": 1.0, "max_steps": 6}
    full = run(output=str(tmp_path / "full"), **common)
    mixed = run(output=str(tmp_path / "mixed"), mixed_precision="bf16", **common)
    for name in ("loss", "discriminator_loss", "gradient_norm", "discriminator_gradient_norm"):
        assert mixed.curve(name)[0] == pytest.approx(full.curve(name)[0], rel=0.05)
    assert mixed.curve("reconstruction_loss") == pytest.approx(full.curve("reconstruction_loss"), rel=0.1)
    assert mixed.weights().dtype == torch.float32


def test_scaled_gradients_move_the_weights_as_plain_ones(run, tmp_path, request):
    common = {**ADVERSARIAL, "max_gradient_norm": 1.0, "max_steps": 5, "adam_epsilon": 1e-2}
    plain = run(output=str(tmp_path / "plain"), **common)
    request.getfixturevalue("gradient_scaler")
    scaled = run(output=str(tmp_path / "scaled"), **common)
    assert scaled.trainer.accelerator.scaler.get_scale() == 2.0**10  # has grown twice
    for name in plain.terms[0]:
        assert scaled.curve(name) == pytest.approx(plain.curve(name), rel=1e-3), name
    assert torch.allclose(plain.weights(), scaled.weights(), atol=1e-4)


def test_an_overflow_of_scaled_gradients_leaves_the_step_out(prepare, gradient_scaler):
    outcome = prepare(max_steps=1)
    outcome.trainer.model.last_layer.register_hook(lambda gradient: gradient / 0)
    before = outcome.weights().clone()
    outcome.trainer.train()
    assert torch.equal(outcome.weights(), before)
    assert outcome.trainer.accelerator.scaler.get_scale() == 2.0**7


# ------------------------------------------------------------------------------------------------ unquantized steps


def test_unquantized_steps_then_the_codes_are_moved_to_the_latents(prepare, tmp_path):
    codebooks, usages = {}, {}

    def note(step: int, terms: dict) -> None:
        codebooks[step] = outcome.trainer.model.quantizer.codebook.detach().clone()
        usages[step] = outcome.trainer.state.monitor.usage()

    outcome = prepare(note, max_steps=4, unquantized_steps=2, ema_decay=0.9, learning_rate=1e-4)
    start = outcome.trainer.model.quantizer.codebook.detach().clone()
    outcome.trainer.train()
    first = outcome.terms[0]
    assert first["loss"] == pytest.approx(first["reconstruction_loss"], rel=1e-6)  # and nothing of the codes
    assert torch.equal(codebooks[1], start) and torch.equal(codebooks[2], start)
    assert usages[2] == 0 and usages[3] > 0
    third = outcome.terms[2]
    expected = third["reconstruction_loss"] + third["codebook_loss"] + 0.25 * third["commitment_loss"]
    assert third["loss"] == pytest.approx(expected, rel=1e-5)
    # the codes lie among the latents now, far from where they began
    assert third["codebook_loss"] < 0.5 * outcome.terms[1]["codebook_loss"]
    assert third["codebook_perplexity"] > outcome.terms[1]["codebook_perplexity"]
    place = [id(one) for one in outcome.trainer.model.trainable_parameters()].index(
        id(outcome.trainer.model.quantizer.codebook)
    )
    averaged = outcome.trainer.state.average.shadow_params[place]
    assert torch.allclose(averaged, codebooks[4], atol=1e-2)  # the average forgets where they began


def test_nothing_but_unquantized_steps(prepare):
    with pytest.raises(UserError, match="--unquantized-steps is 3 and the whole run 3 steps"):
        prepare(unquantized_steps=3)


# ------------------------------------------------------------------------------------------------------ adversarial


def test_discriminator_begins_at_its_step_and_not_before(run):
    outcome = run(**ADVERSARIAL, adversarial_start=2, max_steps=4)
    has = [("adversarial_loss" in terms, "discriminator_loss" in terms) for terms in outcome.terms]
    assert has == [(False, False), (False, False), (True, True), (True, True)]


def test_discriminator_is_untouched_before_its_step_and_trained_after(run, prepare, tmp_path):
    state = {}

    def note(step: int, terms: dict) -> None:
        weights = outcome.trainer.objective.judge.discriminator.state_dict()
        state[step] = torch.cat([tensor.flatten().float().clone() for tensor in weights.values()])

    outcome = prepare(note, **ADVERSARIAL, adversarial_start=2, max_steps=3)
    outcome.trainer.train()
    assert torch.equal(state[1], state[2]) and not torch.equal(state[2], state[3])


def test_the_models_step_leaves_no_gradient_in_the_discriminator(prepare):
    outcome = prepare(**ADVERSARIAL)
    objective = outcome.trainer.objective
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    loss, _ = objective.generator(outcome.trainer.model(images), images, step=0)
    loss.backward()
    assert all(parameter.grad is None for parameter in objective.judge.parameters())
    assert all(parameter.requires_grad for parameter in objective.judge.parameters())
    # hinge loss as the definition has it
    real, fake = objective.judge(images, images.flip(0))
    value, _ = objective.discriminator(objective.judge, images, images.flip(0))
    expected = (torch.relu(1 - real).mean() + torch.relu(1 + fake).mean()) / 2
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)


def test_total_loss_is_the_weighted_sum_of_its_terms(prepare, monkeypatch):
    class Distance(torch.nn.Module):
        name = "fake"

        def forward(self, images, references):
            return (images - references).square().mean()

    monkeypatch.setattr("visual_sentence.training.objective.load_perceptual_loss", lambda kind, device: Distance())
    outcome = prepare(**ADVERSARIAL, perceptual_weight=3.0)
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    loss, terms = outcome.trainer.objective.generator(outcome.trainer.model(images), images, step=0)
    expected = (
        terms["reconstruction_loss"]
        + 1.0 * terms["codebook_loss"]
        + 0.25 * terms["commitment_loss"]
        + 3.0 * terms["perceptual_loss"]
        + 0.5 * terms["adversarial_scale"] * terms["adversarial_loss"]
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5) == terms["loss"].item()
    assert outcome.trainer.objective.perceptual_name == "fake"


def test_an_image_too_small_for_the_discriminator(prepare):
    with pytest.raises(UserError, match="16 pixels a side, the discriminator needs 24"):
        prepare(adversarial_weight=0.5, discriminator_layers=3)


# --------------------------------------------------------------------------------------------------- moving average


def test_the_saved_model_is_the_moving_average(prepare):
    history = []

    def note(step: int, terms: dict) -> None:
        history.append(outcome.weights().clone())

    outcome = prepare(note, ema_decay=0.5, max_steps=4)
    outcome.trainer.train()
    # diffusers: decay min(0.5, 1 - (1 + n) ** -0.75) for update n, the first of which copies
    average = history[0]
    for place, weights in enumerate(history[1:], start=1):
        decay = min(0.5, 1 - (1 + place) ** -0.75)
        average = decay * average + (1 - decay) * weights
    saved = AutoModel.from_pretrained(outcome.folder / "model")
    found = torch.cat([parameter.detach().flatten() for parameter in saved.trainable_parameters()])
    assert torch.allclose(found, average, atol=1e-6)
    assert not torch.allclose(found, history[-1], atol=1e-3)
    assert torch.equal(outcome.weights(), history[-1])  # and the run has its own weights back


def test_the_result_loads(run):
    outcome = run()
    model = AutoModel.from_pretrained(outcome.folder / "model")
    processor = AutoImageProcessor.from_pretrained(outcome.folder / "model")
    assert isinstance(model, VQGANModel) and processor.local_size == 16
    assert torch.equal(torch.cat([p.detach().flatten() for p in model.trainable_parameters()]), outcome.weights())
    # a checkpoint is a model folder as well
    AutoModel.from_pretrained(outcome.folder / "checkpoints/step-000003")


# -------------------------------------------------------------------------------------------------- ends of a run


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["reconstruction_loss", "commitment_loss", "adversarial_loss"])
def test_a_term_that_is_not_finite_stops_the_run_before_the_weights_move(prepare, monkeypatch, name, value):
    outcome = prepare(checkpoint_every=1, max_steps=5, **ADVERSARIAL)
    objective, plain = outcome.trainer.objective, outcome.trainer.objective.generator

    def spoil(output, pixel_values, step, scale):
        loss, terms = plain(output, pixel_values, step, scale)
        return (loss * value, {**terms, name: torch.tensor(value)}) if step == 2 else (loss, terms)

    monkeypatch.setattr(objective, "generator", spoil)
    with pytest.raises(UserError) as caught:
        outcome.trainer.train()
    text = str(caught.value)
    assert text.startswith(f"Step 3: {name} is {value}") and "step-000002" in text and "\n" not in text
    assert torch.isfinite(outcome.weights()).all()
    assert outcome.trainer.checkpoints.latest().name == "step-000002"


def test_a_gradient_that_is_not_finite_stops_the_run(prepare):
    outcome = prepare(max_steps=5)
    parameter = outcome.trainer.model.last_layer
    parameter.register_hook(lambda gradient: gradient / 0)
    before = outcome.weights().clone()
    with pytest.raises(UserError, match=r"^Step 1: gradient_norm is (nan|inf).*none was written yet"):
        outcome.trainer.train()
    assert torch.equal(outcome.weights(), before)


def test_latents_that_are_not_finite_stop_the_run(prepare):
    outcome = prepare()
    with torch.no_grad():
        outcome.trainer.model.quant_conv.bias[0] = float("nan")
    with pytest.raises(UserError, match=r"^Step 1: The latents are not finite"):
        outcome.trainer.train()


def test_time_ends_a_run_without_a_last_step(run):
    outcome = run(max_steps=None, max_minutes=1e-6, schedule="constant")
    assert outcome.report.stopped_by == "time" and outcome.report.steps == 1
    assert (outcome.folder / "model/model.safetensors").exists()
    # time counts from the beginning, whatever was resumed
    again = run(max_steps=None, max_minutes=1e-6, schedule="constant", resume="latest")
    assert again.report.steps == 2 and again.report.seconds > outcome.report.seconds


def test_a_full_disk_while_logging_is_told_in_one_line(prepare, monkeypatch):
    outcome = prepare()

    def full(*arguments) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("visual_sentence.training.tracking.RunLog.record", full)
    with pytest.raises(UserError, match=r"The disk is full .*No space left"):
        outcome.trainer.train()


# ------------------------------------------------------------------------------------------------- what a run says


def test_log_report_and_samples(run, caplog):
    caplog.set_level(logging.INFO)
    outcome = run(max_steps=4, log_every=2, sample_every=2, num_samples=3, ema_decay=0.9)
    lines = [json.loads(line) for line in (outcome.folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]
    assert lines[0]["loss"] == pytest.approx(np.mean(outcome.curve("loss")[:2]))
    assert lines[1]["codebook_loss"] == pytest.approx(np.mean(outcome.curve("codebook_loss")[2:]))
    assert lines[1]["epoch"] == pytest.approx(4 / 6) and lines[1]["images_per_second"] > 0

    pictures = sorted((outcome.folder / "samples").iterdir())
    assert [path.name for path in pictures] == ["step-000002.png", "step-000004.png"]
    assert Image.open(pictures[0]).size == (3 * 16 + 2 * 2, 2 * 16 + 2)
    first, second = (np.asarray(Image.open(path)) for path in pictures)
    assert np.array_equal(first[:16], second[:16]) and not np.array_equal(first[18:], second[18:])

    report = json.loads((outcome.folder / "training.json").read_text())
    assert report["steps"] == 4 and report["images_seen"] == 16 and report["stopped_by"] == "steps"
    assert report["data"] == [{"name": outcome.trainer.source.names[0], "count": 24}]
    assert report["perceptual"] is None and report["config"]["ema_decay"] == 0.9
    assert report["terms"]["loss"] == lines[1]["loss"]
    assert report["peak_memory_bytes"]["resident"] > 2**20
    assert report["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert report["trainable_parameters"] == len(outcome.weights())

    said = "\n".join(caplog.messages)
    assert "first batch: pixel_values (4, 3, 16, 16) float32 in [-1.000, " in said
    assert "tokens (4, 8, 8) in [" in said and "of 32" in said
    assert outcome.report.summary(outcome.folder).count("\n") == 0


def test_a_collapsing_codebook_is_told_once(prepare, caplog):
    outcome = prepare(max_steps=8, collapse_window=2, collapse_threshold=0.5)
    with torch.no_grad():  # all latents lie at the same place
        outcome.trainer.model.quant_conv.weight.zero_()
        outcome.trainer.model.quant_conv.bias.zero_()
    outcome.trainer.model.quant_conv.requires_grad_(False)
    outcome.trainer.train()
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    (line,) = [line for line in warnings if "codebook" in line]
    assert line.startswith("step 2: codebook use fell to 3.1% (below 50.0%)") and "\n" not in line
