"""Readers of strangers' bytes, fed with mutated files: each is read or refused, and none does harm (`fuzz.py`)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz import TARGETS

FUZZ = Path(__file__).with_name("fuzz.py")


@pytest.mark.parametrize("inputs", [400, pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
@pytest.mark.parametrize("name", TARGETS)
def test_no_input_does_harm(name: str, inputs: int, tmp_path: Path) -> None:
    command = [sys.executable, str(FUZZ), name, str(inputs), str(inputs), str(tmp_path)]
    with (tmp_path / "log").open("wb") as log:
        environment = {**os.environ, "OPENCV_LOG_LEVEL": "SILENT"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, stderr=log, check=False)
    said = (tmp_path / "log").read_text(errors="replace")[-3000:]
    assert done.returncode == 0, f"{tmp_path / 'input'} ended the process ({done.returncode}):\n{said}"
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert counts["read"] + counts["refused"] >= inputs
    assert counts["read"] >= TARGETS[name].least_read * inputs
    assert counts["grown_mb"] < TARGETS[name].most_mb
