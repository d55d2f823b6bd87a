"""A real service in processes of its own, with a toy network behind it: used by several test files."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from cards import toy_card
from once import end_with_session, kill_all
from toys import toy_model

from pipeline.cards.card import write_card
from pipeline.files import sha256_of
from pipeline.inference.pointer import Pointer, write_pointer
from pipeline.labels import LABELS

ROOT = Path(__file__).parents[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def write_champion(folder: Path) -> Path:
    model = toy_model(folder / "registry" / "3.onnx", weights_sha256="3" * 64)
    write_card(model.parent, toy_card(version="v3", weights_sha256="3" * 64))
    pointer = Pointer("expression-classifier-sample", "3", "registry/3.onnx", sha256_of(model))
    write_pointer(folder / "champion.json", pointer)
    return folder / "champion.json"


def serve(folder: Path, pointer_file: Path, port: int, **variables: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, **variables, "BENTOML_HOME": str(folder), "BENTOML_DO_NOT_TRACK": "True"}
    server = subprocess.Popen(
        [sys.executable, "-m", "bentoml", "serve", "service:ExpressionService", f"--port={port}", "--host=127.0.0.1"],
        cwd=ROOT,
        env={**environment, "FER_POINTER": str(pointer_file)},
        stdout=(folder / "server.log").open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    end_with_session(server.pid)
    return server


class OpenService(NamedTuple):
    """A running service: a client, and the folders of its pointer, models and log, and of what is temporary."""

    client: httpx.Client
    folder: Path
    temporary: Path


@contextmanager
def running(folder: Path, pointer_file: Path, **variables: str) -> Iterator[httpx.Client]:
    """Serve what a pointer names, and give a client of that server."""
    port = free_port()
    server = serve(folder, pointer_file, port, **variables)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_until_ready(client, server, folder)
            yield client
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            kill_all(server.pid)


def wait_until_ready(client: httpx.Client, server: subprocess.Popen[bytes], folder: Path) -> None:
    end = time.monotonic() + 240  # on a machine that is busy
    while server.poll() is None and time.monotonic() < end:
        try:
            if client.get("/readyz", timeout=60).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    pytest.fail(f"the server did not become ready:\n{(folder / 'server.log').read_text()[-3000:]}")


def wait_until_served(client: httpx.Client, version: str) -> None:
    end = time.monotonic() + 60
    while client.get("/model").json()["version"] != version:
        assert time.monotonic() < end, f"version {version} is not served"
        time.sleep(0.1)


def check(answer: dict[str, Any]) -> None:
    """Hold one answer against the contract."""
    assert answer["model"]["version"] == "3"
    assert "not for real use" in answer["model"]["warning"]
    for face in answer["faces"]:
        assert set(face["probabilities"]) == set(LABELS)
        assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert face["probabilities"][face["emotion"]] == face["confidence"]


def refuse(answer: httpx.Response, status: int) -> None:
    """Check that an answer is a refusal that tells nothing about the inside."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    assert not [secret for secret in ("Traceback", "/work", "site-packages", ".py", str(ROOT)) if secret in answer.text]


def field(name: str, content: bytes, file: str = "face.jpg") -> dict[str, Any]:
    return {"files": {name: (file, content)}}
