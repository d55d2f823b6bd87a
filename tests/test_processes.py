"""Training in real processes, as torchrun starts them, over gloo on CPUs."""

import signal
import socket
import subprocess
import sys
import time
from contextlib import closing

import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch.testing import assert_close
from training import (
    assert_trained_alike,
    set_param,
    stage_arguments,
    stage_command,
    train,
    use_whole_network,
    write_inputs,
)

from pipeline.errors import PipelineError
from pipeline.networks.checkpoint import load_checkpoint
from pipeline.networks.network import ExpressionNetwork
from pipeline.params import load_params
from pipeline.registry import tracking
from pipeline.training import processes
from pipeline.training.launch import count_wanted, launch


def torchrun(version, *options):
    module = ["-m", "pipeline.stages.train", *stage_arguments(version)]
    return [sys.executable, "-m", "torch.distributed.run", *options, *module]


TWO = ("--standalone", "--nproc-per-node", "2")


def runs():
    client = tracking.connect()
    return client.search_runs([client.get_experiment_by_name(tracking.EXPERIMENT).experiment_id])


def prepare(workplace, **changes):
    """Let a batch of v3 be one that two processes can not halve, and the last one smaller."""
    at_sample = load_params().recipes["v3"].at_sample.model_dump()
    set_param(workplace, "v3", at_sample={**at_sample, "batch_size": 5, **changes.pop("at_sample", {})}, **changes)
    write_inputs(workplace, "v3")


def free_port():
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def as_one_of_two(monkeypatch):
    """Let this process look as if torchrun had started it with another one."""
    for name, value in {"TORCHELASTIC_RUN_ID": "0", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)


def test_two_processes_train_like_one(workplace):
    prepare(workplace, ema={"decay": 0.9}, sampler="balanced", loss={"class_weights": "inverse_frequency"})
    launch(2, "pipeline.stages.train", *stage_arguments("v3"))
    shared = load_checkpoint(workplace / "models" / "v3")
    assert shared.facts["processes"] == 2
    weights = load_file(shared.weights)
    curve = (workplace / "curves" / "v3.csv").read_text()
    (run,) = runs()
    assert (run.info.status, run.data.tags["processes"]) == ("FINISHED", "2")
    losses = tracking.connect().get_metric_history(run.info.run_id, "train/loss")
    assert len(losses) == 2
    assert not list((workplace / "checkpoints").rglob("*.ckpt"))
    assert_trained_alike(shared, weights, train(workplace, "v3"))
    for mine, theirs in zip((workplace / "curves" / "v3.csv").read_text().split()[1:], curve.split()[1:], strict=True):
        assert list(map(float, mine.split(","))) == pytest.approx(list(map(float, theirs.split(","))), abs=1e-5)


def test_every_process_has_a_seed_of_its_own_and_the_first_the_one_it_is_given(as_one_of_two, monkeypatch):
    second = processes.own_seed(7)
    monkeypatch.setenv("RANK", "0")
    assert processes.own_seed(7) == 7 != second


def test_batch_norm_is_refused_on_cpus_and_shared_on_gpus_unless_it_is_frozen(as_one_of_two, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    recipe = load_params().recipes["v1"].at("sample")
    network = ExpressionNetwork(recipe).train()
    with pytest.raises(PipelineError, match="v1 has batch norm, .* between GPUs alone; train it in one process"):
        processes.share_batch_norm(network, "v1")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    state = network.state_dict()
    faces = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    answers = network.eval()(faces)
    processes.share_batch_norm(network.train(), "v1")
    kinds = {type(module).__name__ for module in network.modules()}
    assert {"SyncBatchNorm", "SyncBatchNormAct"} <= kinds
    assert not {"BatchNorm1d", "BatchNorm2d", "BatchNormAct2d"} & kinds
    assert list(network.state_dict()) == list(state)
    assert_close(network.eval()(faces), answers)
    processes.share_batch_norm(ExpressionNetwork(load_params().recipes["v3"].at("sample")).train(), "v3")


def test_another_process_that_is_lost_is_an_error_in_a_sentence(as_one_of_two):
    sentence = r"process 1 lost another one \(.*closed by peer.*\); .*; run it again to"
    with pytest.raises(PipelineError, match=sentence), processes.missed():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:545] Connection closed by peer [127.0.0.1]:4263")
    assert signal.signal(signal.SIGTERM, signal.SIG_DFL) == signal.SIG_IGN  # there is time to tell MLflow


