"""The first process of a service: it starts the others anew at once when they die, and ends them one after the other.

BentoML's own looks for dead processes every ten seconds, and tells all to end at the same time: the front would find no
network for what it has taken already. Circus, which BentoML starts processes with, can do better; it has to be asked.
"""

import logging
import os
import signal
import time
from collections import deque
from contextlib import suppress
from types import FrameType
from typing import Any

import psutil
from circus.exc import ConflictError
from tornado.ioloop import IOLoop

log = logging.getLogger("bentoml.serve")  # BentoML shows this one

FRONT, FRONT_SOCKET = "service", "_bento_api_server"  # BentoML's names for who takes requests, and where
DEATHS, SECONDS = 3, 30.0  # as many in so long are answered at once; further ones wait for Circus's own look
# For glibc, in the processes that are started: buffers of pictures go back to the system, and are not kept for each of
# the threads that happened to read one.
MEMORY = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_TRIM_THRESHOLD_": "262144"}


def keep(grace_seconds: int) -> None:
    """Keep the processes that this one is about to start; to be called before it starts them, from its main thread.

    Args:
        grace_seconds: to answer what was taken, when the service ends; then they are killed.
    """
    for name, value in MEMORY.items():
        os.environ.setdefault(name, value)
    # Inside a container BentoML lets all end when one has died, ten seconds later.
    os.environ.pop("BENTOML_CONTAINERIZED", None)
    IOLoop.current().add_callback(_take_over, grace_seconds)  # runs when there is something to keep


def let_go_of_the_front() -> None:
    """Close the front's socket in another process: Circus lets all inherit it.

    Who comes while the front answers for the last time would otherwise wait for nobody, at a socket that is open yet.
    """
    for connection in psutil.Process().net_connections("tcp"):  # the network's own is a file
        if connection.status == psutil.CONN_LISTEN:
            os.close(connection.fd)


def _take_over(grace_seconds: int) -> None:
    # Circus's handler of signals is the way to it: BentoML hands it to nobody.
    handler = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    controller = getattr(handler, "controller", None)
    if controller is None:
        log.warning("BentoML starts its processes otherwise than expected: dead ones are started again less quickly")
        return
    _Keeper(controller).begin(grace_seconds)


class _Keeper:
    """Handles the signals of the first process."""

    def __init__(self, controller: Any) -> None:
        self._controller, self._arbiter = controller, controller.arbiter
        self._circus = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        self._deaths: deque[float] = deque(maxlen=DEATHS)
        self._looks = self._ends = False

    def begin(self, grace_seconds: int) -> None:
        for watcher in self._arbiter.watchers:
            watcher.graceful_timeout = grace_seconds
        for number in self._circus:
            signal.signal(number, self._on_end)
        signal.signal(signal.SIGCHLD, self._on_death)

    def _on_death(self, _: int, __: FrameType | None) -> None:
        now = time.monotonic()
        if len(self._deaths) < DEATHS or now - self._deaths[0] > SECONDS:
            self._deaths.append(now)
            self._controller.loop.add_callback_from_signal(self._look)

    async def _look(self) -> None:
        if self._looks:
            return
        self._looks = True
        self._controller.caller.stop()  # Circus's own look, at the same moment, would log a traceback
        try:
            with suppress(ConflictError):  # where it looks already
                await self._arbiter.manage_watchers()
        finally:
            self._looks = False
            if not self._ends:
                self._controller.caller.start()

    def _on_end(self, number: int, __: FrameType | None) -> None:
        """End the front, then all; who asks twice does not want to wait for that."""
        self._ends = True
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for each, handler in self._circus.items():
            signal.signal(each, handler)
        self._controller.loop.add_callback_from_signal(self._end, number)

    async def _end(self, number: int) -> None:
        self._controller.caller.stop()  # a look would find no front, and take that for a failure
        self._arbiter.sockets[FRONT_SOCKET].close()  # else who comes now waits for nobody
        await self._arbiter.get_watcher(FRONT).stop()
        signal.raise_signal(number)
