"""Doing the same work on the parts of a dataset: by processes on this machine, or on a Ray cluster."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from pipeline.errors import PipelineError

AHEAD = 3  # parts for each process that are in work or wait to be taken: so much is in memory, however many there are

PartType = TypeVar("PartType")
Result = TypeVar("Result")


def on_this_machine(work: Callable[[PartType], Result], parts: Iterable[PartType]) -> Iterator[Result]:
    """Give the results of some work on each part, in the order of the parts, from as many processes as there are cores.

    Raises:
        PipelineError: if a process was killed, as the system does when memory runs out.
    """
    processes = os.cpu_count() or 1
    waiting: deque[Future[Result]] = deque()
    with ProcessPoolExecutor(processes) as pool:
        try:
            for part in parts:
                waiting.append(pool.submit(work, part))
                if len(waiting) >= AHEAD * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise PipelineError(
                "a process was killed at its work on the pictures, perhaps for want of memory"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


ENGINES = {"local": on_this_machine}
