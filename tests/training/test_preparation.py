"""What a training does before its first step."""

from accelerate import Accelerator

from visual_sentence.training.config import TrainingConfig
from visual_sentence.training.preparation import make_accelerator, release_accelerator


def test_a_run_that_broke_off_does_not_decide_over_the_next_ones_precision(tmp_path):
    Accelerator(cpu=True)  # nobody ended this one
    config = TrainingConfig(
        data=["pictures"], output=str(tmp_path), tracker="none", max_steps=1, mixed_precision="bf16"
    )
    accelerator = make_accelerator(config)
    assert accelerator.mixed_precision == "bf16"
    release_accelerator(accelerator)
