"""The main job, whole, in a clone: what `make repro` promises. Takes minutes."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
import yaml

ROOT = Path(__file__).parents[1]
VERSIONS = [f"v{number}" for number in range(1, 8)]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clone") / "repository"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    return folder


@pytest.fixture(scope="module")
def repro(clone):
    def run(*arguments):
        environment = {**os.environ, "BENTOML_HOME": str(clone.parent / "bentoml"), "PYTHONPATH": str(clone / "src")}
        environment.pop("MLFLOW_TRACKING_URI", None)
        command = [sys.executable, "-c", "from pipeline.cli import main; main()", *(arguments or ("repro",))]
        done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout, set(re.findall(r"Running stage '(.+?)'", done.stdout))

    return run


@pytest.fixture(scope="module")
def first(repro):
    return repro()


def test_all_stages_run_and_the_champion_is_named(first, clone):
    said, ran = first
    assert {f"train@{version}" for version in VERSIONS} <= ran
    assert {"split", "validate", "promote", "report", "package"} <= ran
    assert "the versions side by side: reports/versions.html" in said
    assert all(f">{version}<" in (clone / "reports" / "versions.html").read_text() for version in VERSIONS)
    assert re.search(r"champion: expression-classifier-sample version 1 .* macro-F1 0\.\d+ .* Bento expression_", said)
    assert not (clone / "checkpoints").exists() or not list((clone / "checkpoints").rglob("*.ckpt"))


def test_every_version_learned_its_own_datasets(first, clone):
    own = {version: json.loads((clone / f"metrics/{version}.json").read_text())["own"] for version in VERSIONS}
    assert all(part["n"] >= 200 for part in own.values())
    assert {version: part["macro_f1"] for version, part in own.items() if part["macro_f1"] <= 0.55} == {}


def test_the_tracking_store_compares_the_versions(first, clone):
    client = mlflow.MlflowClient(f"sqlite:///{clone}/mlflow.db")
    experiment = client.get_experiment_by_name("expression-recipes")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == set(VERSIONS)
    for run in runs.values():
        assert {"own/macro_f1", "overall/macro_f1", "train/loss"} <= set(run.data.metrics)
        assert len(client.get_metric_history(run.info.run_id, "validation/macro_f1")) > 1
        plots = {file.path for file in client.list_artifacts(run.info.run_id, "plots")}
        assert {"plots/answers.png", "plots/confusion.png", "plots/robustness.png"} <= plots
        assert (clone / f"reports/versions/{run.info.run_name}.html").is_file()
    champion = client.get_model_version_by_alias("expression-classifier-sample", "champion")
    assert champion.run_id == runs[champion.tags["recipe"]].info.run_id


def test_a_second_run_runs_no_stage(first, repro):
    assert repro()[1] == set()


def test_a_lost_store_gets_its_champion_back_without_training(first, repro, clone):
    (clone / "mlflow.db").unlink()
    said, ran = repro()
    again = {"promote", "package", *(f"evaluate@{version}" for version in VERSIONS)}
    assert again <= ran <= {*again, "report"}
    assert "champion: expression-classifier-sample version 1" in said
    client = mlflow.MlflowClient(f"sqlite:///{clone}/mlflow.db")
    experiment = client.get_experiment_by_name("expression-recipes")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == set(VERSIONS)
    assert all("own/macro_f1" in run.data.metrics for run in runs.values())
    champion = client.get_model_version_by_alias("expression-classifier-sample", "champion")
    assert champion.run_id == runs[champion.tags["recipe"]].info.run_id
    assert repro()[1] == set()


def test_the_champion_can_be_made_again(first, repro):
    said, ran = repro("reproduce", "expression-classifier-sample@champion")
    assert any(stage.startswith("train@") for stage in ran)
    assert "the weights are the same" in said
    assert "can be reproduced: all scores agree within 0.02" in said


def test_a_changed_recipe_runs_that_version_and_what_follows(first, repro, clone):
    params = yaml.safe_load((clone / "params.yaml").read_text())
    params["recipes"]["v1"]["at_sample"]["epochs"] = 1
    (clone / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    _, ran = repro()
    assert {"inputs@v1", "train@v1", "evaluate@v1", "promote", "report"} <= ran
    assert ran <= {"inputs@v1", "train@v1", "evaluate@v1", "promote", "report", "package"}
    shutil.rmtree(clone)
