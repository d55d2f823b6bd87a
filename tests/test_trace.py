"""Lineage in a real registry, both ways."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from promotions import NAME, decide, version
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.networks.checkpoint import load_checkpoint
from pipeline.registry import tracking
from pipeline.registry.lineage import gather

DATA = {"fer2013": "ab" * 32}
LOCK = {
    "stages": {
        "download@fer2013": {"outs": [{"path": "data/raw/fer2013", "md5": "cd" * 16 + ".dir"}]},
        "harmonize@fer2013": {"outs": [{"path": "data/faces/fer2013.parquet", "md5": "ef" * 16}]},
        "validate": {"cmd": "it makes nothing"},
    }
}


@pytest.fixture
def traced(after):
    return after(made_in_a_repository)


def made_in_a_repository(gate):
    """Let there be a champion, made in a repository with a commit and a lock file."""
    for command in (
        ["init", "-q"],
        ["add", "params.yaml"],
        ["-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "one"],
    ):
        subprocess.run(["git", *command], check=True)
    (gate / "dvc.lock").write_text(yaml.safe_dump(LOCK))
    version(gate, "v1", right=4, data=DATA, device="cpu", precision="32-true")
    facts_file = gate / "models" / "v1" / "model.json"
    facts_file.write_text(json.dumps({**json.loads(facts_file.read_text()), "seed": 0}))
    version(gate, "v2", right=2)
    client = tracking.connect()
    facts = load_checkpoint(gate / "models" / "v1")
    run_id = tracking.start_run(client, "v1", {}, {"data_hash": tracking.data_hash(facts.facts)})
    tracking.log_result(client, run_id, {"own/macro_f1": 0.5}, {"seconds": "61.5"}, {})
    tracking.finish_run(client, run_id, facts.sha256())
    decide(gate)


def commit():
    return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()


def said(*arguments):
    result = CliRunner().invoke(app, ["trace", *arguments])
    return result.exit_code, result.output


def test_a_version_says_what_it_is_made_of_however_it_is_called(traced):
    (traced / "metrics" / "package.json").write_text(json.dumps({"model": NAME, "version": "1", "bento": "service:1"}))
    code, text = said(f"{NAME}@champion")
    assert code == 0, text
    assert {said(what) for what in (NAME, f"{NAME}/1", f"models:/{NAME}@champion")} == {(0, text)}
    told = dict(re.findall(r"^  (\S+(?: \S+)?) +(.+)$", text, flags=re.MULTILINE))
    assert text.startswith(f"{NAME} version 1\n")
    assert told["recipe"] == "v1, at scale sample"
    assert told["aliases"] == "champion"
    assert told["code"].startswith(f"commit {commit()}, with uncommitted changes")
    assert told["data"] == f"fer2013: {DATA['fer2013']}"
    assert f"data/faces/fer2013.parquet: {'ef' * 16}" in text
    assert told["parameters"] == "data: ['fer2013']"
    assert "accumulate" not in text  # as by default
    assert told["trained on"] == "cpu, 32-true, 61.5 s"
    assert told["seed"] == "0"
    assert told["metrics"] == "own/macro_f1: 0.5000"
    assert re.search(r"^ +torch \d", text, flags=re.MULTILINE)
    assert "by promotion: there is no champion yet" in told["champion"]
    assert told["Bento"] == "service:1"
    assert told["weights"] == load_checkpoint(traced / "models" / "v1").sha256()


def test_a_hash_or_a_commit_says_which_versions_were_made_from_it(traced):
    matched = {
        DATA["fer2013"][:9]: "data.fer2013",
        "ef" * 16: "dvc.data/faces/fer2013.parquet",
        "cd" * 5: "dvc.data/raw/fer2013",
        commit()[:7]: "git_commit",
    }
    for hashed, name in matched.items():
        assert said(hashed) == (0, f"{NAME}/1 (v1): its {name}\n")


def test_what_is_not_there_is_told_in_a_sentence(traced):
    sentences = {
        "0" * 12: "no registered version was made from 000000000000",
        "abc": "'abc' is too short for a hash; give 7 characters or more",
        f"{NAME}/7": f"the registry has no {NAME}/7; it has {NAME}/1",
        f"{NAME}@previous": f"the registry has no {NAME}@previous; it has {NAME}/1",
    }
    for what, sentence in sentences.items():
        code, text = said(what)
        assert code == 1
        assert sentence in text


def test_without_a_lock_file_the_rest_is_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = gather(["fer2013"])
    assert known["dvc"] == {}
    assert {"torch", "mlflow"} <= set(known["environment"])
    assert not Path("params.yaml").exists()
