"""The service in processes of its own, for benchmarks that ask it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import requests

ROOT = Path(__file__).parents[1]
SECONDS = 120.0  # to become ready in


@contextmanager
def running(folder: Path, **variables: str) -> Iterator[tuple[str, psutil.Process]]:
    """Serve what `make serve` would, on a free port, and give the address and the first of its processes.

    Args:
        folder: for its log and BentoML's things.
        variables: of its environment, besides those here.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "bentoml", "serve", "service:ExpressionService", "--host", "127.0.0.1"]
    environment = {**os.environ, "BENTOML_HOME": str(folder / "bentoml"), "BENTOML_DO_NOT_TRACK": "True", **variables}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + SECONDS
    try:
        while server.poll() is None and time.monotonic() < end:
            with suppress(requests.RequestException):
                if requests.get(f"{address}/readyz", timeout=5).ok:
                    break
            time.sleep(0.5)
        else:
            sys.exit(f"the service did not start:\n{(folder / 'server.log').read_text(errors='replace')[-3000:]}")
        yield address, psutil.Process(server.pid)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGINT)
        server.wait(30)
