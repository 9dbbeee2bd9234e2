"""A run that was stopped goes on as if it had not been."""

import json
import os
import random
import signal

import pytest
import torch

from visual_sentence.errors import UserError
from visual_sentence.training.checkpoints import CheckpointFolder

# Everything with a state at once: two optimizers, two schedules, a moving average, several batches a step.
EVERYTHING = {
    "max_steps": 9,
    "gradient_accumulation": 2,
    "batch_size": 2,
    "warmup_steps": 3,
    "ema_decay": 0.9,
    "adversarial_weight": 0.5,
    "adversarial_start": 2,
    "discriminator_layers": 1,
    "discriminator_width": 4,
    "collapse_window": 2,
    "log_every": 4,
    "unquantized_steps": 3,
}


def send_at(step: int, number: int):
    """A callback that sends a signal to this process behind a step."""

    def callback(done: int, terms: dict) -> None:
        if done == step:
            os.kill(os.getpid(), number)

    return callback


@pytest.mark.parametrize(("streaming", "scaled"), [(False, False), (True, False), (False, True)])
def test_killed_at_a_random_step_and_resumed(run, tmp_path, streaming, scaled, request):
    if scaled:
        request.getfixturevalue("gradient_scaler")
    settings = {**EVERYTHING, "streaming": streaming, "shuffle_block": 5}
    whole = run(output=str(tmp_path / "whole"), **settings)
    assert whole.steps == list(range(1, 10))

    step = random.Random().randint(1, 7)  # any step has to do
    first = run(send_at(step, signal.SIGTERM), output=str(tmp_path / "parts"), **settings)
    # the signal comes behind a step, so one more is taken before the run looks again
    assert first.report.stopped_by == "SIGTERM" and first.steps[-1] == step + 1
    second = run(output=str(tmp_path / "parts"), resume="latest", **settings)

    assert first.steps + second.steps == whole.steps
    assert first.terms + second.terms == whole.terms  # to the last bit
    assert torch.equal(whole.weights(), second.weights())
    averages = (outcome.trainer.state.average.shadow_params for outcome in (whole, second))
    assert all(torch.equal(one, other) for one, other in zip(*averages, strict=True))
    ours, theirs = (outcome.trainer.objective.judge.state_dict() for outcome in (second, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert second.trainer.state.monitor.usage() == whole.trainer.state.monitor.usage()


def test_a_crash_goes_back_to_the_last_checkpoint_and_the_log_forgets_the_rest(run, prepare, tmp_path):
    settings = {**EVERYTHING, "log_every": 1, "checkpoint_every": 3}
    whole = run(output=str(tmp_path / "whole"), **settings)

    def crash(step: int, terms: dict) -> None:
        if step == 5:
            raise ZeroDivisionError

    broken = prepare(crash, output=str(tmp_path / "parts"), **settings)
    with pytest.raises(ZeroDivisionError):
        broken.trainer.train()
    again = run(output=str(tmp_path / "parts"), resume="latest", **settings)
    assert again.steps[0] == 4
    assert again.terms == whole.terms[3:]
    assert torch.equal(whole.weights(), again.weights())
    steps = [json.loads(line)["step"] for line in (tmp_path / "parts/log.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 10))


def test_a_finished_run_that_is_resumed_takes_no_step(run):
    first = run()
    again = run(resume="latest")
    assert again.steps == [] and again.report.steps == 3
    assert torch.equal(first.weights(), again.weights())
    assert again.report.terms == first.report.terms


def test_random_numbers_go_on_where_they_were(run, tmp_path):
    def draw(into: list):
        return lambda step, terms: into.append((random.random(), torch.rand(1).item()))

    whole, parts = [], []
    run(draw(whole), output=str(tmp_path / "whole"), max_steps=4, schedule="constant")
    run(draw(parts), output=str(tmp_path / "parts"), max_steps=2, schedule="constant")
    run(draw(parts), output=str(tmp_path / "parts"), max_steps=4, schedule="constant", resume="latest")
    # what is drawn behind the last step comes before the checkpoint
    assert parts == whole


def test_resume_from_a_named_checkpoint(run, tmp_path):
    whole = run(checkpoint_every=1, keep_checkpoints=9)
    path = tmp_path / "run/checkpoints/step-000001"
    again = run(output=str(tmp_path / "other"), resume=str(path))
    assert again.terms == whole.terms[1:]


def test_latest_of_an_empty_folder_is_the_beginning(run):
    assert run(resume="latest").steps == [1, 2, 3]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"resume": None}, "holds checkpoints of an earlier run"),
        ({"learning_rate": 0.5}, "learning_rate was 0.01 and is now 0.5"),
        ({"max_steps": 6}, "max_steps was 3 and is now 6"),
        ({"model": {"codebook_size": 16}}, "model.codebook_size was 32 and is now 16"),
        ({"resume": "nowhere"}, "no checkpoint's folder"),
    ],
)
def test_other_settings_are_refused_in_one_line(run, prepare, changes, said):
    run()
    with pytest.raises(UserError, match=said) as caught:
        prepare(**{"resume": "latest", **changes})
    assert "\n" not in str(caught.value)


def test_other_data_is_refused(run, prepare, picture_folder):
    run()
    with pytest.raises(UserError, match=r"pictures was \[24\] and is now \[10\]"):
        prepare(resume="latest", data=[f"{picture_folder}[:10]"])


def test_settings_that_do_not_change_the_result_may_change(run):
    run(checkpoint_every=1)
    assert run(resume="latest", log_every=2, num_workers=0, cache_in_memory="never", max_minutes=5.0).report.steps == 3


def test_a_damaged_checkpoint_is_named(run, prepare, tmp_path):
    run()
    path = CheckpointFolder(tmp_path / "run", 1).latest()
    content = (path / "training_state.pt").read_bytes()
    (path / "training_state.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="is not a whole checkpoint"):
        prepare(resume="latest")


def test_sigint_ends_behind_a_step_too(run):
    before = signal.getsignal(signal.SIGINT)  # a shell's background job ignores it
    outcome = run(send_at(1, signal.SIGINT), max_steps=50)
    assert outcome.report.stopped_by == "SIGINT" and outcome.report.steps == 2
    assert signal.getsignal(signal.SIGINT) is before
    assert "--resume latest continues" in outcome.report.summary(outcome.folder)
