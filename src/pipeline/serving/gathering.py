"""One call for many requests: what arrives while a call is on the way goes into the next one, together."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import numpy as np
from numpy.typing import NDArray

Call = Callable[[NDArray[np.uint8]], Awaitable[NDArray[np.float32]]]


class Gathered:
    """Sends the faces of many requests to the network in one call.

    A lone request goes at once, and nobody waits for others to come: a call takes what has gathered while the one
    before was on the way. What a call costs beside the network's own work, packing and a way between processes, is
    shared so, and the network gets its batches.
    """

    def __init__(self, call: Call, most: int) -> None:
        """Take what maps faces (n, size, size, 3) to rows (n, k), and the most faces to send to it at once."""
        self._call, self._most = call, most
        self._waiting: deque[tuple[NDArray[np.uint8], asyncio.Future[NDArray[np.float32]]]] = deque()
        self._sending: asyncio.Task[None] | None = None

    async def __call__(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map the faces of one request to their rows.

        Raises:
            Exception: what the call raised, for every request that was in it.
        """
        answer: asyncio.Future[NDArray[np.float32]] = asyncio.get_running_loop().create_future()
        self._waiting.append((faces, answer))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())
        return await answer

    async def _send(self) -> None:
        try:
            while self._waiting:
                taken = self._take()
                try:
                    rows = await self._call(np.concatenate([faces for faces, _ in taken]))
                except Exception as error:
                    for _, answer in taken:
                        if not answer.done():
                            answer.set_exception(error)
                    continue
                ends = np.cumsum([len(faces) for faces, _ in taken])
                for (_, answer), part in zip(taken, np.split(rows, ends[:-1]), strict=True):
                    if not answer.done():  # its request was given up
                        answer.set_result(part)
        finally:
            self._sending = None

    def _take(self) -> list[tuple[NDArray[np.uint8], asyncio.Future[NDArray[np.float32]]]]:
        """Take whole requests from the queue, as many as fit, and the first in any case."""
        taken = [self._waiting.popleft()]
        count = len(taken[0][0])
        while self._waiting and count + len(self._waiting[0][0]) <= self._most:
            taken.append(self._waiting.popleft())
            count += len(taken[-1][0])
        return taken
