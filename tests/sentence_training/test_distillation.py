"""Divergences against torch.distributions; whose teacher, and that nothing of it moves."""

import pytest
import torch
from torch.distributions import Categorical
from torch.distributions import kl_divergence as divergence_of

from visual_sentence.modeling import SimLVMForVisualSentence
from visual_sentence.sentence_training.batches import Collator
from visual_sentence.sentence_training.objective import Distillation, NextToken, accuracy, kl_divergence


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("reverse", [False, True])
def test_the_divergence_against_distributions(temperature, reverse):
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 7, 11, generator=generator, dtype=torch.float64).mul(3)
    own, other = (Categorical(logits=logits / temperature) for logits in (student, teacher))
    wanted = divergence_of(own, other) if reverse else divergence_of(other, own)
    found = kl_divergence(student, teacher, temperature, reverse)
    assert found.item() == pytest.approx(wanted.mean().item() * temperature**2, rel=1e-5)
    assert kl_divergence(student, student, temperature, reverse).item() == pytest.approx(0, abs=1e-6)


def test_two_places_by_hand():
    student = torch.tensor([[0.5, 0.5], [0.25, 0.75]]).log()
    teacher = torch.tensor([[0.25, 0.75], [0.25, 0.75]]).log()
    # 0.25 ln(0.25 / 0.5) + 0.75 ln(0.75 / 0.5) = 0.130812; the other way ln(2) / 2 - ln(1.5) / 2 = 0.143841
    assert kl_divergence(student, teacher, 1.0, False).item() == pytest.approx(0.130812 / 2, rel=1e-5)
    assert kl_divergence(student, teacher, 1.0, True).item() == pytest.approx(0.143841 / 2, rel=1e-5)


def test_accuracy_by_hand():
    logits = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    labels = torch.tensor([[0, 1, -100], [-100, 0, 0]])  # the first of a row is asked of nothing
    assert accuracy(logits, labels).item() == pytest.approx(2 / 3)


def test_a_batch_that_asks_nothing_is_zero(make_simlvm, sentence):
    model, teacher = make_simlvm(), make_simlvm(seed=1)
    batch = Collator(model.converter, 16, 8, "targets", "none")([[sentence(1)]])
    for objective in (NextToken(), Distillation(teacher)):
        terms = objective(model, batch.inputs())
        assert {name: value.item() for name, value in terms.items()} == dict.fromkeys(terms, 0.0)
        terms["loss"].backward()


def test_terms_are_weighted_and_the_teacher_stands_still(make_simlvm, sentence):
    model, teacher = make_simlvm(seed=1), make_simlvm(text={"hidden_size": 24}, seed=2)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    batch = Collator(model.converter, 16, 8, "targets", "separate")([[sentence(2), sentence(4, 1)]])
    objective = Distillation(teacher, temperature=2.0, teacher_weight=0.7, label_weight=0.2)
    assert not any(parameter.requires_grad for parameter in objective.parameters())
    assert not objective.train().teacher.training
    terms = objective(model, batch.inputs())
    assert terms["label_loss"].item() == pytest.approx(NextToken()(model, batch.inputs())["loss"].item())
    with torch.no_grad():
        logits = [one(**batch.inputs()).logits / 2 for one in (model, teacher)]
    own, other = (Categorical(logits=part) for part in logits)
    assert terms["divergence"].item() == pytest.approx(4 * divergence_of(other, own).mean().item(), rel=1e-4)
    wanted = 0.2 * terms["label_loss"] + 0.7 * terms["divergence"]
    assert terms["loss"].item() == pytest.approx(wanted.item())
    terms["loss"].backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


def test_a_student_comes_nearer_to_its_teacher(run, model_folder):
    teacher = model_folder(text={"hidden_size": 24, "initializer_range": 0.4})
    done = run("--teacher", teacher, "--max-steps", "20", "--label-weight", "0")
    assert set(done.terms[0]) >= {"label_loss", "divergence", "accuracy"}
    assert done.curve("divergence")[-1] < 0.9 * done.curve("divergence")[0]
    assert done.curve("loss") == pytest.approx(done.curve("divergence"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"vqgan_seed": 5}, "holds tokens of the VQGAN"),
        ({"text": {"vocab_size": 44}}, "The teacher's vocab_size is 44, the student's 40"),
        ({"special_token_ids": {"begin": 33}}, "The teacher's special_token_ids is {'begin': 33}, the student's {}"),
        ({"image_token_offset": 3}, "The teacher's image_token_offset is 3, the student's 0"),
        ({"max_images": 4}, "The teacher reads 4 images, the student 8"),
    ],
)
def test_a_teacher_of_other_tokens_is_one_line(refused, model_folder, options, said):
    assert said in refused("--teacher", model_folder(**options))


def test_a_teacher_that_is_none_is_one_line(refused, model_folder, vqgan_folder):
    assert "has no weights, but a teacher" in refused("--teacher", model_folder(weights=False))
    said = refused("--teacher", vqgan_folder())
    assert "describes a 'vqgan', but a teacher is a trained SimLVM" in said


def test_the_teacher_is_not_in_the_model(run, model_folder):
    done = run("--teacher", model_folder(text={"hidden_size": 24}), "--max-steps", "2")
    assert not any("teacher" in name for name in done.weights)
    assert SimLVMForVisualSentence.from_pretrained(done.folder / "model").config.text_config.hidden_size == 16
