"""Who may ask: whoever has a key, or, without keys, the clients of this machine."""

import logging
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.errors import PipelineError
from pipeline.serving.protection.exposure import KEYS, OPEN
from pipeline.serving.protection.keys import KeyRing
from pipeline.serving.protection.refusals import RETRY_SECONDS, is_asked, refuse

log = logging.getLogger("bentoml.serve")  # BentoML shows this one

KEY = "expression.key"  # in the scope: the name of the key that a request has
CHALLENGE = 'Bearer realm="expression recognition"'
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")
NO_KEY = "a key is needed: send it as `Authorization: Bearer KEY`, or as `X-API-Key: KEY`"
WRONG_KEY = "this is no key of this service, or it was revoked"
UNREADABLE = "the service can not read its keys now; its log says why"
ELSEWHERE = (
    f"this service has no keys, so it answers only clients of its own machine; to let others in, start it with {KEYS}, "
    f"or with {OPEN}=true where everybody who reaches it may use it"
)
FOREIGN = "this page may not ask this service"


class Keyed:
    """Lets in who has a key."""

    def __init__(self, app: ASGIApp, keys: KeyRing) -> None:
        self._app, self._keys = app, keys
        self._complained = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 without a key or with a wrong one, and 503 while the keys can not be read."""
        if not is_asked(scope):
            return await self._app(scope, receive, send)
        text = _presented(Headers(scope=scope))
        if text is None:
            return await refuse(scope, receive, send, 401, NO_KEY, {"www-authenticate": CHALLENGE})
        try:
            name = self._keys.name_of(text)
            self._complained = ""
        except PipelineError as error:
            if str(error) != self._complained:
                log.error("nobody is let in: %s", error)
            self._complained = str(error)
            return await refuse(scope, receive, send, 503, UNREADABLE, {"retry-after": str(RETRY_SECONDS)})
        if name is None:
            challenge = f'{CHALLENGE}, error="invalid_token"'  # RFC 6750, section 3.1
            return await refuse(scope, receive, send, 401, WRONG_KEY, {"www-authenticate": challenge})
        scope[KEY] = name
        return await self._app(scope, receive, send)


class Local:
    """Lets in the clients of this machine: what the connection says counts, and no header that anybody can write.

    A proxy on this machine is such a client too, so a request that says that it was forwarded is not let in. Nor is
    one that a page from elsewhere makes a browser on this machine send.
    """

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        self._app, self._origins = app, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 to all others."""
        if is_asked(scope):
            headers = Headers(scope=scope)
            if not is_local(scope) or any(name in headers for name in FORWARDED):
                return await refuse(scope, receive, send, 403, ELSEWHERE)
            origin = headers.get("origin")
            if origin is not None and origin not in self._origins and not _is_loopback(_host(origin)):
                return await refuse(scope, receive, send, 403, FOREIGN)
        return await self._app(scope, receive, send)


def is_local(scope: Scope) -> bool:
    """Return whether a request came from this machine; behind a container's mapped port none does."""
    client = scope.get("client")
    return client is not None and _is_loopback(client[0])


@lru_cache
def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped:  # of a server that listens on `::`
        return address.ipv4_mapped.is_loopback
    return address.is_loopback


def _host(origin: str) -> str:
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""


def _presented(headers: Headers) -> str | None:
    scheme, _, text = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and text.strip():
        return text.strip()
    return headers.get("x-api-key", "").strip() or None
