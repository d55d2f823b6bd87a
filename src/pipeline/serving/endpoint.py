"""The HTTP routes, and which status an error gets. Every answer is JSON, but for explanations and cards."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, Protocol
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.inference.card_files import Card
from pipeline.inference.explain import Explanation, NoFaceError, UnexplainableError
from pipeline.inference.options import (
    ExplainOptions,
    Form,
    ImageOptions,
    NoJsonError,
    OptionError,
    VideoOptions,
    read_query,
)
from pipeline.serving.accept import preferred
from pipeline.serving.bodies import BatchBody, ImageBody, from_base64, parse_body
from pipeline.serving.errors import OverloadedError
from pipeline.serving.live import Live
from pipeline.serving.live_page import show_live
from pipeline.serving.meters import METRICS, State, render
from pipeline.serving.openapi import describe
from pipeline.serving.protection.rates import spend
from pipeline.serving.session import Seen
from pipeline.serving.uploads import (
    MAX_IMAGE_BYTES,
    bounded_batch,
    is_json,
    read_image,
    read_images,
    read_json,
    read_video,
    too_large,
)
from pipeline.vision.transforms import ImageError, ImageTooLargeError, UnsupportedImageError
from pipeline.vision.video import UnsupportedVideoError, VideoError, VideoTooLargeError

log = logging.getLogger(__name__)

JSON = "application/json"
CARDS: dict[str, Callable[[Card], str]] = {"text/html": lambda card: card.page, "text/markdown": lambda card: card.text}
VARY = {"vary": "accept"}
SELF_CONTAINED = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "x-content-type-options": "nosniff",
}


# The first kind that fits counts.
STATUS: dict[type[Exception], int] = {
    **{UnsupportedImageError: 415, ImageTooLargeError: 413, ImageError: 400},
    **{UnsupportedVideoError: 415, VideoTooLargeError: 413, VideoError: 400},
    **{OptionError: 422, NoJsonError: 400},
    NoFaceError: 422,
    UnexplainableError: 501,
    OverloadedError: 503,
}


class Backend(Protocol):
    """What the routes need of the service."""

    async def answer(self, image: bytes, options: ImageOptions) -> dict[str, Any]:
        """Answer for one encoded image; raises `ImageError` or `OverloadedError`."""
        ...

    async def see(self, image: bytes, options: ImageOptions) -> Seen:
        """Return what is on a frame of a live session; raises as `answer`."""
        ...

    async def explain(self, image: bytes, options: ExplainOptions) -> Explanation:
        """Explain the largest face; raises as `answer`, `NoFaceError` and `UnexplainableError` besides."""
        ...

    async def draw(self, explanation: Explanation, image: bytes, form: Form) -> bytes:
        """Return a picture of an explanation as PNG."""
        ...

    async def answer_video(self, video: BinaryIO, options: VideoOptions) -> dict[str, Any]:
        """Answer for a video; raises `VideoError` or `OverloadedError`."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return the model's name, version and facts, and those of its card, if it has one."""
        ...

    def card(self) -> Card | None:
        """Return the model's card, if it has one."""
        ...

    def state(self) -> State:
        """Return what the service is doing now, for its metrics."""
        ...


