"""Where trainings run: what Accelerate is told, and that it forgets it."""

import os

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import PartialState

from visual_sentence.reproduction import reproduce
from visual_sentence.reproduction.devices import training_on
from visual_sentence.reproduction.run import EXPERIMENTS
from visual_sentence.reproduction.tables import Column, Experiment, Row, Table

# A device that no machine has Accelerate choose by itself.
OTHER = torch.device("meta")


def test_accelerate_places_what_is_trained_in_the_block():
    before = Accelerator().device
    with training_on("meta"):
        assert Accelerator().device == OTHER != before
    assert Accelerator().device == before


def test_a_block_without_a_device_leaves_the_choice_to_accelerate():
    before = Accelerator().device
    with training_on(None):
        assert Accelerator().device == before


def test_the_environment_is_what_it_was_also_behind_a_failure(monkeypatch):
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "cpu")
    with pytest.raises(RuntimeError), training_on("meta"):
        raise RuntimeError
    assert os.environ["ACCELERATE_TORCH_DEVICE"] == "cpu" and Accelerator().device == torch.device("cpu")


def test_processes_that_were_launched_together_keep_the_devices_that_they_have(monkeypatch):
    Accelerator()
    monkeypatch.setitem(PartialState._shared_state, "num_processes", 2)
    with training_on("meta"):
        assert PartialState().device != OTHER
    assert PartialState().num_processes == 2


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_tables_trainings_run_on_its_device(device, monkeypatch, tmp_path):
    def measure(context, row: str) -> dict:
        return {"x": {"value": 1, "ci95": None, "n": 1, "devices": [context.device, str(Accelerator().device)]}}

    table = Table("hand", "By hand", "A paper", (Column("x", "X", "x of ours"),), (Row("a", "A"),))
    monkeypatch.setitem(EXPERIMENTS, "hand", Experiment(table, lambda context, row: {}, measure))
    (row,) = reproduce("hand", tmp_path, "smoke", device=device)["rows"]
    assert row["cells"]["x"]["ours"]["devices"] == [device, device]
