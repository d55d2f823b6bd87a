"""What a pipeline made, shared by a DVC remote, in a folder or a real S3 store; and all on servers. Takes minutes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from servers import KEYS

ROOT = Path(__file__).parents[1]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def run(folder, *command, **variables):
    """Return what a command says in a clone, which has its own sources and, unless told otherwise, tracking store."""
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    environment |= {"BENTOML_HOME": str(folder / "bentoml"), "PYTHONPATH": str(folder / "src"), **KEYS, **variables}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def dvc(folder, *arguments, **variables):
    return run(folder, sys.executable, "-m", "dvc", *arguments, **variables)


def commit(folder):
    run(folder, "git", "add", ".")
    run(folder, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "made")


def cloned(origin, folder):
    subprocess.run(["git", "clone", "--quiet", str(origin), str(folder)], check=True)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A clone in which one small version was made from the sample."""
    clone = cloned(ROOT, tmp_path_factory.mktemp("made") / "repository")
    params = yaml.safe_load((clone / "params.yaml").read_text())
    params |= {"use": ["fer2013"], "run": ["v1"]}
    params["recipes"]["v1"]["at_sample"]["epochs"] = 1
    (clone / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    dvc(clone, "repro", "evaluate@v1")
    commit(clone)
    return clone


@pytest.fixture(params=["folder", "s3"])
def remote(request, made, tmp_path):
    """The clone, with a remote for what it made."""
    clone = cloned(made, tmp_path / "mine")
    shutil.copytree(made / ".dvc" / "cache", clone / ".dvc" / "cache")
    if request.param == "folder":
        dvc(clone, "remote", "add", "--default", "shared", str(tmp_path / "shared"))
    else:
        s3 = request.getfixturevalue("s3")
        dvc(clone, "remote", "add", "--default", "shared", f"s3://dvc/{tmp_path.name}")
        dvc(clone, "remote", "modify", "shared", "endpointurl", s3.address)
    dvc(clone, "checkout", "--allow-missing")
    commit(clone)
    return clone


def contents(clone):
    """Return what DVC keeps in a clone, by path."""
    stages = yaml.safe_load((clone / "dvc.lock").read_text())["stages"].values()
    outs = [clone / out["path"] for stage in stages for out in stage["outs"]]
    files = [file for out in outs for file in [out, *out.rglob("*")] if not file.is_dir()]
    kept = {file.relative_to(clone).as_posix(): file.read_bytes() for file in files}
    assert {"data/faces/fer2013.parquet", "models/v1/weights.safetensors"} <= set(kept)
    return kept


def test_what_was_pushed_is_there_for_others_and_for_who_lost_it(remote, tmp_path):
    before = contents(remote)
    dvc(remote, "push")
    other = cloned(remote, tmp_path / "other")
    dvc(other, "pull", "--allow-missing")
    assert contents(other) == before
    assert dvc(other, "status", "evaluate@v1", "--with-deps") == "Data and pipelines are up to date.\n"
    for lost in (".dvc/cache", "data/raw", "data/faces", "models/v1", "predictions"):
        shutil.rmtree(remote / lost)
    dvc(remote, "pull", "--allow-missing")
    assert contents(remote) == before


def test_a_model_can_be_shared_without_the_data_that_it_learned_from(remote, tmp_path):
    dvc(remote, "push", "train@v1")
    other = cloned(remote, tmp_path / "other")
    dvc(other, "pull", "--allow-missing")
    assert (other / "models/v1/weights.safetensors").exists()
    assert not (other / "data/faces/fer2013.parquet").exists()
    assert not (other / "data/raw/fer2013").exists()


def test_on_servers_what_one_made_is_not_made_again_by_another(made, servers, s3, tmp_path):
    servers.lose()
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "repro"]

    def repro(clone):
        said = run(clone, *command, MLFLOW_TRACKING_URI=servers.address)
        assert "champion: expression-classifier-sample version 1 " in said
        return set(re.findall(r"Running stage '(.+?)'", said))

    mine = cloned(made, tmp_path / "mine")
    dvc(mine, "remote", "add", "--default", "shared", "s3://dvc/on-servers")
    dvc(mine, "remote", "modify", "shared", "endpointurl", s3.address)
    shutil.copytree(made / ".dvc" / "cache", mine / ".dvc" / "cache")
    dvc(mine, "checkout", "--allow-missing")
    assert {"promote", "package"} <= repro(mine) <= {"evaluate@v1", "promote", "compare", "package"}
    commit(mine)
    dvc(mine, "push")
    other = cloned(mine, tmp_path / "other")
    dvc(other, "pull", "--allow-missing")
    assert repro(other) <= {"promote", "package", "compare"}  # the pointer and the Bento are a machine's own
    assert repro(other) == set()
