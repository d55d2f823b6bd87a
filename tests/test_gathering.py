"""Faces of many requests go to the network together."""

import asyncio

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.serving.gathering import Gathered


class Network:
    """Says of each face its first value; keeps how many came at once, and waits until it may answer."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.may_answer = asyncio.Event()

    async def __call__(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.batches.append(len(faces))
        await self.may_answer.wait()
        if (faces == 13).any():
            raise ConnectionError("the network is gone")
        return faces[:, :1, 0, 0].astype(np.float32)


def faces(*values: int) -> NDArray[np.uint8]:
    return np.stack([np.full((4, 4, 3), value, np.uint8) for value in values])


async def asked(network: Network, *requests: NDArray[np.uint8], most: int = 6) -> list[list[float] | BaseException]:
    gathered = Gathered(network, most)
    tasks = [asyncio.create_task(gathered(request)) for request in requests]
    for _ in range(5):
        await asyncio.sleep(0)
    network.may_answer.set()
    rows = await asyncio.gather(*tasks, return_exceptions=True)
    return [row if isinstance(row, BaseException) else row[:, 0].tolist() for row in rows]


def test_what_comes_while_a_call_is_on_the_way_goes_together_and_whole() -> None:
    async def go() -> None:
        network = Network()
        first = asyncio.create_task((gathered := Gathered(network, 6))(faces(1)))
        await asyncio.sleep(0.01)  # the first one has gone, alone and at once
        others = [asyncio.create_task(gathered(part)) for part in (faces(2, 3), faces(4), faces(5, 6))]
        await asyncio.sleep(0.01)
        assert network.batches == [1]
        network.may_answer.set()
        rows = await asyncio.gather(first, *others)
        assert [row[:, 0].tolist() for row in rows] == [[1], [2, 3], [4], [5, 6]]
        assert network.batches == [1, 5]

    asyncio.run(go())


def test_what_fills_a_call_goes_while_another_one_is_on_the_way() -> None:
    async def go() -> None:
        network = Network()
        first = asyncio.create_task((gathered := Gathered(network, 6))(faces(1)))
        await asyncio.sleep(0.01)
        parts = (faces(2, 3), faces(4), faces(5, 6, 7, 8), faces(9), faces(10, 11))
        others = [asyncio.create_task(gathered(part)) for part in parts]
        await asyncio.sleep(0.01)
        assert network.batches == [1, 3]  # a request is not cut; and no third call, though there is enough for one
        network.may_answer.set()
        rows = await asyncio.gather(first, *others)
        assert [row[:, 0].tolist() for row in rows] == [[1], [2, 3], [4], [5, 6, 7, 8], [9], [10, 11]]
        assert network.batches == [1, 3, 5, 2]  # they keep their order

    asyncio.run(go())


def test_more_faces_than_a_call_takes_go_alone() -> None:
    async def go() -> None:
        assert await asked(network := Network(), faces(*range(9)), faces(9)) == [[*range(9)], [9]]
        assert network.batches == [9, 1]

    asyncio.run(go())


def test_a_failed_call_fails_its_requests_and_no_other() -> None:
    async def go() -> None:
        answers = await asked(network := Network(), faces(1, 2), faces(13, 3), faces(4, 5), most=2)
        assert (answers[0], answers[2]) == ([1, 2], [4, 5])
        assert isinstance(answers[1], ConnectionError)
        assert network.batches == [2, 2, 2]

    asyncio.run(go())


@pytest.mark.parametrize("given_up", [0, 1])
def test_a_request_that_is_given_up_takes_no_other_with_it(given_up: int) -> None:
    async def go() -> None:
        network = Network()
        gathered = Gathered(network, 6)
        tasks = [asyncio.create_task(gathered(faces(value))) for value in (1, 2, 3)]
        await asyncio.sleep(0.01)
        tasks[given_up].cancel()
        network.may_answer.set()
        rows = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(rows.pop(given_up), asyncio.CancelledError)
        assert [row[:, 0].tolist() for row in rows if not isinstance(row, BaseException)] == [[2 - given_up], [3]]
        assert (await gathered(faces(4)))[:, 0].tolist() == [4]  # and it goes on

    asyncio.run(go())
