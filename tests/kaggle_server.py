"""A server that answers kagglehub as Kaggle does, and badly where a test says so.

kagglehub reaches it as its proxy: with KAGGLE_API_ENVIRONMENT=LOCALHOST it asks http://localhost, and Kaggle's storage
has a made-up name, so every request lands here with the whole address.
"""

import base64
import hashlib
import json
import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOOK_UP, DOWNLOAD, ARCHIVE = "GetDataset", "DownloadDataset", "archive"
VERSION = 3


@dataclass(frozen=True)
class Answer:
    """How one request is answered; the default is the right answer."""

    status: int = 200
    body: bytes | None = None  # in place of the right one
    hashed: bool = True  # whether the archive comes with its MD5, as most do
    most: int | None = None  # bytes of the body after which the connection ends
    silent: bool = False  # it does not end, but nothing more comes; with most=0 not even headers
    pause: float = 0  # seconds before each eighth of the body


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    step: str
    range: str | None
    authorization: str | None


class KaggleServer(ThreadingHTTPServer):
    """Serves one archive as any dataset, to whoever brings credentials, and keeps a list of what was asked."""

    daemon_threads = True
    block_on_close = False  # a handler may still be sending what nobody reads

    def __init__(self, archive: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.archive = archive
        self.total_bytes = len(archive)
        self.plans: dict[str, list[Answer]] = defaultdict(list)
        self.asked: list[Asked] = []
        self.closing = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def plan(self, step: str, *answers: Answer) -> None:
        """Answer the next requests of a step so; those after them are answered right."""
        self.plans[step] += answers

    def count(self, step: str) -> int:
        return sum(asked.step == step for asked in self.asked)

    def ranges(self) -> list[str | None]:
        """Return which bytes each request for the archive asked for, None for all."""
        return [asked.range for asked in self.asked if asked.step == ARCHIVE]


@contextmanager
def running(archive: bytes) -> Iterator[KaggleServer]:
    """Serve an archive until the block ends."""
    with KaggleServer(archive) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: KaggleServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        step = self.path.removeprefix("http://localhost/api/v1/datasets.DatasetApiService/")
        answer = self._next(step)
        if "Authorization" not in self.headers:
            self._send_json(Answer(401), {"code": 401, "message": "Unauthenticated"})
        elif answer.status != 200:
            self._send_json(answer, {"code": answer.status, "message": f"refused with {answer.status}"})
        elif step == LOOK_UP:
            self._send_json(answer, {"currentVersionNumber": VERSION, "totalBytes": self.server.total_bytes})
        elif step == DOWNLOAD:
            self._send(replace(answer, status=302), b"", {"Location": "http://storage.test/archive.zip?signature=x"})

    def do_GET(self) -> None:
        answer = self._next(ARCHIVE)
        whole = self.server.archive
        md5 = base64.b64encode(hashlib.md5(whole).digest()).decode()
        headers = {"Content-Type": "application/zip", "Accept-Ranges": "bytes"}
        if answer.hashed:
            headers["x-goog-hash"] = f"crc32c=AAAAAA==,md5={md5}"
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and answer.status == 200 and answer.body is None:
            start = int(asked[1])
            headers["Content-Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
            self._send(replace(answer, status=206), whole[start:], headers)
        else:
            self._send(answer, whole if answer.status == 200 else b"<html>an error</html>", headers)

    def _next(self, step: str) -> Answer:
        self.server.asked.append(Asked(step, self.headers.get("Range"), self.headers.get("Authorization")))
        plan = self.server.plans[step]
        return plan.pop(0) if plan else Answer()

    def _send_json(self, answer: Answer, content: dict[str, object]) -> None:
        self._send(answer, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, answer: Answer, right: bytes, headers: dict[str, str]) -> None:
        body = right if answer.body is None else answer.body
        sent = body if answer.most is None else body[: answer.most]
        self.close_connection = True
        with suppress(ConnectionError):  # the client is free to leave
            if sent or not answer.silent:
                self.send_response(answer.status)
                for name, value in {**headers, "Content-Length": str(len(body)), "Connection": "close"}.items():
                    self.send_header(name, value)
                self.end_headers()
            step = len(sent) // 8 + 1
            for start in range(0, len(sent), step):
                time.sleep(answer.pause)
                self.wfile.write(sent[start : start + step])
        if answer.silent:
            self.server.closing.wait()

    def log_message(self, format: str, *args: object) -> None:
        pass
