"""A run that was stopped goes on as if it had not been: to the last bit, in losses and weights."""

import os
import signal

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from visual_sentence.training.checkpoints import CheckpointFolder

SEVEN = ("--max-steps", "7", "--gradient-accumulation", "2", "--warmup-steps", "2")
KINDS = {
    "table": (),
    "stream": ("--streaming",),
    "packed": ("--packing", "separate", "--loss-on", "everything"),
    "packed stream": ("--packing", "together", "--streaming"),
    "gru": (),
    "muon": ("--optimizer", "muon"),
    "lora": ("--lora-rank", "2"),
    "distillation": ("--teacher",),
}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_by_a_signal_and_resumed(run, model_folder, behind_step, kind):
    arguments, config = (*SEVEN, *KINDS[kind]), model_folder("visual_gru" if kind == "gru" else "llama")
    if kind == "distillation":
        arguments += (model_folder(text={"hidden_size": 24}),)
    whole = run(*arguments, output="whole", config=config)
    assert len(whole.terms) == 7

    behind_step(3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    first = run(*arguments, output="parts", config=config)
    # the signal comes behind a step, so one more is taken before the run looks again
    assert first.report["stopped_by"] == "SIGTERM" and first.report["steps"] == 4
    second = run(*arguments, "--resume", "latest", output="parts", config=config)
    assert second.terms == whole.terms
    assert same(second.weights, whole.weights) and not same(second.weights, first.weights)
    assert second.report["tokens_seen"] == whole.report["tokens_seen"]


def test_a_crash_between_lines_of_the_log_goes_back_to_the_last_checkpoint(run, start, behind_step, tmp_path):
    arguments = (*SEVEN, "--checkpoint-every", "2", "--log-every", "3")
    whole = run(*arguments, output="whole")
    assert [line["step"] for line in whole.terms] == [3, 6, 7]

    def crash() -> None:
        raise ZeroDivisionError

    behind_step(5, crash)
    with pytest.raises(ZeroDivisionError):
        start(*arguments, output="parts")
    left = CheckpointFolder(tmp_path / "parts", 2)
    assert [path.name for path in left.all()] == ["step-000002", "step-000004"]
    again = run(*arguments, "--resume", "latest", output="parts")
    assert again.terms == whole.terms and same(again.weights, whole.weights)
    # only as many as are kept, and nothing half written
    assert {path.name for path in left.folder.iterdir()} == {"step-000006", "step-000007"}


def test_sigint_and_the_time_end_a_run_behind_a_step(start, behind_step):
    behind_step(1, lambda: os.kill(os.getpid(), signal.SIGINT))
    done = start("--max-steps", "50")
    assert done.status == 0 and done.out.startswith("stopped by SIGINT after 2 steps")
    assert "--resume latest continues" in done.out
    done = start("--max-steps", "50", "--max-minutes", "0", output="time")
    assert done.status == 0 and done.out.startswith("time is up after 1 steps")


def test_a_finished_run_that_is_resumed_takes_no_step(run, tmp_path):
    first = run()
    again = run("--resume", "latest")
    assert again.terms == first.terms and same(again.weights, first.weights)
    # even where the log is not at hand
    elsewhere = run("--resume", str(tmp_path / "run/checkpoints/step-000004"), output="elsewhere")
    assert elsewhere.terms == [] and same(elsewhere.weights, first.weights)


def test_a_checkpoint_is_a_model_folder_and_whole_or_absent(start, run, monkeypatch, tmp_path):
    run("--checkpoint-every", "2", "--keep-checkpoints", "5")
    folder = tmp_path / "run/checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["step-000002", "step-000004"]
    loaded = AutoModel.from_pretrained(folder / "step-000002").state_dict()
    kept = load_file(folder / "step-000002/model.safetensors")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in kept.items())

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    done = start("--checkpoint-every", "2", output="full")
    assert done.status == 2 and "The checkpoint of step 2 could not be written" in done.err.splitlines()[-1]
    assert list((tmp_path / "full/checkpoints").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "holds checkpoints of an earlier run"),
        (("--resume", "latest", "--learning-rate", "0.5"), "learning_rate was 0.01 and is now 0.5"),
        (("--resume", "latest", "--max-steps", "9"), "max_steps was 4 and is now 9"),
        (("--resume", "latest", "--packing", "together"), "packing was 'none' and is now 'together'"),
        (("--resume", "latest", "--teacher"), "teacher was None and is now"),
    ],
)
def test_other_settings_are_refused_in_one_line(run, refused, model_folder, arguments, said):
    run()
    assert said in refused(*arguments, *((model_folder(),) if "--teacher" in arguments else ()))


def test_another_model_is_refused(run, refused, model_folder):
    run()
    other = model_folder(text={"rms_norm_eps": 1e-3})  # of the same shapes
    said = refused("--resume", "latest", config=other)
    assert "model.text_config.rms_norm_eps was 1e-06 and is now 0.001" in said


def test_another_base_for_loras_matrices_is_refused(run, refused, model_folder, tmp_path):
    run("--lora-rank", "2", config=model_folder())
    model = run(output="trained")
    said = refused("--lora-rank", "2", "--resume", "latest", config=model.folder / "model")
    assert "base was '" in said


def test_other_shards_are_refused(run, refused, shards):
    run()
    assert "data was [" in refused("--resume", "latest", data=shards / "shard-00000.parquet")


def test_pictures_are_tokenized_once_and_others_are_refused(run, refused, tmp_path):
    data = "denoising:shapes[:12]"
    first = run("--max-pairs", "1", data=data)
    shard = tmp_path / "run/tokens/shard-00000.parquet"
    written = shard.stat()
    again = run("--max-pairs", "1", "--resume", "latest", data=data)
    assert again.terms == first.terms and shard.stat().st_mtime_ns == written.st_mtime_ns
    assert "was begun with another data" in refused("--resume", "latest", data="denoising:shapes[:13]")
    assert "was begun with another augment" in refused("--resume", "latest", "--no-augment", data=data)
    # the shards are as good as any
    assert run("--max-pairs", "1", output="other", data=shard.parent).terms == first.terms


def test_settings_that_do_not_change_the_result_may_change(run):
    run("--checkpoint-every", "1")
    again = run("--resume", "latest", "--log-every", "2", "--max-minutes", "5", "--keep-checkpoints", "1")
    assert again.report["steps"] == 4


def test_a_damaged_checkpoint_is_named(run, refused, tmp_path):
    run()
    path = CheckpointFolder(tmp_path / "run", 1).latest() / "training_state.pt"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert "is not a whole checkpoint" in refused("--resume", "latest")
