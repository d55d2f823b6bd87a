"""What every answer carries, and what is recorded of it."""

import re
import time
from collections.abc import Iterable
from random import getrandbits

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.serving.protection.refusals import RETRY_SECONDS
from pipeline.serving.protection.request_log import Outcome, RequestLog

REQUEST_ID = "x-request-id"
SOUND_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
SECURE = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
LEFT = 499  # the client left before it was answered; nginx calls it so too


class Recorded:
    """Gives each answer its id and the headers that make it safe to look at, and each request its line in a log."""

    def __init__(self, app: ASGIApp, log: RequestLog) -> None:
        self._app, self._log = app, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and write the line at the end."""
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        asked = Headers(scope=scope).get(REQUEST_ID, "")
        name = asked if SOUND_ID.fullmatch(asked) else f"{getrandbits(128):032x}"
        start, status, received, sent, left = time.perf_counter(), LEFT, 0, 0, False

        async def counted_receive() -> Message:
            nonlocal received, left
            message = await receive()
            left = left or message["type"] == "http.disconnect"
            received += len(message.get("body") or message.get("bytes") or message.get("text") or b"")
            return message

        async def labelled_send(message: Message) -> None:
            nonlocal status, sent
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = LEFT if left else message["status"]  # whoever left gets no answer, whatever it is
                message["headers"] = _labelled(message.get("headers", ()), name, message["status"])
            elif message["type"] == "websocket.accept":
                status = 101
            elif message["type"] == "websocket.close" and status == LEFT:
                status = 403  # what a WebSocket that is not accepted is answered with
            sent += len(message.get("body") or message.get("bytes") or message.get("text") or b"")
            await send(message)

        try:
            return await self._app(scope, counted_receive, labelled_send)
        except ClientDisconnect:
            return None  # nobody is there to be answered, and nothing went wrong here
        except Exception:
            status = 500 if status == LEFT and not left else status
            raise
        finally:
            self._log.write(scope, Outcome(name, status, time.perf_counter() - start, received, sent))


def _labelled(headers: Iterable[tuple[bytes, bytes]], name: str, status: int) -> list[tuple[bytes, bytes]]:
    ours = [*SECURE, (b"retry-after", str(RETRY_SECONDS).encode())] if status == 503 else SECURE
    own = [(header, value) for header, value in headers if header != REQUEST_ID.encode()]
    there = {header for header, _ in own}  # in small letters, as ASGI wants them
    return [*own, (REQUEST_ID.encode(), name.encode()), *(pair for pair in ours if pair[0] not in there)]
