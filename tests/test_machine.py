"""What a training tells of its machine, in a real store; beside a server that dies, it is in test_outbox."""

import warnings

import pytest
import torch
from pytorch_lightning.trainer.connectors import data_connector
from training import train

from pipeline.params import load_params
from pipeline.registry import tracking
from pipeline.training import machine
from pipeline.training.trainer import quiet


def run_of(checkpoint):
    client = tracking.connect()
    run = tracking.find_run(client, checkpoint.facts["version"], checkpoint.sha256())
    assert run is not None
    return run, lambda key: client.get_metric_history(run.info.run_id, key)


def test_each_epoch_has_its_faces_a_second_at_the_step_of_its_loss(workplace):  # noqa: F811
    run, history = run_of(train(workplace, "v3"))
    speeds, losses = history("train/images_per_second"), history("train/loss")
    assert [point.step for point in speeds] == [point.step for point in losses]
    assert len(speeds) == load_params().recipe("v3").epochs
    assert all(point.value > 1 for point in speeds)
    assert "system/cpu_utilization_percentage" in run.data.metrics  # at the end, however short it was
    curves = (workplace / "curves" / "v3.csv").read_text()  # the same training gives the same ones
    assert "images_per_second" not in curves
    assert "system" not in curves


def test_a_run_has_the_load_of_its_machine(workplace, monkeypatch):  # noqa: F811
    monkeypatch.setattr(machine, "SECONDS", 0)
    run, history = run_of(train(workplace, "v3"))
    for key in ("system/cpu_utilization_percentage", "system/system_memory_usage_percentage"):
        found = [point.value for point in history(key)]
        assert len(found) >= 2 * load_params().recipe("v3").epochs  # a batch of training and one of validation each
        assert all(0 <= value <= 100 for value in found)
    assert run.data.metrics["system/system_memory_usage_megabytes"] > 100
    assert ("system/gpu_0_utilization_percentage" in run.data.metrics) == torch.cuda.is_available()


def test_a_training_does_not_say_what_nobody_can_mend(workplace, monkeypatch):  # noqa: F811
    monkeypatch.setattr(data_connector, "suggested_max_num_workers", lambda devices: 15)  # as where there are 16 cores
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        train(workplace, "v3")
    assert not [str(warning.message) for warning in said]


def test_a_training_still_says_what_one_can_mend():
    with pytest.warns(UserWarning, match="at hand"), quiet():
        warnings.warn("a remedy is at hand", stacklevel=1)
