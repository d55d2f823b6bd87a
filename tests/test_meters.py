import asyncio
import time
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from pipeline.serving.meters import Metered, meters, timed


def value(name: str, **labels: str) -> float:
    from prometheus_client import REGISTRY

    return REGISTRY.get_sample_value(name, labels) or 0.0


async def fine(_: Request) -> PlainTextResponse:
    return PlainTextResponse("fine")


async def broken(_: Request) -> PlainTextResponse:
    raise RuntimeError("broken")


APP = Metered(Starlette(routes=[Route("/fine", fine), Route("/broken", broken)]), ["/fine", "/broken"])


def test_requests_are_counted_by_what_became_of_them() -> None:
    meters()
    keys = [("/fine", "200"), ("/fine", "405"), ("/broken", "500"), ("other", "404")]
    before = [value("expression_requests_total", route=route, status=status) for route, status in keys]
    client = TestClient(APP, raise_server_exceptions=False)
    client.get("/fine")
    client.post("/fine")
    client.get("/broken")
    for path in ("/a", "/b", "/fine/c"):
        client.get(path)
    after = [value("expression_requests_total", route=route, status=status) for route, status in keys]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1, 1, 3]


def test_a_request_that_bentoml_gives_up_counts_as_what_it_answers() -> None:
    async def slow(_: Any, __: Any, ___: Any) -> None:
        await asyncio.sleep(50)

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(Metered(slow, ["/slow"])({"type": "http", "path": "/slow"}, None, None), 0.01)  # type: ignore[arg-type]

    asyncio.run(give_up())
    assert value("expression_requests_total", route="/slow", status="504") == 1


def test_a_stage_that_fails_has_no_time() -> None:
    before = value("expression_stage_seconds_count", stage="decode")
    with timed("decode"):
        time.sleep(0.01)
    with pytest.raises(ValueError, match="no picture"), timed("decode"):
        raise ValueError("no picture")
    assert value("expression_stage_seconds_count", stage="decode") - before == 1
    assert value("expression_stage_seconds_sum", stage="decode") >= 0.01
