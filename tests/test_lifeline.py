"""The line to a network that is a real process here: it holds the lock, and answers on a socket."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import pytest

from pipeline.serving import lifeline
from pipeline.serving.errors import OverloadedError
from pipeline.serving.lifeline import Lifeline, hold, is_held

NETWORK = """
import asyncio, sys
from pathlib import Path
from aiohttp import web
from pipeline.serving.lifeline import hold
lock = hold(Path(sys.argv[1]) / "lock")
async def main():
    app = web.Application()
    app.router.add_get("/readyz", lambda _: asyncio.sleep(0, web.Response(text="yes")))
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(Path(sys.argv[1]) / "socket")).start()
    await asyncio.sleep(60)
asyncio.run(main())
"""


class Place:
    """A folder with the lock and the socket, and the process that is the network at the time."""

    def __init__(self, folder: Path) -> None:
        self.lock, self.prepared = folder / "lock", 0
        self._folder = folder
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        (self._folder / "socket").unlink(missing_ok=True)
        path = {"PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = subprocess.Popen([sys.executable, "-c", NETWORK, self._folder], env={**os.environ, **path})
        return self.process

    async def prepare(self) -> None:
        self.prepared += 1

    async def ask(self) -> str:
        """Ask as a request does."""
        connector = aiohttp.UnixConnector(str(self._folder / "socket"))
        async with aiohttp.ClientSession(connector=connector) as session, session.get("http://x/readyz") as answer:
            return await answer.text()

    def line(self) -> Lifeline:
        return Lifeline(self.lock, (self._folder / "socket").as_uri(), self.prepare)


@pytest.fixture
def place() -> Iterator[Place]:
    with TemporaryDirectory() as folder:  # a short path, for the socket
        place = Place(Path(folder))
        yield place
        place.process.kill()
        place.process.wait()


def run(place: Place, story: Callable[[Lifeline], Awaitable[None]]) -> None:
    async def main() -> None:
        line = place.line()
        await line.open()
        following = asyncio.create_task(line.follow())
        await story(line)
        following.cancel()

    asyncio.run(asyncio.wait_for(main(), 240))


async def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait for a condition."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds
        await asyncio.sleep(0.02)


def test_a_lock_is_held_as_long_as_the_process_lives(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "lock")
    held = hold(tmp_path / "lock")
    assert is_held(tmp_path / "lock")
    assert (tmp_path / "lock").read_text() == str(os.getpid())
    held.close()
    assert not is_held(tmp_path / "lock")


def test_who_waits_for_a_process_that_dies_is_told_at_once_and_the_next_process_is_prepared(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifeline, "WAIT", 3600)

    async def story(line: Lifeline) -> None:
        assert await line.ask(place.ask) == "yes"
        asked = asyncio.Event()

        async def answer_late() -> str:
            asked.set()
            return await asyncio.sleep(3600, "late")

        waiting = asyncio.create_task(line.ask(answer_late))
        await asked.wait()
        place.process.kill()
        with pytest.raises(OverloadedError):
            await waiting  # and not for the hour that it would have been asked for
        assert not line.is_ready
        with pytest.raises(OverloadedError, match="starting again"):
            await line.ask(place.ask)
        place.start()
        await until(lambda: line.is_ready)
        assert place.prepared == 2
        assert await line.ask(place.ask) == "yes"

    run(place, story)


def test_a_process_that_hangs_is_not_ready_and_in_the_end_killed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifeline, "HUNG", 3600)
    monkeypatch.setattr(lifeline, "WAIT", 3600)

    async def story(line: Lifeline) -> None:
        place.process.send_signal(signal.SIGSTOP)
        waiting = asyncio.create_task(line.ask(place.ask))
        await until(lambda: not line.is_ready)
        assert not waiting.done()  # it may be only slow
        monkeypatch.setattr(lifeline, "HUNG", 3)
        with pytest.raises(OverloadedError):
            await waiting
        await until(lambda: place.process.poll() is not None)
        assert place.process.returncode == -signal.SIGKILL

    run(place, story)


def test_nobody_waits_for_ever(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifeline, "WAIT", 0.1)

    async def story(line: Lifeline) -> None:
        with pytest.raises(OverloadedError, match="busy or starting again"):
            await line.ask(lambda: asyncio.sleep(50, "late"))
        assert line.is_ready  # that one was slow says nothing of others
        assert not line.is_dead
        monkeypatch.setattr(lifeline, "DEAD", 0.5)
        place.process.kill()
        await until(lambda: line.is_dead)

    run(place, story)


def test_a_connection_that_breaks_is_tried_once_more(place: Place) -> None:
    tries = []

    async def broken() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise aiohttp.ServerDisconnectedError
        return "yes"

    async def story(line: Lifeline) -> None:
        assert await line.ask(broken) == "yes"
        assert len(tries) == 2

    run(place, story)