def test_more_processes_than_gpus_are_refused(as_one_of_two, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(PipelineError, match="2 processes shall train here, but this machine has 1 GPU; start one a"):
        processes.trainer_settings()
    assert count_wanted(4) == 1  # torchrun has decided
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    assert count_wanted("auto") == 1
    with pytest.raises(PipelineError, match="4 processes shall train here"):
        count_wanted(4)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_others_and_the_training_goes_on_as_if_unbroken(workplace, victim):
    use_whole_network(workplace, "v3")
    prepare(workplace, at_sample={"epochs": 6}, swa={"start": 0.5})
    whole = train(workplace, "v3")
    weights = load_file(whole.weights)
    tracking.connect().delete_run(runs()[0].info.run_id)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(torchrun("v3", *TWO), **pipes) as process:
        said = []
        for line in process.stdout:
            said.append(line)
            if "epoch 3/6" in line:
                workers = sorted(psutil.Process(process.pid).children(), key=lambda worker: worker.environ()["RANK"])
                workers[victim].kill()
                killed = time.monotonic()
    assert process.returncode
    assert time.monotonic() - killed < 60
    assert not any("epoch 6/6" in line for line in said)
    if victim == 1:
        assert [run.info.status for run in runs()] == ["KILLED"]
    subprocess.run(torchrun("v3", *TWO), check=True, timeout=200)
    assert_trained_alike(whole, weights, load_checkpoint(workplace / "models" / "v3"))
    assert [run.info.status for run in runs()] == ["FINISHED"]
    assert not list((workplace / "checkpoints").rglob("*.ckpt"))


@pytest.mark.slow
def test_devices_starts_the_processes_by_itself_and_says_one_sentence_if_one_is_killed(workplace):
    use_whole_network(workplace, "v3")
    prepare(workplace, at_sample={"epochs": 4})
    params = yaml.safe_load((workplace / "params.yaml").read_text())
    params["train"]["devices"] = 2
    (workplace / "params.yaml").write_text(yaml.safe_dump(params))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(stage_command("v3"), **pipes) as process:
        said = []
        for line in process.stdout:
            said.append(line)
            if "epoch 2/4" in line:
                workers = psutil.Process(process.pid).children()
                next(worker for worker in workers if worker.environ().get("RANK") == "1").send_signal(signal.SIGKILL)
    assert process.returncode == 1
    errors = [line for line in said if line.startswith("error: ")]
    assert "error: process 1 was killed (SIGKILL); run it again, and it goes on behind its last whole epoch\n" in errors
    assert "Traceback" not in "".join(said)
    subprocess.run(stage_command("v3"), check=True, timeout=200)
    assert load_checkpoint(workplace / "models" / "v3").facts["processes"] == 2


@pytest.mark.slow
def test_two_machines_train_like_one_and_notice_that_they_differ(workplace):
    prepare(workplace)
    whole = train(workplace, "v3")
    weights = load_file(whole.weights)

    def on_two_machines(*folders):
        place = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port"]
        place.append(str(free_port()))
        started = [
            subprocess.Popen(
                torchrun("v3", *place, "--node-rank", str(rank)), cwd=folder, stderr=subprocess.PIPE, text=True
            )
            for rank, folder in enumerate(folders)
        ]
        said = [process.communicate(timeout=200)[1] for process in started]
        return [process.returncode for process in started], said

    assert on_two_machines(workplace, workplace)[0] == [0, 0]
    assert_trained_alike(whole, weights, load_checkpoint(workplace / "models" / "v3"))
    other = workplace / "other"
    other.mkdir()
    (other / "data").symlink_to(workplace / "data")
    params = yaml.safe_load((workplace / "params.yaml").read_text())
    params["train"]["seed"] = 1
    (other / "params.yaml").write_text(yaml.safe_dump(params))
    codes, said = on_two_machines(workplace, other)
    assert all(codes)
    assert "error: process 1 has other parameters, data or checkpoints than process 0" in "".join(said)
