"""Where runs go, and what they say of themselves."""

import subprocess

from pipeline.registry import tracking


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


def test_what_a_run_changes_by_itself_does_not_make_the_tree_dirty(tmp_path, monkeypatch):
    def git(*arguments):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=tmp_path, check=True)

    def dirty():
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path.parent}/{tmp_path.name}.db")
        monkeypatch.chdir(tmp_path)
        client = tracking.connect()
        return client.get_run(tracking.start_run(client, "v1", {}, {})).data.tags["git_dirty"]

    files = ["dvc.lock", "metrics/v1.json", "parents/dvc.lock", "metrics/vit.json", "metrics/curves/vit.csv"]
    for name in [*files, "metrics_of_mine.py"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("before")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "all")
    for name in files:
        (tmp_path / name).write_text("after")
    assert dirty() == "false"
    (tmp_path / "metrics_of_mine.py").write_text("after")
    assert dirty() == "true"


def test_a_run_made_anew_for_lost_weights_does_not_claim_the_present_commit(store):
    client, facts = tracking.connect(), {"scale": "full", "data": {"fer2013": "0" * 64}}
    tags = client.get_run(tracking.run_of(client, "v1", facts, "1" * 64)).data.tags
    assert (tags["recreated"], tags["git_commit"], tags["mlflow.source.git.commit"]) == ("true", "unknown", "unknown")
    assert tags["data_hash"] == tracking.data_hash(facts)


def test_a_reason_that_is_longer_than_a_database_takes_is_cut(store):
    client = tracking.connect()
    run_id = tracking.start_run(client, "v1", {"optimizer": "y" * 10_000}, {"forced": "x" * 10_000})
    run = client.get_run(run_id)
    assert run.data.tags["forced"] == "x" * 8000
    assert run.data.params["optimizer"] == "y" * 6000
