"""What a training does before its first step."""

import pytest
import torch
from accelerate import Accelerator

from visual_sentence.training import preparation
from visual_sentence.training.config import TrainingConfig
from visual_sentence.training.preparation import make_accelerator, precision_here, release_accelerator


def test_a_run_that_broke_off_does_not_decide_over_the_next_ones_precision(tmp_path):
    Accelerator(cpu=True)  # nobody ended this one
    config = TrainingConfig(
        data=["pictures"], output=str(tmp_path), tracker="none", max_steps=1, mixed_precision="bf16"
    )
    accelerator = make_accelerator(config)
    assert accelerator.mixed_precision == "bf16"
    release_accelerator(accelerator)


@pytest.mark.parametrize("told", [{"ACCELERATE_USE_CPU": "true"}, {"ACCELERATE_TORCH_DEVICE": "cpu"}, {}])
def test_precision_is_that_of_the_processor_that_is_used(monkeypatch, told):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr(preparation, "cpu_dtype", lambda: torch.float32)
    for name in ("ACCELERATE_USE_CPU", "ACCELERATE_TORCH_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert precision_here("auto") == ("no" if told else "bf16")
    assert precision_here("fp16") == "fp16"
