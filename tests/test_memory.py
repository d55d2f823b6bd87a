"""A network that runs out of memory, really raising what a GPU raises, trains on in smaller parts."""

import os
import weakref
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from refusing import refusing
from safetensors.torch import load_file
from torch.testing import assert_close
from training import assert_trained_alike, set_param, stage_arguments, train, write_inputs

from pipeline.errors import PipelineError
from pipeline.networks.checkpoint import load_checkpoint
from pipeline.params import load_params
from pipeline.registry import tracking
from pipeline.registry.progress import EpochLines
from pipeline.training.launch import launch


def the_run():
    client = tracking.connect()
    (run,) = client.search_runs([client.get_experiment_by_name(tracking.EXPERIMENT).experiment_id])
    return run


def assert_same_weights(checkpoint, others):
    for name, value in load_file(checkpoint.weights).items():
        assert_close(others[name], value, atol=1e-5, rtol=1e-5, msg=name)


def test_a_batch_that_does_not_fit_is_cut_into_parts_and_gives_the_same_weights(workplace, caplog):
    caplog.set_level("INFO")
    at_sample = load_params().recipes["v3"].at_sample.model_dump()
    set_param(workplace, "v3", at_sample={**at_sample, "batch_size": 5}, schedule=[{"name": "one_cycle"}])
    whole = train(workplace, "v3")
    weights = load_file(whole.weights)
    client = tracking.connect()
    client.delete_run(the_run().info.run_id)
    with refusing(2):
        again = train(workplace, "v3")
    assert "with 5 faces at once; it goes on with 3, and accumulates the gradients of 2 parts" in caplog.text
    assert "with 3 faces at once; it goes on with 2, and accumulates the gradients of 4 parts" in caplog.text
    assert_same_weights(again, weights)
    assert again.facts["validation"] == pytest.approx(whole.facts["validation"], abs=1e-5)
    assert (whole.facts["batch_parts"], again.facts["batch_parts"]) == (1, 4)
    assert again.recipe == whole.recipe
    assert (the_run().info.status, the_run().data.tags["batch_parts"]) == ("FINISHED", "4")


def test_what_begins_again_begins_with_the_same_weights(workplace, monkeypatch):
    set_param(workplace, "v3", mixup=0.2)  # drawn before memory runs out
    begin, first = EpochLines.on_train_epoch_start, []

    def look(self, trainer, model):
        first.append(model.network.head[-1].weight.detach().clone())
        begin(self, trainer, model)

    monkeypatch.setattr(EpochLines, "on_train_epoch_start", look)
    with refusing(4):
        parts = train(workplace, "v3").facts["batch_parts"]
    assert parts > 1
    assert torch.equal(first[0], first[1])


def test_what_begins_again_has_let_go_of_the_network_before(workplace, monkeypatch):
    begun, alive = [], []
    begin = EpochLines.on_train_epoch_start

    def look(self, trainer, *rest):
        alive.append([network() is not None for network in begun])
        if trainer.current_epoch == 0:
            begun.append(weakref.ref(trainer.lightning_module))
        begin(self, trainer, *rest)

    monkeypatch.setattr(EpochLines, "on_train_epoch_start", look)
    with refusing(4):
        train(workplace, "v3")
    assert alive[1] == [False]


def test_out_of_memory_in_a_later_epoch_goes_on_from_the_checkpoint(workplace, monkeypatch, caplog):
    caplog.set_level("INFO")
    weights = load_file(train(workplace, "v3").weights)
    caplog.clear()
    begin = EpochLines.on_train_epoch_start

    with ExitStack() as stack, monkeypatch.context() as patch:

        def begin_beside_another_program(self, trainer, *rest):
            if trainer.current_epoch == 1 and not list(Path("checkpoints").rglob("parts")):
                stack.enter_context(refusing(4))
            begin(self, trainer, *rest)

        patch.setattr(EpochLines, "on_train_epoch_start", begin_beside_another_program)
        again = train(workplace, "v3")
    assert caplog.text.count("v3 epoch 1/2") == 1
    assert caplog.text.count("v3 epoch 2/2") == 1
    assert again.facts["batch_parts"] == 2
    assert_same_weights(again, weights)


def test_an_interrupted_training_goes_on_with_the_parts_that_fitted(workplace, monkeypatch, caplog):
    class PowerCutError(Exception):
        pass

    def cut(self, trainer, *_):
        if trainer.current_epoch == 1:
            raise PowerCutError

    with refusing(4):
        with monkeypatch.context() as patch:
            patch.setattr("pipeline.registry.progress.EpochLines.on_train_epoch_start", cut)
            with pytest.raises(PowerCutError):
                train(workplace, "v3")
        assert "ran out of GPU memory" in caplog.text
        caplog.clear()
        assert train(workplace, "v3").facts["batch_parts"] == 2
    assert "ran out of GPU memory" not in caplog.text


@pytest.mark.parametrize(("version", "least"), [("v3", "1 face"), ("v8", "2 faces")])  # v8 has batch norm
def test_the_smallest_batch_that_does_not_fit_either_is_an_error_in_a_sentence(workplace, version, least):
    with (
        refusing(0),
        pytest.raises(PipelineError, match=rf"{version} ran out of GPU memory with {least} at once, .*; set a smaller"),
    ):
        train(workplace, version)
    assert the_run().info.status == "KILLED"


@pytest.mark.slow
def test_processes_that_run_out_of_memory_are_started_again(workplace, monkeypatch, capfd):
    at_sample = load_params().recipes["v3"].at_sample.model_dump()
    set_param(workplace, "v3", at_sample={**at_sample, "batch_size": 4})
    write_inputs(workplace, "v3")
    whole = train(workplace, "v3")
    weights = load_file(whole.weights)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    launch(2, "refusing", *stage_arguments("v3"))
    checkpoint = load_checkpoint(workplace / "models" / "v3")
    assert (checkpoint.facts["processes"], checkpoint.facts["batch_parts"]) == (2, 2)
    assert_trained_alike(whole, weights, checkpoint)
    said = capfd.readouterr().err
    assert "ran out of GPU memory with 2 faces at once; it goes on with 1" in said
    assert "Traceback" not in said
