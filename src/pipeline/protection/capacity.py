"""How many requests are worked on at once."""

from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.protection.rates import UNLIMITED
from pipeline.protection.refusals import RETRY_SECONDS, is_asked, refuse

FULL = "the service has as much to do as it can; try later"


class Capacity:
    """Refuses what comes while `most` requests are worked on; a WebSocket does not count, as most of it is waiting."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most
        self._busy = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 503 above the capacity."""
        if scope["type"] != "http" or not is_asked(scope) or scope["path"] in UNLIMITED:
            return await self._app(scope, receive, send)
        if self._busy >= self._most:
            return await refuse(scope, receive, send, 503, FULL, {"retry-after": str(RETRY_SECONDS)})
        self._busy += 1
        try:
            return await self._app(scope, receive, send)
        finally:
            self._busy -= 1
