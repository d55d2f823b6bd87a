"""A load on a local HTTP service, cheap enough to share the machine with it: sockets, and as little parsing as can be.

As a program it takes one order as JSON from its input and prints the outcome as JSON, so that a load is a process of
its own. Answers are looked into when the clock has stopped.
"""

import asyncio
import base64
import json
import math
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

PATIENCE = 60.0  # seconds until a request counts as failed


@dataclass(frozen=True)
class Answer:
    """One request: when it was sent (seconds from the load's begin), how long it took, and what came back."""

    sent: float
    took: float
    status: int  # 0 where none came
    head: bytes
    body: bytes

    @property
    def failure(self) -> str:
        """What went wrong, or nothing."""
        if self.status == 200:
            return ""
        return f"{self.status} {self.body[:200].decode(errors='replace')}" if self.status else "no answer"


class Connection(asyncio.Protocol):
    """A connection that is kept, with one request on the way at a time."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._received, self._length = bytearray(), -1
        self._answered: asyncio.Future[tuple[int, bytes, bytes]] | None = None

    @staticmethod
    async def open(port: int) -> "Connection":
        """Connect to a port of this machine."""
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(Connection, "127.0.0.1", port))[1]

    @property
    def closed(self) -> bool:
        """Whether the other side has hung up."""
        return self._transport.is_closing()

    async def ask(self, request: bytes) -> tuple[int, bytes, bytes]:
        """Send a whole request, and return status, head and body of the answer; status 0 where none came."""
        self._received.clear()
        self._length = -1
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await asyncio.wait_for(self._answered, PATIENCE)
        except TimeoutError:
            self.close()
            return 0, b"", b""

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what to write to."""
        self._transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        """Tell the one that waits."""
        if self._answered and not self._answered.done():
            self._answered.set_result((0, b"", b""))

    def data_received(self, data: bytes) -> None:
        """Collect an answer; it says how long it is."""
        self._received += data
        if self._length < 0:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._received[:end]).lower()
            at = head.index(b"content-length:")  # every contender sends one
            self._head, self._body_at = head, end + 4
            self._length = end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(self._received) >= self._length and self._answered and not self._answered.done():
            answer = int(self._received[9:12]), self._head, bytes(self._received[self._body_at : self._length])
            self._answered.set_result(answer)


def post(path: str, body: bytes, kind: str = "application/octet-stream") -> bytes:
    """Return a whole request."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def form(path: str, field: str, files: Sequence[bytes]) -> bytes:
    """Return a whole request with files in a field of a form, as curl and browsers send them."""
    edge, parts = "part-of-the-benchmark", []
    for file in files:
        described = f'--{edge}\r\nContent-Disposition: form-data; name="{field}"; filename="face"\r\n'
        parts.append(f"{described}Content-Type: application/octet-stream\r\n\r\n".encode() + file + b"\r\n")
    return post(path, b"".join(parts) + f"--{edge}--\r\n".encode(), f"multipart/form-data; boundary={edge}")


class Load:
    """Sends requests to a port, one of them after the other and from the start again, and keeps the answers."""

    def __init__(self, port: int, requests: Sequence[bytes]) -> None:
        self._port, self._requests = port, requests
        self._idle: deque[Connection] = deque()
        self._numbers = count()
        self._began = time.perf_counter()
        self.answers: list[Answer] = []

    @property
    def elapsed(self) -> float:
        """Seconds since the load began."""
        return time.perf_counter() - self._began

    async def closed_loop(self, clients: int, *, seconds: float = math.inf, requests: float = math.inf) -> None:
        """Let so many clients each wait for an answer before it asks again, for a time or a number of requests."""
        self._idle.extend(await asyncio.gather(*(Connection.open(self._port) for _ in range(clients))))
        self._began, sent = time.perf_counter(), count(1)

        async def go_on() -> None:
            while self.elapsed < seconds and next(sent) <= requests:
                await self._ask()

        await asyncio.gather(*(go_on() for _ in range(clients)))

    async def open_loop(self, rate: float, seconds: float) -> None:
        """Send so many requests a second, whether or not those before are answered."""
        self._began, waiting = time.perf_counter(), []
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, number / rate - self.elapsed))
            waiting.append(asyncio.create_task(self._ask(number / rate)))
        await asyncio.gather(*waiting)

    def close(self) -> None:
        """Hang up."""
        for connection in self._idle:
            connection.close()

    async def _ask(self, due: float | None = None) -> None:
        """Send one; what is sent later than it was due has waited since then."""
        request = self._requests[next(self._numbers) % len(self._requests)]
        sent = self.elapsed if due is None else due
        status, head, body = 0, b"", b""
        try:
            while self._idle and self._idle[-1].closed:  # hung up while it was idle
                self._idle.pop()
            connection = self._idle.pop() if self._idle else await Connection.open(self._port)
            status, head, body = await connection.ask(request)
            if status:
                self._idle.append(connection)
        except OSError as error:
            body = repr(error).encode()
        self.answers.append(Answer(sent, self.elapsed - sent, status, head, body))


def summarize(load: Load, seconds: float, processor_seconds: float) -> dict[str, Any]:
    """Return what came of a load, ready for JSON; times in milliseconds, of what was answered."""
    good = [answer for answer in load.answers if answer.status == 200]
    batches = [json.loads(answer.body).get("batch", 0) for answer in good[::10]]
    return {
        "seconds": seconds,
        "statuses": Counter(str(answer.status) for answer in load.answers),
        "told_when": sum(answer.status == 503 and b"retry-after:" in answer.head for answer in load.answers),
        "failures": Counter(answer.failure for answer in load.answers if answer.failure).most_common(5),
        "took": [round(1000 * answer.took, 3) for answer in good],
        "said_batch": sum(batches) / len(batches) if batches else 0,
        "load_share": processor_seconds / seconds,  # of one core
        "answer": (json.loads(good[-1].body).get("faces") or [{}])[0].get("probabilities") if good else None,
    }


async def carry_out(order: dict[str, Any]) -> dict[str, Any]:
    """Carry out an order: the keywords of `closed_loop` or `open_loop`, with `port` and `bodies`."""
    order = dict(order)
    load = Load(order.pop("port"), [base64.b64decode(request) for request in order.pop("bodies")])
    began, busy = time.perf_counter(), time.process_time()
    if "rate" in order:
        await load.open_loop(**order)
    else:
        await load.closed_loop(**order)
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    load.close()
    return summarize(load, seconds, busy)


if __name__ == "__main__":
    try:
        from uvloop import run
    except ImportError:  # there is none on Windows
        from asyncio import run  # type: ignore[assignment]
    try:
        print(json.dumps(run(carry_out(json.load(sys.stdin)))))
        sys.stdout.flush()
    except KeyboardInterrupt:
        os._exit(130)
