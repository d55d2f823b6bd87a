"""A running service keeps what its OpenAPI document promises, whatever Schemathesis makes of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from serving import ROOT, running, write_champion

# A form's field is bytes: for a batch, whatever is in one is answered with an error of its own, and a 200.
# What BentoML answers for itself it has no other methods of.
SETTINGS = """
[[operations]]
include-path = "/predict_batch"
checks.negative_data_rejection.enabled = false

[[operations]]
include-path-regex = "/(livez|readyz|metrics)$"
checks.unsupported_method.enabled = false
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_service_does_what_its_description_says(tmp_path: Path) -> None:
    pytest.importorskip("schemathesis", reason="needs Schemathesis, which `make test-slow` installs")
    (tmp_path / "schemathesis.toml").write_text(SETTINGS)
    paths = [str(ROOT / "tests"), str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    with running(tmp_path, write_champion(tmp_path)) as client:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml"),
                *("run", f"{client.base_url}/docs.json", "--url", str(client.base_url)),
                *("--max-examples", "20", "--seed", "1", "--generation-database", "none", "--no-color"),
                *("--exclude-checks", "positive_data_acceptance"),  # not all bytes are an image
            ],
            cwd=tmp_path,
            env={**os.environ, "SCHEMATHESIS_HOOKS": "described", "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            check=False,
        )
        told = client.get("/metrics").text.splitlines()
        log = (tmp_path / "server.log").read_text(errors="replace")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    for path in ("/predict", "/predict_batch", "/predict_video", "/explain"):
        counts = [line for line in told if line.startswith(f'expression_requests_total{{route="{path}",')]
        assert any('status="200"' in line for line in counts), f"{path} answered nothing"
        assert not any('status="5' in line for line in counts)
    assert "Traceback" not in log
