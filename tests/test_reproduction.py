"""Making a registered version again, from a real repository with a real DVC pipeline that takes no time."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from promotions import NAME, decide, version
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.networks.checkpoint import load_checkpoint
from pipeline.registry import registry, tracking
from pipeline.registry.registry import REPRODUCED
from pipeline.registry.reproduction import PLACE, Reproduction, describe

DATA = {"fer2013": "ab" * 32}
# What `train` would learn lies in the commit, so that it is the same again; the score is a file's, as the data is.
STAGES = {
    "inputs": ("data/inputs/v1", "mkdir -p data/inputs/v1 && cp faces.json data/inputs/v1"),
    "train": ("models/v1", "mkdir -p models && cp -r learned models/v1"),
    "evaluate": ("scored", "python score.py && touch scored"),
}
SCORE = """
from pathlib import Path
from pipeline.registry import tracking
from pipeline.networks.checkpoint import load_checkpoint
made = load_checkpoint(Path("models/v1"))
client = tracking.connect()
run = tracking.run_of(client, "v1", made.facts, made.sha256())
scores = {"own/macro_f1": float(Path("score.txt").read_text()), "train/loss": 1.0}
tracking.log_result(client, run, scores, {}, {})
"""


def git(*arguments):
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=b", *arguments], check=True, capture_output=True)


@pytest.fixture
def registered(after):
    return after(made_by_a_commit)


def made_by_a_commit(gate):
    """Make a repository whose commit made version 1, with .5 on its own faces."""
    version(gate, "v1", right=4, data=DATA)
    version(gate, "v2", right=2)
    (gate / "models" / "v1").rename(gate / "learned")
    stages = {
        name: {"foreach": ["v1"], "do": {"cmd": cmd, "deps": ["params.yaml"], "outs": [out]}}
        for name, (out, cmd) in STAGES.items()
    }
    (gate / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (gate / "score.py").write_text(SCORE)
    (gate / "score.txt").write_text("0.5")
    (gate / "faces.json").write_text(json.dumps(DATA))
    made = ["mlflow.db", "mlartifacts", "checkpoints", "/data", "/models", "/metrics", "/predictions"]
    (gate / ".gitignore").write_text("\n".join(made))
    git("init", "-q")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], check=True)
    git("add", ".")
    git("commit", "-qm", "one")
    (gate / "models").mkdir(exist_ok=True)
    (gate / "learned").rename(gate / "models" / "v1")
    checkpoint, client = load_checkpoint(gate / "models" / "v1"), tracking.connect()
    git("checkout", "-q", "learned")
    run = tracking.start_run(client, "v1", {}, {})
    tracking.log_result(client, run, {"own/macro_f1": 0.5, "train/loss": 2.0}, {}, {})
    tracking.finish_run(client, run, checkpoint.sha256())
    decide(gate)


@pytest.fixture(params=["quick", pytest.param("real", marks=pytest.mark.slow)])
def dvc(request):
    """Let DVC really run, or stand aside."""
    if request.param == "quick":
        request.getfixturevalue("quick_dvc")


@pytest.fixture
def quick_dvc(monkeypatch, empty_database):
    """Let the stages that DVC is asked for run in this process, without DVC, whose start alone takes seconds."""

    def run(*arguments, folder, **variables):
        if arguments[0] != "repro":
            return
        stage = arguments[-1].partition("@")[0]
        if stage != "evaluate":
            subprocess.run(STAGES[stage][1], shell=True, check=True, cwd=folder)
            return
        shutil.copy(empty_database, folder / "mlflow.db")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setenv("MLFLOW_TRACKING_URI", variables["MLFLOW_TRACKING_URI"])
            exec(SCORE, {})

    monkeypatch.setattr("pipeline.registry.reproduction.run_dvc", run)


def said(*arguments):
    result = CliRunner().invoke(app, ["reproduce", f"{NAME}@champion", *arguments])
    return result.exit_code, result.output


def champion():
    return registry.find_champion(tracking.connect(), NAME)


@pytest.mark.usefixtures("dvc")
def test_what_is_made_again_from_its_own_commit_is_compared_and_the_registry_keeps_it(registered):
    (registered / "score.txt").write_text("0.9")
    git("commit", "-qam", "what came later")
    code, text = said()
    assert code == 0, text
    assert "the weights are the same" in text
    assert f"{NAME} version 1 can be reproduced: all scores agree within 0.02" in text
    assert "train/loss" not in text
    assert champion().tags[REPRODUCED].endswith("the same weights, scores differ by 0.0000 at most")
    assert not list((registered / PLACE).iterdir())


@pytest.mark.usefixtures("quick_dvc")
def test_other_scores_are_an_error_and_the_registry_keeps_that_too(registered):
    client, run = tracking.connect(), champion().run_id
    tracking.log_result(client, run, {"own/macro_f1": 0.7}, {}, {})
    code, text = said("--tolerance", "0.1")
    assert code == 1
    assert "own/macro_f1" in text
    assert "-0.2000" in text
    assert "error: own/macro_f1 differ by more than 0.1" in text
    assert "differ by 0.2000 at most" in champion().tags[REPRODUCED]


@pytest.mark.usefixtures("quick_dvc")
def test_other_data_is_told_before_anything_is_trained(registered):
    facts_file = Path(registry.fetch(champion(), registered / "models")) / "model.json"
    facts_file.write_text(json.dumps({**json.loads(facts_file.read_text()), "data": {"fer2013": "cd" * 32}}))
    code, text = said()
    assert code == 1
    assert "the data is not what the version learned from: fer2013" in text
    assert not (registered / PLACE / f"{NAME}-1" / "models").exists()
    assert REPRODUCED not in champion().tags


def test_an_unknown_commit_is_told(registered):
    tracking.connect().set_model_version_tag(NAME, "1", "git_commit", "0" * 40)
    code, text = said()
    assert code == 1
    assert f"commit {'0' * 40} is not in this repository; fetch it" in text


def test_scores_stand_side_by_side():
    outcome = Reproduction({"own/macro_f1": 0.5, "own/ece": 0.1}, {"own/macro_f1": 0.46, "own/ece": 0.1}, False)
    assert outcome.largest_difference == pytest.approx(0.04)
    assert outcome.beyond(0.05) == []
    assert outcome.beyond(0.03) == ["own/macro_f1"]
    lines = [line.split() for line in describe(outcome).splitlines()]
    assert ["own/macro_f1", "0.5000", "0.4600", "-0.0400"] in lines
    assert lines[-1] == ["the", "weights", "are", "others"]