def create_app(backend: Callable[[], Backend]) -> ASGIApp:
    """Return the ASGI app with all routes.

    Args:
        backend: gives the running service; asked anew at every request, because the app is made before it.
    """

    async def index(_: Request) -> JSONResponse:
        return JSONResponse({"service": "facial-expression recognition", "docs": "docs.json", "model": "model"})

    async def docs(_: Request) -> JSONResponse:
        return JSONResponse(describe(backend().describe()["version"]))

    async def model(request: Request) -> Response:
        kind = preferred(request.headers.get("accept", ""), (JSON, *CARDS))
        if kind == JSON:
            return JSONResponse(backend().describe(), headers=VARY)
        card = backend().card()
        if card is None:
            raise HTTPException(404, "this model has no card; ask for application/json to see its facts", VARY)
        return Response(CARDS[kind](card), media_type=kind, headers=VARY | SELF_CONTAINED)

    async def metrics(_: Request) -> Response:
        content, kind = await asyncio.to_thread(render, backend().state())
        return Response(content, headers={"content-type": kind})

    async def predict(request: Request) -> JSONResponse:
        options = read_query(request.query_params, ImageOptions)
        sent = await read_image(request)
        if is_json(request) and (body := parse_body(sent, ImageBody)):
            return JSONResponse(await _answer(backend(), body.image, body.over(options)))
        return JSONResponse(await _answer(backend(), sent, options))

    async def predict_batch(request: Request) -> JSONResponse:
        options = read_query(request.query_params, ImageOptions)
        images: Sequence[bytes | str]
        if is_json(request) and (body := parse_body(await read_json(request), BatchBody)):
            images, options = bounded_batch(body.images), body.over(options)
        else:
            images = await read_images(request)
        spend(request.scope, len(images) - 1)
        answers = await asyncio.gather(*(_answer_or_error(backend(), image, options) for image in images))
        return JSONResponse({"answers": answers})

    async def explain(request: Request) -> Response:
        options = read_query(request.query_params, ExplainOptions)
        image = _bounded(await read_image(request))
        explanation = await backend().explain(image, options)
        if options.form == "json":
            return JSONResponse(explanation.as_json())
        png = await backend().draw(explanation, image, options.form)
        return Response(png, media_type="image/png", headers=_headers(explanation))

    async def predict_video(request: Request) -> JSONResponse:
        options = read_query(request.query_params, VideoOptions)
        async with read_video(request) as video:
            answer = await backend().answer_video(video, options)
        spend(request.scope, answer["frames"]["sampled"] - 1)
        return JSONResponse(answer)

    live = Live(backend, _as_error)
    app = Starlette(
        routes=[
            Route("/", index),
            Route("/docs.json", docs),
            Route("/model", model),
            Route(METRICS, metrics),
            Route("/predict", predict, methods=["POST"]),
            Route("/predict_batch", predict_batch, methods=["POST"]),
            Route("/predict_video", predict_video, methods=["POST"]),
            Route("/explain", explain, methods=["POST"]),
            Route("/live", show_live),
            WebSocketRoute("/live", live.converse),
        ],
        exception_handlers=dict.fromkeys([HTTPException, *STATUS, Exception], _refuse),
    )
    app.router.redirect_slashes = False  # it would send an upload on to whatever Host the request names
    return _Opaque(app)


class _Opaque:
    """An app whose routes BentoML cannot see: it then leaves every path to us, and its stock pages are never shown."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def _headers(explanation: Explanation) -> dict[str, str]:
    """Return the facts of an explanation whose body is a picture."""
    facts = explanation.facts()
    headers = {
        "expression-label": facts["label"],
        "expression-probability": f"{facts['probability']:.4f}",
        "face-box": ",".join(map(str, facts["box"])),
    }
    # Percent-encoded, as a header takes no more than ASCII.
    return headers | {f"model-{key}": quote(value, safe=" ;,") for key, value in facts["model"].items()}


def _bounded(image: bytes) -> bytes:
    if len(image) > MAX_IMAGE_BYTES:
        raise too_large(MAX_IMAGE_BYTES)
    return image


async def _answer(backend: Backend, image: bytes | str, options: ImageOptions) -> dict[str, Any]:
    return await backend.answer(_bounded(from_base64(image) if isinstance(image, str) else image), options)


async def _answer_or_error(backend: Backend, image: bytes | str, options: ImageOptions) -> dict[str, Any]:
    """Answer for one image of a batch, so that a broken one fails alone."""
    try:
        return await _answer(backend, image, options)
    except Exception as error:
        return _as_error(error)


def _as_error(error: Exception) -> dict[str, Any]:
    """Return what is said of one image among several that failed."""
    if _status_of(error) == 500:
        log.error("one image among several failed", exc_info=error)
    return {"error": _message_of(error), "status": _status_of(error)}


async def _refuse(_: Request, error: Exception) -> JSONResponse:
    headers = error.headers if isinstance(error, HTTPException) else None
    return JSONResponse({"error": _message_of(error)}, _status_of(error), headers)


def _status_of(error: Exception) -> int:
    if isinstance(error, HTTPException):
        return error.status_code
    return next((status for kind, status in STATUS.items() if isinstance(error, kind)), 500)


def _message_of(error: Exception) -> str:
    if isinstance(error, HTTPException):
        return error.detail
    if isinstance(error, tuple(STATUS)):
        return str(error)
    return "something went wrong here; the log says what"
