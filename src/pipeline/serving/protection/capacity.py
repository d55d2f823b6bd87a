"""How many requests are worked on at once."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.serving.protection.rates import UNLIMITED
from pipeline.serving.protection.refusals import RETRY_SECONDS, is_asked, refuse

FULL = "the service has as much to do as it can; try later"
LESS_SECONDS = 5.0  # in which less is taken, where there was far too much
TRIED_SECONDS = 0.25  # in which it is told how much there is
FAR_TOO_MUCH = 2  # so many are refused for each that is answered
BEAT = 0.05  # seconds between two looks at the clock, where there is too much
LATE = 0.1  # seconds that such a look may come too late


class Capacity:
    """Refuses what comes while `most` requests are worked on; a WebSocket does not count, as most of it is waiting.

    Refusing costs time too. Where far more is refused than answered, it works on half as many for some seconds: the
    network's batches are as full, so as many are answered, and each of them waits half as long. Then all may come again
    for a moment, and it is told anew: clients that are refused ask the sooner again, so what comes while less is
    taken says nothing of how many they are.

    Where so much comes that this process falls behind the clock, nothing more is taken until it has caught up. It would
    wait where nobody sees it, in the system's own queues.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most
        self._busy = 0
        self._limit = most
        self._watches = False
        self._refused = self._answered = 0  # while it watches

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 503 above the capacity."""
        if scope["type"] != "http" or not is_asked(scope) or scope["path"] in UNLIMITED:
            return await self._app(scope, receive, send)
        if self._busy >= self._limit:
            if not self._watches:
                self._watch()
            self._refused += self._limit > 0  # at 0, that this process is late is the reason
            return await refuse(scope, receive, send, 503, FULL, {"retry-after": str(RETRY_SECONDS)})
        self._busy += 1
        inside, status = True, 0

        def leave() -> None:
            nonlocal inside
            self._busy -= inside
            self._answered += inside
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

    def _watch(self) -> None:
        """Look at the clock, and at how many are refused, until a moment is over in which none was."""
        loop = asyncio.get_running_loop()
        most, end = self._most, loop.time() + TRIED_SECONDS
        self._watches, self._refused, self._answered = True, 0, 0

        def look(due: float) -> None:
            nonlocal most, end
            now = loop.time()
            tries = most == self._most
            if now >= end and (self._answered or not self._refused or not tries):  # a slow network answers now and then
                if not self._refused:
                    self._watches, self._limit = False, self._most
                    return
                takes_less = tries and self._refused > FAR_TOO_MUCH * self._answered
                most, end = (max(1, most // 2), now + LESS_SECONDS) if takes_less else (self._most, now + TRIED_SECONDS)
                self._refused = self._answered = 0
            self._limit = 0 if now - due > LATE else most
            loop.call_at(now + BEAT, look, now + BEAT)

        look(loop.time())
