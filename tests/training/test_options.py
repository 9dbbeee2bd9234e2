"""Every option of the settings changes what it says, and the command line has each of them."""

import json
import logging
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
import torch
from datasets import Dataset, DatasetDict
from datasets import Image as ImageFeature
from PIL import Image
from transformers import AutoModel

from visual_sentence.errors import UserError
from visual_sentence.training import PRESETS, TrainingConfig
from visual_sentence.training.command import parse_options, train_from_command_line, training_parser

ADVERSARIAL = {"adversarial_weight": 0.5, "discriminator_layers": 1, "discriminator_width": 4}


def losses(outcome) -> list:
    return outcome.curve("loss")


def first_loss(outcome) -> float:
    return outcome.curve("reconstruction_loss")[0]


def steps(outcome) -> int:
    return outcome.report.steps


def weights(outcome) -> list:
    return outcome.weights().tolist()


def saved_weights(outcome) -> list:
    model = AutoModel.from_pretrained(outcome.folder / "model")
    return torch.cat([parameter.detach().flatten() for parameter in model.trainable_parameters()]).tolist()


def rates(outcome) -> list:
    return [json.loads(line)["learning_rate"] for line in (outcome.folder / "log.jsonl").read_text().splitlines()]


def logged_steps(outcome) -> list:
    return [json.loads(line)["step"] for line in (outcome.folder / "log.jsonl").read_text().splitlines()]


def logged_usage(outcome) -> list:
    return [json.loads(line)["codebook_usage"] for line in (outcome.folder / "log.jsonl").read_text().splitlines()]


def files(pattern: str) -> Callable:
    return lambda outcome: sorted(path.name for path in outcome.folder.glob(pattern))


def sample_width(outcome) -> int:
    return Image.open(next(outcome.folder.glob("samples/*.png"))).width


def judge_shapes(outcome) -> list:
    return [tuple(parameter.shape) for parameter in outcome.trainer.objective.judge.parameters()]


def judge_kinds(outcome) -> set:
    return {type(module).__name__ for module in outcome.trainer.objective.judge.modules()}


def judge_losses(outcome) -> list:
    return [terms.get("discriminator_loss") for terms in outcome.terms]


def adversarial(outcome) -> list:
    return [terms.get("adversarial_scale") for terms in outcome.terms]


def is_compiled(outcome) -> bool:
    return outcome.trainer.model._compiled_call_impl is not None


def is_channels_last(outcome) -> bool:
    return outcome.trainer.model.last_layer.is_contiguous(memory_format=torch.channels_last)


def is_cached(outcome) -> bool:
    return outcome.trainer.feeder.table.is_cached


def workers(outcome) -> int:
    return outcome.trainer.feeder._loader(0, None).num_workers


def perceptual(outcome) -> Any:
    return outcome.report.perceptual


def warned(outcome) -> bool:
    return outcome.trainer.state.monitor.has_warned


