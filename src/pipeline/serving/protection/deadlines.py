"""How long a request may take: until its body is here, and until it is answered."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.serving.protection.refusals import RETRY_SECONDS, refuse


class Deadlines:
    """Ends what takes too long: a body that comes in drops or has no end, work that hangs, an answer nobody reads."""

    def __init__(self, app: ASGIApp, body_seconds: float, request_seconds: float) -> None:
        self._app, self._body_seconds, self._request_seconds = app, body_seconds, request_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 408 if the body is late, and 503 if the answer is; what is half sent is broken off."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        exchange = _Exchange(receive, send, self._body_seconds)
        work = asyncio.ensure_future(self._app(scope, exchange.receive, exchange.send))
        try:
            await asyncio.wait({work}, timeout=self._request_seconds)
            if not work.done():
                exchange.expired = True
                if not exchange.started:
                    sentence = f"there was no answer within {self._request_seconds:g} seconds; try later"
                    await refuse(scope, receive, send, 503, sentence, {"retry-after": str(RETRY_SECONDS)})
                work.cancel()
                await asyncio.wait({work})  # a thread can not be stopped: until it ends, the request takes its place
                _ = work.cancelled() or work.exception()  # looked at, or asyncio complains
                return None
        except asyncio.CancelledError:
            work.cancel()
            raise
        return work.result()


class _Exchange:
    """What goes to and fro in one request."""

    def __init__(self, receive: Receive, send: Send, seconds: float) -> None:
        self._receive, self._send, self._seconds = receive, send, seconds
        self._end = asyncio.get_running_loop().time() + seconds
        self._more_body = True
        self.started = self.expired = False

    async def receive(self) -> Message:
        if not self._more_body:
            return await self._receive()  # waits for the client to leave
        try:
            async with asyncio.timeout_at(self._end):
                message = await self._receive()
        except TimeoutError as error:
            sentence = f"the upload did not arrive within {self._seconds:g} seconds"
            raise HTTPException(408, sentence, {"connection": "close"}) from error
        self._more_body = message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if not self.expired:
            self.started = True
            await self._send(message)
