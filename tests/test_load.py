"""The generator of a load, against a server that keeps count."""

import base64
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

LOAD = Path(__file__).parents[1] / "benchmarks" / "load.py"


class Counting(BaseHTTPRequestHandler):
    """Answers what it was sent, or as it was told to; keeps how many requests it had at once."""

    protocol_version = "HTTP/1.1"
    lock, inside, most, connections = threading.Lock(), 0, 0, 0

    def setup(self) -> None:
        super().setup()
        with self.lock:
            Counting.connections += 1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        with self.lock:
            Counting.inside += 1
            Counting.most = max(Counting.most, Counting.inside)
        time.sleep(0.2 if body == b"slow" else 0.01)
        with self.lock:
            Counting.inside -= 1
        if body == b"gone":
            self.close_connection = True
            return
        status, content = (503, b"busy") if body == b"busy" else (200, b'{"batch": 3}')
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        if body == b"busy":
            self.send_header("retry-after", "1")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    Counting.most = Counting.connections = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Counting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def outcome(port: int, *bodies: bytes, **order: Any) -> Any:
    head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n"
    requests = [base64.b64encode(head.format(len(body)).encode() + body).decode() for body in bodies]
    order |= {"port": port, "bodies": requests}
    return json.loads(
        subprocess.run([sys.executable, LOAD], input=json.dumps(order), capture_output=True, text=True).stdout
    )


def test_clients_wait_for_their_answers_on_connections_that_are_kept(port: int) -> None:
    said = outcome(port, b"fast", clients=4, requests=30)
    assert (said["statuses"], len(said["took"]), said["said_batch"]) == ({"200": 30}, 30, 3)
    assert (Counting.most, Counting.connections) == (4, 4)
    assert min(said["took"]) >= 10
    assert 0.05 < said["seconds"] < 60


def test_a_rate_does_not_wait_for_answers(port: int) -> None:
    said = outcome(port, b"slow", rate=40, seconds=0.5)
    assert said["statuses"] == {"200": 20}
    assert Counting.most >= 5
    assert min(said["took"]) >= 200


def test_failures_are_counted_and_named(port: int) -> None:
    said = outcome(port, b"fast", b"busy", b"gone", clients=2, requests=30)
    assert said["statuses"] == {"200": 10, "503": 10, "0": 10}
    assert said["told_when"] == 10
    assert dict(map(tuple, said["failures"])) == {"503 busy": 10, "no answer": 10}