# field -> (its value in one run, in the other, what has to differ, what both runs have besides)
CHANGES: dict[str, tuple[Any, Any, Callable, dict]] = {
    "data": (["{folder}[:12]"], ["{folder}[12:]"], first_loss, {}),
    "output": ("{tmp}/one", "{tmp}/other", lambda outcome: outcome.trainer.checkpoints.latest(), {}),
    "resume": (None, "{done}", lambda outcome: outcome.steps, {}),
    "split": ("train", "other", first_loss, {"data": ["{saved}"]}),
    "column": ("first", "second", first_loss, {"data": ["{saved}"]}),
    "streaming": (False, True, lambda outcome: outcome.trainer.feeder.steps_per_epoch, {}),
    "shuffle_block": (4, 24, first_loss, {"streaming": True}),
    "skip_bad": (True, False, steps, {"data": ["{damaged}"]}),
    "cache_in_memory": ("always", "never", is_cached, {}),
    "num_workers": (0, 2, workers, {}),
    "random_crop": (True, False, first_loss, {"random_flip": False}),
    "crop_scale": (1.0, 0.7, first_loss, {"random_flip": False, "random_crop": False}),
    "random_flip": (True, False, first_loss, {"random_crop": False}),
    "seed": (0, 1, first_loss, {}),
    "batch_size": (4, 5, first_loss, {}),
    "gradient_accumulation": (1, 2, first_loss, {}),
    "max_steps": (3, 4, steps, {}),
    "epochs": (0.5, 1.0, steps, {"max_steps": None}),
    "max_minutes": (None, 1e-6, steps, {}),
    "unquantized_steps": (0, 2, losses, {}),
    "optimizer": ("adam", "adamw", weights, {"weight_decay": 0.1}),
    "learning_rate": (1e-2, 1e-3, weights, {}),
    "discriminator_learning_rate": (None, 1e-1, judge_losses, ADVERSARIAL),
    "adam_beta1": (0.9, 0.5, weights, {}),
    "adam_beta2": (0.99, 0.9, weights, {}),
    "adam_epsilon": (1e-8, 1e-2, weights, {}),
    "weight_decay": (0.0, 0.1, weights, {}),
    "schedule": ("cosine", "constant", rates, {}),
    "warmup_steps": (None, 2, rates, {}),
    "warmup_epochs": (None, 0.34, rates, {}),
    "max_gradient_norm": (0.0, 1e-3, weights, {"adam_epsilon": 1e-2}),
    "mixed_precision": ("no", "bf16", losses, {}),
    "ema_decay": (0.0, 0.9, saved_weights, {}),
    "compile": (False, True, is_compiled, {"only_prepare": True}),
    "channels_last": (True, False, is_channels_last, {}),
    "perceptual_weight": (0.0, 1.0, losses, {}),
    "perceptual": ("lpips", "offline-tower", perceptual, {"perceptual_weight": 1.0}),
    "adversarial_weight": (0.0, 0.5, adversarial, {"discriminator_layers": 1}),
    "adversarial_adaptive": (True, False, adversarial, ADVERSARIAL),
    "adversarial_start": (0, 2, adversarial, ADVERSARIAL),
    "discriminator_width": (4, 8, judge_shapes, {**ADVERSARIAL, "only_prepare": True}),
    "discriminator_layers": (1, 2, judge_shapes, {**ADVERSARIAL, "only_prepare": True}),
    "discriminator_norm": ("batch", "group", judge_kinds, {**ADVERSARIAL, "only_prepare": True}),
    "checkpoint_every": (0, 2, files("checkpoints/*"), {}),
    "keep_checkpoints": (1, 2, files("checkpoints/*"), {"checkpoint_every": 1}),
    "sample_every": (0, 2, files("samples/*"), {}),
    "num_samples": (2, 3, sample_width, {"sample_every": 3}),
    "log_every": (1, 2, logged_steps, {}),
    "tracker": ("none", "tensorboard", files("*/events*"), {}),
    "collapse_threshold": (0.0, 0.99, warned, {"collapse_window": 1}),
    "collapse_window": (1, 3, logged_usage, {"log_every": 3}),
}


def test_no_option_is_forgotten():
    assert set(CHANGES) == {entry.name for entry in fields(TrainingConfig)}


