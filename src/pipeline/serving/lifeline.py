"""The line from the front to the process with the network: whether that is there, and how long one waits for it.

When that process dies, connections to it do not fail: they wait until another one has started. So it holds a lock for
as long as it lives, which the system lets go of however it dies, and the front looks at that.
"""

import asyncio
import fcntl
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, TypeVar
from urllib.parse import urlparse
from urllib.request import url2pathname

import aiohttp
from bentoml.exceptions import BentoMLException

from pipeline.serving.errors import OverloadedError

log = logging.getLogger("bentoml.serve")  # BentoML shows this one

Answer = TypeVar("Answer")
LOOK_EVERY = 0.25  # seconds between two looks at the lock
ASK_EVERY = 0.5  # seconds between two questions whether it is ready
ASK_SECONDS = 1.0  # to answer them
WAIT = 30.0  # seconds for what a request asks, behind all that others asked before
HUNG = 20  # questions in a row without an answer, a second each; then it is killed, so that another one starts
DEAD = 60.0  # seconds without a network, after which the whole service had better start anew
ENDED = "its process has ended"
TROUBLE = (BentoMLException, aiohttp.ClientError, OSError)  # what a question to its process may end with; time-outs too


def hold(file: Path) -> IO[str]:
    """Hold a lock, with this process's id in it, for as long as the process lives and what is returned is open."""
    held = file.open("a+", encoding="ascii")
    fcntl.flock(held, fcntl.LOCK_EX)  # at most, somebody looks at it just now
    held.truncate(0)
    held.write(str(os.getpid()))
    held.flush()
    return held


def is_held(file: Path) -> bool:
    """Tell whether a living process holds a lock."""
    try:
        looked_at = os.open(file, os.O_RDONLY)  # `Path.open` takes twice as long, and each request asks this
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(looked_at, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(looked_at)
    return False


class Lifeline:
    """Asks the network's process for the requests, and refuses at once what it can not be asked.

    `is_ready` says whether it answered the last question, at most `ASK_EVERY` and `ASK_SECONDS` ago; a process that is
    only slow to answer is asked further on.
    """

    def __init__(self, lock: Path, address: str, prepare: Callable[[], Awaitable[None]]) -> None:
        """Begin with a network that is not there yet.

        Args:
            lock: the file that its process holds.
            address: where it listens, an http address or the file URL of a socket.
            prepare: what to do with one that has just started, before requests go to it.
        """
        self._lock, self._address, self._prepare = lock, urlparse(address), prepare
        self._limits: set[asyncio.Timeout] = set()  # of those who wait for an answer
        self._is_open = self.is_ready = False
        self._heard, self._missed = time.monotonic(), 0

    @property
    def is_dead(self) -> bool:
        """Whether there has been no network for so long that it will not come back by itself."""
        return time.monotonic() - self._heard > DEAD

    async def open(self) -> None:
        """Wait for the network, for the first time; raises what `prepare` does."""
        while not await self._answers():
            await asyncio.sleep(LOOK_EVERY / 10)
        await self._prepare()
        self._is_open = self.is_ready = True

    async def follow(self) -> None:
        """Keep an eye on the network, for ever."""
        asked = 0.0
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if self._is_open and not is_held(self._lock):
                self._close(ENDED)
            if time.monotonic() - asked < (ASK_EVERY if self._is_open else LOOK_EVERY):
                continue
            self.is_ready = await self._answers() and (self._is_open or await self._reopen())
            asked = time.monotonic()
            if self._is_open and self._missed >= HUNG:
                self._close("its process does not answer any more, and is killed")
                with suppress(OSError, ValueError):
                    os.kill(int(self._lock.read_text(encoding="ascii")), signal.SIGKILL)

    async def ask(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Ask the network something; raises `OverloadedError` where it does not answer."""
        if self._is_open and not is_held(self._lock):
            self._close(ENDED)
        if not self._is_open:
            raise OverloadedError("the network is starting again; try later")
        try:
            async with asyncio.timeout(WAIT) as limit:
                self._limits.add(limit)
                try:
                    return await call()
                except aiohttp.ClientConnectionError as error:
                    log.info("asking the network again after %r", error)
                    # Its server hangs up after five idle seconds, at times just when a connection is used again.
                    return await call()
                finally:
                    self._limits.discard(limit)
        except TROUBLE as error:
            log.warning("the network did not answer: %r", error)
            raise OverloadedError("the network is busy or starting again; try later") from error

    def _close(self, why: str) -> None:
        """Refuse requests, also those that wait for an answer already."""
        log.error("there is no network now: %s", why)
        self._is_open = self.is_ready = False
        for limit in [limit for limit in self._limits if not limit.expired()]:
            limit.reschedule(asyncio.get_running_loop().time())

    async def _reopen(self) -> bool:
        try:
            async with asyncio.timeout(WAIT):
                await self._prepare()
        except TROUBLE as error:
            log.warning("the network is there again, and did not answer: %r", error)
            return False
        self._is_open = True
        log.info("the network is there again")
        return True

    async def _answers(self) -> bool:
        """Tell whether the network is ready, asked on a connection of its own: requests may wait for all others."""
        self._missed += 1
        of_socket = self._address.scheme == "file"
        connector = aiohttp.UnixConnector(url2pathname(self._address.path)) if of_socket else None
        address = f"http://{'localhost' if of_socket else self._address.netloc}/readyz"
        try:
            async with (
                asyncio.timeout(ASK_SECONDS),
                aiohttp.ClientSession(connector=connector) as session,
                session.get(address) as answer,
            ):
                answered = answer.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False
        if answered:
            self._heard, self._missed = time.monotonic(), 0
        return answered
