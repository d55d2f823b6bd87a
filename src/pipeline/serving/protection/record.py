"""What every answer carries, and the line that is kept of a request."""

import json
import logging
import re
import sys
import time
import uuid
from collections.abc import Collection
from datetime import UTC, datetime

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.serving.protection.admission import KEY
from pipeline.serving.protection.rates import address_of
from pipeline.serving.protection.refusals import PROBES, RETRY_SECONDS

log = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
SOUND_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
SECURE = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
LEFT = 499  # the client left before it was answered; nginx calls it so too


class Recorded:
    """Gives each answer its id and the headers that make it safe to look at; writes a line of each request, if wanted,
    but of probes only where they fail.

    The line has nothing that a stranger chose but the id, whose form is checked: a path counts only if it is one of
    `routes`, and of a key it says the name.
    """

    def __init__(self, app: ASGIApp, routes: Collection[str], keep: bool = False, clients: bool = False) -> None:
        self._app, self._routes, self._keep, self._clients = app, frozenset(routes), keep, clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and write the line at the end."""
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        asked = Headers(scope=scope).get(REQUEST_ID, "")
        name = asked if SOUND_ID.fullmatch(asked) else uuid.uuid4().hex
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
                _label(MutableHeaders(scope=message), name, message["status"])
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
            if self._keep and (scope["path"] not in PROBES or status != 200):  # those come every few seconds
                line = {
                    "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                    "id": name,
                    "method": _known(scope.get("method", "WEBSOCKET"), METHODS | {"WEBSOCKET"}),
                    "route": _known(scope["path"], self._routes),
                    "status": status,
                    "ms": round((time.perf_counter() - start) * 1000, 1),
                    "bytes_in": received,
                    "bytes_out": sent,
                    "key": scope.get(KEY),
                }
                log.info(json.dumps(line | ({"client": address_of(scope)} if self._clients else {})))


def write_to_stdout() -> None:
    """Let the lines out, bare, for whoever collects them."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers, log.propagate, log.level = [handler], False, logging.INFO


def _label(headers: MutableHeaders, name: str, status: int) -> None:
    headers[REQUEST_ID] = name
    for header, value in SECURE.items():
        headers.setdefault(header, value)
    if status == 503:
        headers.setdefault("retry-after", str(RETRY_SECONDS))


def _known(word: str, words: Collection[str]) -> str:
    return word if word in words else "other"
