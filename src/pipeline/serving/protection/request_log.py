"""The line that is kept of a request."""

import json
import logging
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.types import Scope

from pipeline.serving.protection.admission import KEY
from pipeline.serving.protection.exposure import LogForm
from pipeline.serving.protection.rates import address_of
from pipeline.serving.protection.refusals import PROBES

log = logging.getLogger(__name__)

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"}
REFUSED = {429, 503}  # mostly since too much comes
REFUSALS = 10  # that have a line, in a second: a flood of requests shall not be one of lines


@dataclass(frozen=True)
class Outcome:
    """What became of a request: its id, the status of its answer, its seconds, and the bytes of its bodies."""

    id: str
    status: int
    seconds: float
    bytes_in: int
    bytes_out: int


class RequestLog:
    """Writes a line of each request to standard output; of probes only where they fail.

    The line has nothing that a stranger chose but the id, whose form is checked: a path counts only if it is one of
    `routes`, and of a key it says the name.
    """

    def __init__(self, routes: Collection[str], form: LogForm = "text", *, clients: bool = False) -> None:
        """Take the paths to tell apart, the form of the lines, and whether they say who asked."""
        self._routes, self._form, self._clients = frozenset(routes), form, clients
        self._second, self._refusals, self._left_out = 0, 0, 0
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))  # bare, for whoever collects them
        log.handlers, log.propagate, log.level = [handler], False, logging.INFO

    def write(self, scope: Scope, outcome: Outcome) -> None:
        """Write the line of a request that has ended, unless it is a probe or one of too many refusals."""
        if scope["path"] in PROBES:
            if outcome.status == 200:  # those come every few seconds
                return
        elif outcome.status in REFUSED and self._is_one_too_many():
            return
        line: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "id": outcome.id,
            "method": _known(scope.get("method", "WEBSOCKET"), METHODS),
            "route": _known(scope["path"], self._routes),
            "status": outcome.status,
            "ms": round(outcome.seconds * 1000, 1),
            "bytes_in": outcome.bytes_in,
            "bytes_out": outcome.bytes_out,
            "key": scope.get(KEY),
        }
        if self._clients:
            line["client"] = address_of(scope)
        if self._left_out:
            line["left_out"], self._left_out = self._left_out, 0
        log.info(json.dumps(line) if self._form == "json" else _as_text(line))

    def _is_one_too_many(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._refusals = second, 0
        self._refusals += 1
        self._left_out += self._refusals > REFUSALS
        return self._refusals > REFUSALS


def _known(word: str, words: Collection[str]) -> str:
    return word if word in words else "other"


def _as_text(line: dict[str, Any]) -> str:
    text = "{time} {method} {route} {status} in {ms} ms, {bytes_in} bytes in, {bytes_out} out, id {id}".format_map(line)
    more = {name: line[name] for name in ("key", "client", "left_out") if line.get(name)}
    return text + "".join(f", {name} {value}" for name, value in more.items())
