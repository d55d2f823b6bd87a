"""Refusing a request before it reaches the routes, in the form in which they refuse."""

from collections.abc import Mapping
from functools import lru_cache

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

PROBES = {"/livez", "/readyz", "/healthz"}  # for whoever starts and stops the service: open, and never too many
RETRY_SECONDS = 2


def is_asked(scope: Scope) -> bool:
    """Return whether this is a request, or a WebSocket, that is not a probe."""
    return scope["type"] in ("http", "websocket") and scope["path"] not in PROBES


async def refuse(
    scope: Scope, receive: Receive, send: Send, status: int, sentence: str, headers: Mapping[str, str] | None = None
) -> None:
    """Answer with a status and a sentence; a WebSocket is not accepted, for the same reason where it can be told."""
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": sentence[:120]})
        return
    await Response(_body(sentence), status, headers, JSONResponse.media_type)(scope, receive, send)


@lru_cache
def _body(sentence: str) -> bytes:
    """Write out an error; most are refused for the same few reasons."""
    return bytes(JSONResponse({"error": sentence}).body)