class FakePerceptual(torch.nn.Module):
    """Stands for the real measures, whose weights need not be there."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def forward(self, images: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        return (images - references).square().mean()


@pytest.fixture
def places(picture_folder, damaged_folder, tmp_path, run):
    """Fills in the paths in a value."""
    paths = sorted(str(path) for path in picture_folder.iterdir())
    table = Dataset.from_dict({"first": paths[:12], "second": paths[12:]})
    table = table.cast_column("first", ImageFeature()).cast_column("second", ImageFeature())
    saved = DatasetDict({"train": table, "other": table.select(range(11, -1, -1))})
    names = {"folder": picture_folder, "damaged": damaged_folder, "tmp": tmp_path, "saved": tmp_path / "saved"}

    def fill(value: Any) -> Any:
        if isinstance(value, list):
            return [fill(one) for one in value]
        if not isinstance(value, str):
            return value
        if "{saved}" in value and not names["saved"].exists():
            saved.save_to_disk(str(names["saved"]))
        if "{done}" in value:
            return str(run(output=str(tmp_path / "done")).trainer.checkpoints.latest())
        return value.format(**names)

    return fill


@pytest.mark.parametrize("name", CHANGES)
def test_the_option_changes_what_it_says(name, places, prepare, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "visual_sentence.training.objective.load_perceptual_loss",
        lambda kind, device: None if kind == "none" else FakePerceptual(kind),
    )
    one, other, observe, common = CHANGES[name]
    common = {key: places(value) for key, value in common.items()}
    only_prepare = common.pop("only_prepare", False)
    seen = []
    for number, value in enumerate((one, other)):
        settings = {"output": str(tmp_path / f"run{number}"), **common, name: places(value)}
        try:
            outcome = prepare(**settings)
            outcome.report = None if only_prepare else outcome.trainer.train()
            seen.append(observe(outcome))
        except UserError as error:
            seen.append(str(error))
    assert seen[0] != seen[1]
    if name != "skip_bad":
        assert not any(isinstance(found, str) and "\n" not in found and ":" in found for found in seen), seen


# ------------------------------------------------------------------------------------------------ the command line


def parse(*arguments: str) -> TrainingConfig:
    return parse_options(training_parser("text"), ["--config", "c", *arguments])[1]


def test_every_option_is_on_the_command_line_with_its_sentence():
    text = " ".join(training_parser("text").format_help().split())
    for entry in fields(TrainingConfig):
        option = "--" + entry.name.replace("_", "-")
        assert f"{option} " in text or f"{option}," in text
        assert " ".join(entry.metadata["help"].split())[:30].rstrip(".") in text


def test_options_of_every_kind():
    config = parse(
        *("--data", "a", "b", "--data", "c", "--output", "o", "--max-steps", "5", "--learning-rate", "1e-3"),
        *("--no-random-flip", "--streaming", "--optimizer", "adam", "--column", "picture"),
    )
    assert config.data == ["a", "b", "c"] and config.max_steps == 5 and config.learning_rate == 1e-3
    assert not config.random_flip and config.streaming and config.random_crop
    assert config.optimizer == "adam" and config.column == "picture"


def test_preset_default_and_given_on_the_command_line():
    common = ("--data", "a", "--output", "o")
    config = parse(*common, "--preset", "paper", "--batch-size", "2", "--max-steps", "9", "--warmup-steps", "1")
    assert (config.batch_size, config.learning_rate, config.epochs, config.max_steps) == (2, 5e-4, None, 9)
    # a value that happens to be the default is given all the same
    default = TrainingConfig(data=["a"], output="o", max_steps=1).learning_rate
    assert parse(*common, "--preset", "paper", "--learning-rate", str(default)).learning_rate == default
    assert PRESETS["paper"].training["learning_rate"] != default


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nonsense", "1"], "unrecognized arguments: --nonsense 1"),
        (["--max-steps", "many"], "argument --max-steps: invalid int value: 'many'"),
        (["--optimizer", "sgd"], "invalid choice: 'sgd'"),
        (["--preset", "huge"], "invalid choice: 'huge'"),
        (["--lear", "1"], "unrecognized arguments"),
        (["--max-steps", "3", "--epochs", "2"], "say the same in two ways"),
        (["--max-steps", "3"], "is the configuration of"),
        (["--data", "./nowhere"], "Nothing says when to stop"),
        (["--data", "./nowhere.parquet", "--max-steps", "3"], "no such file"),
    ],
)
def test_mistakes_are_one_line_and_status_2(arguments, said, picture_folder, tmp_path, capsys, v2l_folder):
    from visual_sentence.training.models import load_vqgan

    capsys.readouterr()  # what the fixtures wrote
    base = ["--config", str(v2l_folder), "--output", str(tmp_path / "out")]
    if "--data" not in arguments:
        base += ["--data", str(picture_folder)]
    parser = training_parser("text")
    load = lambda options, config: load_vqgan(options.config, options.preset, options.assignments)  # noqa: E731
    assert train_from_command_line(parser, load, [*base, *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert printed.err.startswith("error: ") and said in printed.err


def test_control_c_before_the_first_step(capsys, picture_folder, tmp_path):
    def load(options, config):
        raise KeyboardInterrupt

    arguments = ["--config", "c", "--data", str(picture_folder), "--output", str(tmp_path / "out"), "--max-steps", "3"]
    assert train_from_command_line(training_parser("text"), load, arguments) == 130
    assert capsys.readouterr().err == "stopped\n"


def test_a_missing_tracker_is_told(prepare, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="--tracker wandb needs the package wandb"):
        prepare(tracker="wandb")


def test_fp16_needs_a_gpu(prepare):
    if torch.cuda.is_available():
        pytest.skip("has one")
    with pytest.raises(UserError, match="--mixed-precision fp16 needs a GPU, this runs on cpu"):
        prepare(mixed_precision="fp16")


def test_a_precision_that_the_machine_does_not_have(prepare, monkeypatch):
    def refuse(**settings) -> None:
        raise ValueError("fp16 mixed precision requires a GPU")

    monkeypatch.setattr("visual_sentence.training.preparation.Accelerator", refuse)
    with pytest.raises(UserError, match="--mixed-precision fp16 does not work on this machine: fp16 mixed"):
        prepare(mixed_precision="fp16")


def test_warmup_of_the_whole_run(prepare):
    with pytest.raises(UserError, match="The warm-up takes 3 steps and the whole run 3"):
        prepare(warmup_steps=3)


def test_epochs_of_a_stream(prepare):
    with pytest.raises(UserError, match="The length of a stream is not known"):
        prepare(streaming=True, epochs=1.0)


def test_quiet(caplog, run):
    caplog.set_level(logging.WARNING)
    run()
    assert [record.getMessage() for record in caplog.records if record.name.startswith("visual_sentence")] == []
