"""What a service measures of itself, for Prometheus at `/metrics`; both of its processes count into one folder.

Every label has few values: unknown paths are `other`, and nothing of a request's content becomes one.
"""

import asyncio
import os
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.labels import LABELS

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # where its client library counts, if it is set before that is imported
METRICS = "/metrics"
OTHER = "other"
TIMED_OUT = 504
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
FACES = (0, 1, 2, 3, 5, 10, 20, 50)


class State(NamedTuple):
    """What a service is doing when somebody looks: the model that it serves, and what waits."""

    name: str
    version: str
    variant: str
    ready: bool
    videos_waiting: int


def count_in(folder: Path) -> None:
    """Let this process count into a folder of the service's own, from 0; to be called before anything is counted.

    BentoML's folder is one for all services of a user, and each that starts empties it.
    """
    folder.mkdir(exist_ok=True)
    os.environ[FOLDER] = str(folder)
    meters()


class Meters:
    """The counters and histograms of a process, by the names that they have at `/metrics`."""

    def __init__(self) -> None:
        # Imported here: before `count_in`, Prometheus would count for this process alone.
        from prometheus_client import Counter, Histogram

        self.requests = Counter("expression_requests", "Requests by route and status", ["route", "status"])
        self.request = Histogram(
            "expression_request_seconds", "From a request's head to its answer's end", ["route"], buckets=SECONDS
        )
        self.stage = Histogram(
            "expression_stage_seconds",
            "Decoding and detecting a picture; asking the network, its queue included; its own computing of a batch",
            ["stage"],
            buckets=SECONDS,
        )
        self.batch = Histogram("expression_batch_faces", "Faces that the network computes at once", buckets=BATCHES)
        self.image = Histogram("expression_image_faces", "Faces found in a picture", buckets=FACES)
        self.emotions = Counter("expression_faces", "Faces answered by their likeliest label", ["emotion"])
        for label in LABELS:
            self.emotions.labels(label)  # at 0, so that all are there from the first scrape on


@cache
def meters() -> Meters:
    """Return this process's meters."""
    return Meters()


def count_answer(answer: dict[str, Any]) -> None:
    """Count the faces of one picture's answer, and their likeliest labels."""
    meters().image.observe(len(answer["faces"]))
    for face in answer["faces"]:
        _emotion(face["emotion"]).inc()


@cache
def _emotion(label: str) -> Any:
    return meters().emotions.labels(label)


@cache
def _stage(name: str) -> Any:
    return meters().stage.labels(name)


@contextmanager
def timed(stage: str) -> Iterator[None]:
    """Measure how long a stage takes: `decode`, `detect`, `network` or `compute`; not where it fails."""
    start = time.perf_counter()
    yield
    _stage(stage).observe(time.perf_counter() - start)


class Metered:
    """An ASGI app whose requests are counted and timed, but for scrapes."""

    in_flight = 0  # in this process, which has one such app

    def __init__(self, app: ASGIApp, routes: Collection[str]) -> None:
        """Take an app and the paths to tell apart."""
        self._app, self._routes = app, frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count it when it ends."""
        if scope["type"] != "http" or scope["path"] == METRICS:
            return await self._app(scope, receive, send)
        route = scope["path"] if scope["path"] in self._routes else OTHER
        status, start = 500, time.perf_counter()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        Metered.in_flight += 1
        try:
            await self._app(scope, receive, noting)
        except asyncio.CancelledError:  # by BentoML, which answers that it took too long
            status = TIMED_OUT
            raise
        finally:
            Metered.in_flight -= 1
            meters().requests.labels(route, status).inc()
            meters().request.labels(route).observe(time.perf_counter() - start)


def render(state: State) -> tuple[bytes, str]:
    """Return all that was counted, and the state, as Prometheus reads it, and its media type."""
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    registry.register(_Now(state, Metered.in_flight))
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Now:
    """What is read at the moment of the scrape, and not counted."""

    def __init__(self, state: State, in_flight: int) -> None:
        self._state, self._in_flight = state, in_flight

    def collect(self) -> Iterable[Any]:
        from prometheus_client.core import GaugeMetricFamily

        state = self._state
        model = GaugeMetricFamily(
            "expression_model_info", "The model that is served", labels=["name", "version", "variant"]
        )
        model.add_metric([state.name, state.version, state.variant], 1)
        yield model
        yield GaugeMetricFamily("expression_ready", "Whether the network answers", value=state.ready)
        yield GaugeMetricFamily("expression_requests_in_flight", "Requests begun and not ended", value=self._in_flight)
        yield GaugeMetricFamily("expression_videos_waiting", "Videos that wait for others", value=state.videos_waiting)
