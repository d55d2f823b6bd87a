"""How many requests are worked on at once."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.serving.protection.rates import UNLIMITED
from pipeline.serving.protection.refusals import RETRY_SECONDS, is_asked, refuse

FULL = "the service has as much to do as it can; try later"
LESS_SECONDS = 5.0  # in which less is taken, where there was too much
BEAT = 0.05  # seconds between two looks at the clock, where there was too much
LATE = 0.1  # seconds that such a look may come too late


class Capacity:
    """Refuses what comes while `most` requests are worked on; a WebSocket does not count, as most of it is waiting.

    When it had to, it works on half as many for some seconds: the network's batches are as full, so as many are
    answered, and each of them waits half as long. Refusing costs time too; where so much comes that this process falls
    behind the clock, nothing more is taken until it has caught up. It would wait where nobody sees it, in the system's
    own queues. Then all may come again: clients that are many, but not too many, do not stay refused because they were
    too many once.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most
        self._busy = 0
        self._limit = most
        self._takes_less = False  # not told by the limit: half of one is one

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 503 above the capacity."""
        if scope["type"] != "http" or not is_asked(scope) or scope["path"] in UNLIMITED:
            return await self._app(scope, receive, send)
        if self._busy >= self._limit:
            if not self._takes_less:
                self._take_less()
            return await refuse(scope, receive, send, 503, FULL, {"retry-after": str(RETRY_SECONDS)})
        self._busy += 1
        inside, status = True, 0

        def leave() -> None:
            nonlocal inside
            self._busy -= inside
            inside = False

        async def leaving_send(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            # Behind its answer's end a client may ask again, before all here have noticed that they are done. Where an
            # answer says that work hangs, it still takes its place.
            if message["type"] == "http.response.body" and not message.get("more_body") and status < 500:
                leave()
            await send(message)

        try:
            return await self._app(scope, receive, leaving_send)
        finally:
            leave()

    def _take_less(self) -> None:
        loop = asyncio.get_running_loop()
        half, end = max(1, self._most // 2), loop.time() + LESS_SECONDS
        self._takes_less = True

        def look(due: float) -> None:
            now = loop.time()
            if now >= end:
                self._limit, self._takes_less = self._most, False
            else:
                self._limit = 0 if now - due > LATE else half
                loop.call_at(now + BEAT, look, now + BEAT)

        look(loop.time())
