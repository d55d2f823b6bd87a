"""How often somebody may ask: a bucket of tokens a client, in bounded memory.

Each bucket is one number, the time at which it will be full again (the generic cell rate algorithm, ITU-T I.371): a
library such as `limits` keeps a window a client for as long as it lasts, so that its memory grows with the addresses.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv6Address, ip_address, ip_network

from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.serving.protection.refusals import is_asked, refuse

SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
MOST_BUCKETS = 10_000
SPEND = "expression.spend"  # in the scope: what takes further tokens
UNLIMITED = {"/metrics"}  # it must be seen most of all when much is asked


@dataclass(frozen=True)
class Rate:
    """A number of tokens that a bucket holds, and the seconds in which an empty one is full again."""

    tokens: int
    seconds: int


class Buckets:
    """A bucket for each client; of very many, those used last are kept, and the others are full again."""

    def __init__(self, rate: Rate, most: int = MOST_BUCKETS, clock: Callable[[], float] = time.monotonic) -> None:
        self._full_at: OrderedDict[str, float] = OrderedDict()
        self._seconds, self._token, self._most, self._clock = rate.seconds, rate.seconds / rate.tokens, most, clock

    def __len__(self) -> int:
        """Return how many are kept."""
        return len(self._full_at)

    def take(self, client: str) -> float:
        """Take a token, and return 0; or take none, and return the seconds until there is one."""
        missing = self._full_at.get(client, 0.0) - self._clock()  # seconds until it is full
        if (wait := missing + self._token - self._seconds) > 1e-9:
            return wait
        self.spend(client, 1)
        return 0.0

    def spend(self, client: str, tokens: int) -> None:
        """Take tokens also where there are not enough: the client waits until they have come."""
        self._full_at[client] = max(self._full_at.get(client, 0.0), self._clock()) + tokens * self._token
        self._full_at.move_to_end(client)
        if len(self._full_at) > self._most:
            self._full_at.popitem(last=False)


class Rated:
    """Refuses who asks too often; who that is, `client` tells from the scope."""

    def __init__(self, app: ASGIApp, buckets: Buckets, client: Callable[[Scope], str]) -> None:
        self._app, self._buckets, self._client = app, buckets, client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 429 where the bucket is empty."""
        if is_asked(scope) and scope["path"] not in UNLIMITED:
            client = self._client(scope)
            if wait := self._buckets.take(client):
                seconds = math.ceil(wait)
                sentence = f"too many requests; ask again in {seconds} s"
                return await refuse(scope, receive, send, 429, sentence, {"retry-after": str(seconds)})
            scope.setdefault(SPEND, []).append(partial(self._buckets.spend, client))
        return await self._app(scope, receive, send)


def spend(scope: Scope, images: int) -> None:
    """Count further images of a request that was let in: one that brings many is answered, and the next one waits."""
    for take in scope.get(SPEND, ()) if images > 0 else ():
        take(images)


def address_of(scope: Scope) -> str:
    """Return the address of a client; of IPv6 the network, because who has one address there has all of it."""
    host = (scope.get("client") or ("unknown",))[0]
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or ip_network((address, 64), strict=False))
    return str(address)
