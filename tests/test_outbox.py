"""Training beside a tracking server, a real one over HTTP, that dies."""

import os
import socket
import sys
import threading

import mlflow.server
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.server import handlers
from mlflow.server.constants import SERVE_ARTIFACTS_ENV_VAR
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from servers import Server, answers, free_port
from training import set_param, train, use_whole_network
from werkzeug.serving import WSGIRequestHandler, make_server

from pipeline.errors import PipelineError
from pipeline.params import load_params
from pipeline.registry import outbox, tracking
from pipeline.registry.progress import EpochLines
from pipeline.stages import train as stage


class ServerProcess(Server):
    """`mlflow server` with a store in a file, which starts quickly, and whose store outlives it."""

    def __init__(self, folder):
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        store = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", folder]
        place = ["--host", "127.0.0.1", "--port", port, "--workers", "1"]
        super().__init__(
            [sys.executable, "-m", "mlflow", "server", *store, *place],
            answers(f"{self.address}/health"),
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )


class OneRequest(WSGIRequestHandler):
    protocol_version = "HTTP/1.0"  # keeps no connection that would outlive the server


class ServerThread:
    """The same server, in a thread: it starts and dies at once."""

    def __init__(self):
        self._port, self._server = free_port(), None
        self.address = f"http://127.0.0.1:{self._port}"

    def start(self):
        self._server = make_server(
            "127.0.0.1", self._port, mlflow.server.app, threaded=True, request_handler=OneRequest
        )
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}).start()

    def kill(self):
        if self._server:
            self._server.shutdown()  # then nobody listens any more: who connects is refused
            self._server.server_close()
            self._server = None


def talk_to(server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(outbox, "PAUSE", 0)


@pytest.fixture
def server(workplace, monkeypatch):
    # What it would open by itself at its first request, and then take for the store of this process.
    store = SqlAlchemyStore(f"sqlite:///{workplace}/mlflow.db", "mlflow-artifacts:/")
    monkeypatch.setattr(handlers, "_tracking_store", store)
    monkeypatch.setattr(handlers, "_artifact_repo", get_artifact_repository(str(workplace)))
    monkeypatch.setenv(SERVE_ARTIFACTS_ENV_VAR, "true")
    server = ServerThread()
    talk_to(server, monkeypatch)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server_process(workplace, monkeypatch):
    server = ServerProcess(workplace)
    talk_to(server, monkeypatch)
    server.start()
    yield server
    server.kill()


def at_epoch(monkeypatch, actions):
    """Do something when an epoch begins, by its number from 0."""
    usual = EpochLines.on_train_epoch_start

    def begin(self, trainer, *rest):
        actions.get(trainer.current_epoch, lambda: None)()
        usual(self, trainer, *rest)

    monkeypatch.setattr(EpochLines, "on_train_epoch_start", begin)


def only_run():
    client = tracking.connect()
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id])
    return run, [metric.value for metric in client.get_metric_history(run.info.run_id, "validation/loss")]


def test_server_that_dies_and_comes_back_has_every_metric(workplace, server, monkeypatch, caplog):
    epochs = load_params().recipe("v3").epochs
    assert epochs == 2
    at_epoch(monkeypatch, {1: server.kill})
    write_curves = stage.write_curves  # between the training and its end
    monkeypatch.setattr(stage, "write_curves", lambda *given: (server.start(), write_curves(*given)))
    train(workplace, "v3")
    assert "MLflow does not answer; metrics wait in" in caplog.text
    run, losses = only_run()
    assert (run.info.status, len(losses)) == ("FINISHED", epochs)
    history = tracking.connect().get_metric_history(run.info.run_id, "train/images_per_second")
    assert len(history) == epochs
    assert "system/cpu_utilization_percentage" in run.data.metrics  # looked at when the server was dead


def test_server_that_is_silent_is_asked_once_and_not_waited_for(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(outbox, "PATIENCE", 1)
    before = dict(os.environ)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes what it is sent, and never answers
        client = MlflowClient(f"http://127.0.0.1:{silent.getsockname()[1]}")
        box = outbox.Outbox(client, "0" * 32, tmp_path / "unsent.jsonl")
        for step in range(3):
            box.log_metrics({"train/loss": 1.0}, step)
        silent.settimeout(0)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()
    assert (tmp_path / "unsent.jsonl").read_text().count("train/loss") == 3
    assert caplog.text.count("MLflow does not answer") == 1
    assert dict(os.environ) == before


def test_a_line_that_a_full_disk_cut_off_costs_no_other(workplace, server):
    client = tracking.connect()
    run_id = client.create_run(client.create_experiment("x")).info.run_id
    file = workplace / "unsent.jsonl"
    box = outbox.Outbox(client, run_id, file)
    file.write_text('\n["first", 1.0, 1, 0]\n["validation/lo')
    box.log_metrics({"last": 2.0}, 1)
    assert client.get_run(run_id).data.metrics == {"first": 1.0, "last": 2.0}
    assert not file.exists()


@pytest.mark.slow
def test_server_that_dies_again_and_again_has_every_metric(workplace, server_process, monkeypatch):
    server = server_process
    use_whole_network(workplace, "v8")
    set_param(workplace, "v8", at_sample={**load_params().recipes["v8"].at_sample.model_dump(), "epochs": 12})
    at_epoch(monkeypatch, {1: server.kill, 3: server.start, 5: server.kill, 6: server.start, 8: server.kill})
    write_curves = stage.write_curves
    monkeypatch.setattr(stage, "write_curves", lambda *given: (server.start(), write_curves(*given)))
    train(workplace, "v8")
    run, losses = only_run()
    curves = pd.read_csv(workplace / "curves" / "v8.csv")
    assert run.info.status == "FINISHED"
    assert losses == pytest.approx(curves["validation/loss"].tolist(), abs=1e-5)


# The best epoch, and a moving average.
@pytest.mark.parametrize("version", ["v3", pytest.param("v8", marks=pytest.mark.slow)])
def test_server_that_stays_dead_costs_no_training(workplace, server, monkeypatch, caplog, version):
    caplog.set_level("INFO")
    whole = train(workplace, version)
    client = tracking.connect()
    client.delete_run(only_run()[0].info.run_id)
    at_epoch(monkeypatch, {0: server.kill})
    with pytest.raises(PipelineError, match="MLflow at http.* does not answer, or refuses .*: nothing is lost"):
        train(workplace, version)
    server.start()
    caplog.clear()
    again = train(workplace, version)
    assert "epoch 1/2" not in caplog.text
    assert "epoch 2/2" not in caplog.text
    assert again.facts["validation"] == pytest.approx(whole.facts["validation"], abs=1e-6)
    run, losses = only_run()
    assert (run.info.status, len(losses)) == ("FINISHED", 2)
    assert not list((workplace / "checkpoints").rglob("unsent.jsonl"))


def test_server_that_is_not_there_is_an_error_in_a_sentence(workplace, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(PipelineError, match="does not answer"):
        train(workplace, "v3")
