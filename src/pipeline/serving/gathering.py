"""One call for many requests: what arrives while a call is on the way goes into the next one, together."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import numpy as np
from numpy.typing import NDArray

Call = Callable[[NDArray[np.uint8]], Awaitable[NDArray[np.float32]]]
Answer = asyncio.Future[NDArray[np.float32]]
CALLS = 2  # on the way at once, at most


class Gathered:
    """Sends the faces of many requests to the network in one call.

    A lone request goes at once, and nobody waits for others to come: a call takes what has gathered while the one
    before was on the way. What a call costs beside the network's own work, packing and a way between processes, is
    shared so, and the network gets its batches. Where enough waits to fill a call, a second one is on the way as well,
    so that the network finds it when it is done with the first.
    """

    def __init__(self, call: Call, most: int) -> None:
        """Take what maps faces (n, size, size, 3) to rows (n, k), and the most faces to send to it at once."""
        self._call, self._most = call, most
        self._waiting: deque[tuple[NDArray[np.uint8], Answer]] = deque()
        self._faces = 0  # of all that wait
        self._calls: set[asyncio.Task[None]] = set()

    async def __call__(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map the faces of one request to their rows.

        Raises:
            Exception: what the call raised, for every request that was in it.
        """
        loop = asyncio.get_running_loop()
        answer: Answer = loop.create_future()
        self._waiting.append((faces, answer))
        self._faces += len(faces)
        loop.call_soon(self._send)  # behind all that is about to come in this turn of the loop
        return await answer

    def _send(self) -> None:
        while self._waiting and len(self._calls) < (CALLS if self._faces >= self._most else 1):
            call = asyncio.create_task(self._ask(self._take()))
            self._calls.add(call)
            call.add_done_callback(self._end)

    def _end(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._send()

    async def _ask(self, taken: list[tuple[NDArray[np.uint8], Answer]]) -> None:
        try:
            rows = await self._call(np.concatenate([faces for faces, _ in taken]))
        except Exception as error:
            for _, answer in taken:
                if not answer.done():
                    answer.set_exception(error)
            return
        ends = np.cumsum([len(faces) for faces, _ in taken])
        for (_, answer), part in zip(taken, np.split(rows, ends[:-1]), strict=True):
            if not answer.done():  # its request was given up
                answer.set_result(part)

    def _take(self) -> list[tuple[NDArray[np.uint8], Answer]]:
        """Take whole requests from the queue, as many as fit, and the first in any case."""
        taken = [self._waiting.popleft()]
        count = len(taken[0][0])
        while self._waiting and count + len(self._waiting[0][0]) <= self._most:
            taken.append(self._waiting.popleft())
            count += len(taken[-1][0])
        self._faces -= count
        return taken
