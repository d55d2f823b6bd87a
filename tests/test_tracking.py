"""Where runs go."""

from pipeline import tracking


def test_a_queued_experiment_logs_to_the_repository_and_not_to_its_own_copy(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "standalone" / "tmp1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    client = tracking.connect()
    run_id = tracking.start_run(client, "v1", {}, {})
    assert (tmp_path / "mlflow.db").exists()
    assert client.get_run(run_id).info.artifact_uri.startswith(f"file://{tmp_path}/mlartifacts/")
    assert list(copy.iterdir()) == []


def test_elsewhere_runs_go_to_the_folder_it_is_called_in(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert tracking.tracking_uri() == "sqlite:///mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    assert tracking.tracking_uri() == "http://localhost:5000"
