"""A contender's server: started, asked, put to sleep while another is measured, and ended with all its processes."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from load import Connection

LOAD = Path(__file__).parents[1] / "load.py"
START_SECONDS, END_SECONDS = 300, 5
BATCHES = re.compile(r"^\w*batch\w*_(sum|count)(?:\{.*\})? (\S+)$", re.MULTILINE)  # a histogram, whoever keeps it


class Server:
    """A server in processes of its own, at a free port of this machine."""

    def __init__(self, command: Sequence[str], log: Path, **variables: str) -> None:
        """Start it; in the command, `PORT` is the port."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._log = log
        self._process = subprocess.Popen(
            [sys.executable, *(str(self.port) if part == "PORT" else part for part in command)],
            cwd=Path(__file__).parents[2],
            env=os.environ | variables,
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def load(self, **order: Any) -> dict[str, Any]:
        """Let a process of its own send a load, see `load.carry_out`; adds what the server spent on it."""
        was, began = self._processor_seconds(), self._batches()
        done = subprocess.run(
            [sys.executable, LOAD], input=json.dumps(order | {"port": self.port}), capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"the load failed: {done.stderr[-1000:]}")
        is_, ended = self._processor_seconds(), self._batches()
        faces, batches = (now - before for now, before in zip(ended, began, strict=True))
        spent = sum(seconds - was.get(process, 0) for process, seconds in is_.items())
        outcome = json.loads(done.stdout)
        outcome |= {"spent": spent, "megabytes": self._megabytes()}
        outcome["batch"] = faces / batches if batches else outcome.pop("said_batch") or 1
        return outcome

    def wait_until_ready(self, request: bytes) -> None:
        """Wait until it answers a request."""
        end = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < end:
            with suppress(OSError):
                if asyncio.run(_ask(self.port, request))[0] == 200:
                    return
            time.sleep(0.5)
        raise RuntimeError(f"the server did not start:\n{self._log.read_text(errors='replace')[-2000:]}")

    def sleep(self) -> None:
        """Stop all its processes, so that it takes no time from the one that is measured."""
        self._tell(signal.SIGSTOP)

    def wake(self) -> None:
        """Let them go on."""
        self._tell(signal.SIGCONT)

    def end(self) -> None:
        """End it, in peace if it can be."""
        processes = self._processes()
        self.wake()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGINT)
        _, left = psutil.wait_procs(processes, END_SECONDS)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()

    def _tell(self, number: signal.Signals) -> None:
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _processes(self) -> list[psutil.Process]:
        try:
            first = psutil.Process(self._process.pid)
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _processor_seconds(self) -> dict[int, float]:
        return {process.pid: sum(process.cpu_times()[:2]) for process in self._processes()}

    def _megabytes(self) -> float:
        """Return the memory of all its processes, what they share counted once."""
        return sum(process.memory_full_info().pss for process in self._processes()) / 1e6

    def _batches(self) -> tuple[float, float]:
        """Return the faces and the batches that a server's metrics have counted; zeros where it counts none."""
        page = b""
        with suppress(OSError):
            asked = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
            page = asyncio.run(_ask(self.port, asked))[2]
        sums = {"sum": 0.0, "count": 0.0}
        for kind, value in BATCHES.findall(page.decode(errors="replace")):
            sums[kind] += float(value)
        return sums["sum"], sums["count"]


class InProcess:
    """The process that only computes."""

    def __init__(self, model: Path, pictures: Path) -> None:
        """Start it."""
        command = [sys.executable, str(Path(__file__).with_name("in_process.py")), str(model), str(pictures)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def compute(self, batch: int, count: int) -> tuple[float, float]:
        """Return the seconds, and those of the processor, that so many pictures take in such batches."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{batch} {count}\n")
        self._process.stdin.flush()
        seconds, spent = map(float, self._process.stdout.readline().split())
        return seconds, spent

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


@contextmanager
def awake(server: Server) -> Iterator[Server]:
    """Wake a server for a while."""
    server.wake()
    try:
        yield server
    finally:
        server.sleep()


async def _ask(port: int, request: bytes) -> tuple[int, bytes, bytes]:
    connection = await Connection.open(port)
    try:
        return await connection.ask(request)
    finally:
        connection.close()
