"""Settings: the presets' values, who overrides whom, and what makes no sense."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from visual_sentence.errors import UserError
from visual_sentence.training import PRESETS, TrainingConfig, make_training_config
from visual_sentence.training.config import HELP
from visual_sentence.training.schedule import Schedule

NEEDED = {"data": ["pictures"], "output": "out"}


def test_the_papers_values():
    # V2L Tokenizer, sections 3.2 ("lambda 1 = 1.0 and lambda 2 = 0.1", beta 0.3, L2) and 4.1
    preset = PRESETS["paper"]
    config = make_training_config("paper", NEEDED)
    assert (config.optimizer, config.learning_rate) == ("adam", 5e-4)
    assert (config.epochs, config.warmup_epochs, config.schedule) == (100, 5, "cosine")
    assert (config.perceptual_weight, config.adversarial_weight) == (1.0, 0.1)
    assert not config.adversarial_adaptive
    assert preset.model == {
        "reconstruction_loss": "l2",
        "codebook_loss_weight": 1.0,
        "commitment_loss_weight": 0.3,
        "cross_attention": "paper",
    }


def test_the_published_codes_values():
    # Run.sh, step4_training_v2l_tokenizer.py, models/models_v2l.py at commit 80e50ac
    preset = PRESETS["published-code"]
    config = make_training_config("published-code", NEEDED)
    assert (config.optimizer, config.learning_rate, config.weight_decay) == ("adam", 4.5e-4, 0.0)
    assert (config.adam_beta1, config.adam_beta2, config.adam_epsilon) == (0.5, 0.9, 1e-7)
    assert (config.epochs, config.warmup_epochs, config.schedule, config.batch_size) == (100, 5, "cosine", 8)
    assert (config.perceptual_weight, config.adversarial_weight, config.adversarial_start) == (0.1, 0.75, 10_000)
    assert config.adversarial_adaptive
    assert (config.discriminator_layers, config.discriminator_width, config.norm) == (2, 64, "batch")
    assert not config.random_crop and not config.random_flip and config.mixed_precision == "no"
    # the small weight stands on the codebook's term there
    assert preset.model == {
        "reconstruction_loss": "l1",
        "codebook_loss_weight": 0.33,
        "commitment_loss_weight": 1.0,
        "cross_attention": "published-code",
    }


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_whole_and_name_fields_that_exist(name):
    known = {entry.name for entry in fields(TrainingConfig)}
    assert set(PRESETS[name].training) <= known
    assert make_training_config(name, NEEDED).learning_rate > 0


def test_what_is_given_goes_before_the_preset():
    config = make_training_config("paper", {**NEEDED, "learning_rate": 1.0, "max_steps": 7, "warmup_steps": 2})
    assert config.learning_rate == 1.0 and config.adversarial_weight == 0.1
    # steps are given, so the preset's epochs go
    assert (config.max_steps, config.epochs) == (7, None)
    assert (config.warmup_steps, config.warmup_epochs) == (2, None)
    assert (
        make_training_config(None, {**NEEDED, "max_steps": 7}).learning_rate
        == TrainingConfig(**NEEDED, max_steps=1).learning_rate
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_steps": 3, "epochs": 1.0}, "--max-steps and --epochs say the same"),
        ({"max_steps": 3, "warmup_steps": 1, "warmup_epochs": 1.0}, "--warmup-steps and --warmup-epochs"),
        ({}, "Nothing says when to stop"),
        ({"max_minutes": 1.0}, "cosine schedule has to know the last step"),
        ({"max_steps": 0}, "--max-steps is 0, but has to be above 0"),
        ({"max_steps": 3, "batch_size": 0}, "--batch-size is 0, but has to be at least 1"),
        ({"max_steps": 3, "learning_rate": -1.0}, "--learning-rate is -1.0"),
        ({"max_steps": 3, "learning_rate": float("nan")}, "--learning-rate is nan"),
        ({"max_steps": 3, "weight_decay": -0.1}, "--weight-decay is -0.1, but must not be below 0"),
        ({"max_steps": 3, "ema_decay": 1.0}, r"--ema-decay is 1.0, but has to lie in \[0, 1\)"),
        ({"max_steps": 3, "crop_scale": 0.0}, "--crop-scale is 0.0"),
        ({"max_steps": 3, "optimizer": "sgd"}, "--optimizer is 'sgd': choose one of adam, adamw"),
        ({"max_steps": 3, "data": []}, "There is no data"),
        ({"max_steps": 3, "output": ""}, "no place to write to"),
    ],
)
def test_settings_that_make_no_sense(settings, said):
    with pytest.raises(UserError, match=said) as caught:
        TrainingConfig(**{**NEEDED, **settings})
    assert "\n" not in str(caught.value)


def test_the_documents_table_says_what_the_presets_do():
    text = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    header, *rows = [
        line for line in text.split("### Presets")[1].split("Sources:")[0].splitlines() if line.startswith("|")
    ]
    columns = [name.strip(" `") for name in header.strip("|").split("|")[1:]]
    table = {}
    for row in rows[1:]:
        name, *cells = (cell.strip(" `") for cell in row.strip("|").split("|"))
        table[name] = dict(zip(columns, cells, strict=True))
    assert set(columns) == set(PRESETS)
    for preset in columns:
        config = make_training_config(preset, NEEDED)
        rate = float(re.search(r"[\d.]+e-\d", table["optimizer"][preset])[0])
        assert table["optimizer"][preset].lower().startswith(config.optimizer) and rate == config.learning_rate
        betas = [float(value) for value in re.findall(r"[\d.]+(?:e-\d)?", table["betas, epsilon"][preset])]
        assert betas == [config.adam_beta1, config.adam_beta2, config.adam_epsilon]
        numbers = re.findall(r"[\d,.]*\d", table["epochs, warm-up"][preset])
        assert [float(number) for number in numbers] == [config.epochs, config.warmup_epochs or config.warmup_steps]
        assert int(re.match(r"\d+", table["batch per process"][preset])[0]) == config.batch_size
        assert float(table["perceptual weight"][preset]) == config.perceptual_weight
        weight, *adaptive = table["adversarial weight"][preset].split(", ")
        assert float(weight) == config.adversarial_weight
        if config.adversarial_weight:
            assert (adaptive == ["adaptive"]) == config.adversarial_adaptive
            start = re.match(r"[\d,]+", table["adversarial start"][preset])[0]
            assert int(start.replace(",", "")) == config.adversarial_start
        assert (table["crops, flips"][preset] == "both") == (config.random_crop and config.random_flip)
        for field in ("reconstruction_loss", "codebook_loss_weight", "commitment_loss_weight"):
            assert table[field][preset] == str(PRESETS[preset].model.get(field, "the config's"))


def test_an_unknown_preset():
    with pytest.raises(UserError, match="no preset 'huge': choose one of paper, published-code, small"):
        make_training_config("huge", NEEDED)


def test_every_field_has_a_sentence():
    for entry in fields(TrainingConfig):
        sentence = entry.metadata[HELP]
        assert sentence[0].isupper() and sentence.endswith("."), entry.name


def test_schedule_by_hand():
    cosine = Schedule(warmup=4, total=12, is_cosine=True)
    assert [cosine.factor(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    # half a cosine over the 8 steps left: 1 at its beginning, 1/2 in its middle, 0 behind its end
    assert cosine.factor(4) == 1.0 and cosine.factor(8) == pytest.approx(0.5) and cosine.factor(12) == pytest.approx(0)
    assert cosine.factor(6) == pytest.approx(0.8535534)  # (1 + cos 45 degrees) / 2
    constant = Schedule(warmup=2, total=None, is_cosine=False)
    assert [constant.factor(step) for step in (0, 1, 2, 10**6)] == [0.5, 1.0, 1.0, 1.0]
