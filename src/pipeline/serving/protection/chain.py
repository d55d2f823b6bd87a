"""All that stands before the endpoint, in its order."""

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.serving.openapi import describe
from pipeline.serving.protection.admission import KEY, Keyed, Local
from pipeline.serving.protection.capacity import Capacity
from pipeline.serving.protection.deadlines import Deadlines
from pipeline.serving.protection.exposure import KEYS, OPEN, Exposure
from pipeline.serving.protection.keys import KeyRing, read_keys
from pipeline.serving.protection.rates import Buckets, Rated, address_of
from pipeline.serving.protection.recording import REQUEST_ID, Recorded
from pipeline.serving.protection.request_log import RequestLog

ASKED_WITH = ["authorization", "x-api-key", REQUEST_ID]
ANSWERED_WITH = [REQUEST_ID, "retry-after", "expression-label", "expression-probability", "face-box"]
ANSWERED_WITH += ["model-name", "model-version", "model-warning"]
ROUTES = {"/", "/docs.json", "/healthz", "/live", *describe("")["paths"]}


def who_may_ask(exposure: Exposure) -> str:
    """Return a sentence for the log; raises PipelineError if the keys can not be read."""
    if exposure.keys:
        return f"whoever has one of the {len(read_keys(exposure.keys))} keys in {exposure.keys} may ask"
    if exposure.open:
        return f"everybody who reaches this service may ask ({OPEN}=true)"
    return f"only clients of this machine may ask; {KEYS} names keys for others"


class Protection:
    """An app behind everything that `exposure` asks for.

    What refuses cheaply stands before what costs. A browser asks without a key whether it may ask (CORS), so that is
    answered first; whoever guesses at keys is counted by address.
    """

    def __init__(self, app: ASGIApp, exposure: Exposure) -> None:
        """Put it together; raises PipelineError if the keys can not be read."""
        app = Deadlines(app, exposure.body_seconds, exposure.request_seconds)
        app = Capacity(app, exposure.concurrency)
        if exposure.rate_key:
            app = Rated(app, Buckets(exposure.rate_key), lambda scope: scope[KEY])
        if exposure.keys:
            app = Keyed(app, KeyRing(exposure.keys))
        elif not exposure.open:
            app = Local(app, exposure.origins)
        if exposure.rate_address:
            app = Rated(app, Buckets(exposure.rate_address), address_of)
        if exposure.origins:
            app = CORSMiddleware(
                app,
                allow_origins=exposure.origins,
                allow_methods=["GET", "POST"],
                allow_headers=ASKED_WITH,
                expose_headers=ANSWERED_WITH,
            )
        self._app = Recorded(app, RequestLog(ROUTES, exposure.log_form, clients=exposure.log_clients))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        await self._app(scope, receive, send)
