"""How many requests are worked on at once, in a loop of this process."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pipeline.serving.protection import capacity
from pipeline.serving.protection.capacity import Capacity


class Clock(selectors.DefaultSelector):
    """A loop's clock, which is put forward by as much as the loop would wait, so that no machine is too slow for it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0
        return super().select(0)


class Doorway:
    """Requests that stay inside until they are let out."""

    def __init__(self, most: int, clock: Clock) -> None:
        self.clock = clock
        self._out = asyncio.Event()
        self._app = Capacity(self._stay, most)
        self._tasks: list[asyncio.Task[None]] = []

    async def ask(self, count: int) -> list[int]:
        """Let some ask; return the statuses of those that were refused."""
        statuses: list[int] = []

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        scope: Any = {"type": "http", "path": "/predict"}
        self._tasks += [asyncio.create_task(self._app(scope, None, send)) for _ in range(count)]  # type: ignore[arg-type]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return statuses

    async def empty(self) -> None:
        self._out.set()
        await asyncio.gather(*self._tasks)
        self._out.clear()

    async def _stay(self, *_: Any) -> None:
        await self._out.wait()


def run(most: int, story: Callable[[Doorway], Coroutine[Any, Any, None]]) -> None:
    loop = asyncio.SelectorEventLoop(clock := Clock())
    loop.time = lambda: clock.now  # type: ignore[method-assign]
    with asyncio.Runner(loop_factory=lambda: loop) as runner:

        async def told() -> None:
            await story(Doorway(most, clock))

        runner.run(told())


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "TRIED_SECONDS", 0.2)
    monkeypatch.setattr(capacity, "LESS_SECONDS", 0.5)
    monkeypatch.setattr(capacity, "LATE", 60)


def test_where_far_more_are_refused_than_answered_half_as_many_are_taken_and_all_again_later() -> None:
    async def story(doorway: Doorway) -> None:
        assert await doorway.ask(10) == []
        assert await doorway.ask(21) == [503] * 21
        await doorway.empty()
        await asyncio.sleep(0.3)
        assert await doorway.ask(7) == [503] * 2
        assert await doorway.ask(20) == [503] * 20
        await doorway.empty()
        await asyncio.sleep(0.8)
        assert await doorway.ask(10) == []  # although many were refused until then
        await doorway.empty()

    run(10, story)


def test_where_few_are_refused_as_many_are_taken_as_before() -> None:
    async def story(doorway: Doorway) -> None:
        assert await doorway.ask(10) == []
        assert await doorway.ask(19) == [503] * 19
        await doorway.empty()
        await asyncio.sleep(0.3)
        assert await doorway.ask(11) == [503]
        await doorway.empty()

    run(10, story)


def test_the_clock_is_looked_at_once_for_all_refusals_and_until_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, watch = [], Capacity._watch
    monkeypatch.setattr(Capacity, "_watch", lambda self: (begun.append(self), watch(self)))

    async def story(doorway: Doorway) -> None:
        for _ in range(3):
            assert await doorway.ask(2) == [503]
            await doorway.empty()
        assert len(begun) == 1
        await asyncio.sleep(1.0)
        assert await doorway.ask(2) == [503]
        assert len(begun) == 2
        await doorway.empty()

    run(1, story)


def test_a_network_that_has_answered_nothing_yet_is_no_reason_to_take_less() -> None:
    async def story(doorway: Doorway) -> None:
        assert await doorway.ask(11) == [503]
        await asyncio.sleep(0.5)
        assert await doorway.ask(1) == [503]
        await doorway.empty()
        await asyncio.sleep(0.3)
        assert await doorway.ask(10) == []
        await doorway.empty()

    run(10, story)


def test_a_process_that_falls_behind_takes_nothing_until_it_has_caught_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "LATE", 0.1)

    async def story(doorway: Doorway) -> None:
        assert await doorway.ask(5) == [503]
        await doorway.empty()
        doorway.clock.now += 3 * capacity.LATE  # the loop is held up, as by more refusals than it can do
        await asyncio.sleep(capacity.BEAT / 10)
        assert await doorway.ask(1) == [503]
        await asyncio.sleep(3 * capacity.BEAT)
        assert await doorway.ask(2) == []
        await doorway.empty()

    run(4, story)


def test_who_has_its_answer_may_ask_again_although_its_request_has_not_ended() -> None:
    async def story() -> None:
        may_end = asyncio.Event()

        async def answer(_: Any, __: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"{}"})
            await may_end.wait()

        app, statuses = Capacity(answer, 1), []

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        scope: Any = {"type": "http", "path": "/predict"}
        tasks = []
        for _ in range(3):
            tasks.append(asyncio.create_task(app(scope, None, send)))  # type: ignore[arg-type]
            await asyncio.sleep(0)
        may_end.set()
        await asyncio.gather(*tasks)
        assert statuses == [200] * 3

    asyncio.run(story())
