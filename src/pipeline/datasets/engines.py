"""Doing the same work on the parts of a dataset: by processes on this machine, or on a Ray cluster."""

import logging
import mmap
import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

from pipeline.errors import PipelineError

AHEAD = 3  # parts for each process that are in work or wait to be taken: so much is in memory, however many there are
ALIGNMENT = 64  # of the buffers of a result, in bytes, as Arrow recommends

PartType = TypeVar("PartType")
Result = TypeVar("Result")
Engine = Callable[[Callable[[PartType], Result], Iterable[PartType]], Iterator[Result]]


def on_this_machine(work: Callable[[PartType], Result], parts: Iterable[PartType]) -> Iterator[Result]:
    """Give the results of some work on each part, in the order of the parts, from as many processes as there are cores.

    Raises:
        PipelineError: if a process was killed, as the system does when memory runs out.
    """
    processes = os.cpu_count() or 1
    waiting: deque[Future[_Left]] = deque()
    with (
        TemporaryDirectory() as folder,
        ProcessPoolExecutor(processes, initializer=_end_with, initargs=(os.getpid(),)) as pool,
    ):
        try:
            for part in parts:
                waiting.append(pool.submit(_leave, work, part, folder))
                if len(waiting) >= AHEAD * processes:
                    yield _take(waiting.popleft().result())
            while waiting:
                yield _take(waiting.popleft().result())
        except BrokenProcessPool as error:
            raise PipelineError("a process was killed while it worked, perhaps for want of memory") from error
        finally:
            pool.shutdown(cancel_futures=True)


class _Left(NamedTuple):
    """A result in a file: where in it each block begins and ends."""

    file: Path
    places: list[tuple[int, int]]


def _leave(work: Callable[[PartType], Result], part: PartType, folder: str) -> _Left:
    """Do the work on a part and leave the result in a file: through a pipe it would be copied four times."""
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(work(part), protocol=5, buffer_callback=buffers.append)
    blocks: list[bytes | memoryview] = [pickled, *(buffer.raw() for buffer in buffers)]
    places = []
    with NamedTemporaryFile(dir=folder, delete=False) as file:
        for block in blocks:
            start = file.seek(-file.tell() % ALIGNMENT, os.SEEK_CUR)
            places.append((start, start + file.write(block)))
    return _Left(Path(file.name), places)


def _take(left: _Left) -> Any:
    """Return the result that a process left; its buffers stay in the file, which loses its name."""
    with left.file.open("rb") as file:
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    left.file.unlink()
    pickled, *buffers = (content[start:end] for start, end in left.places)
    return pickle.loads(pickled, buffers=buffers)


def _end_with(parent: int) -> None:
    """Let this process end soon after its parent, also where that was killed and could not tell it.

    Ctrl-C reaches all processes; the parent answers it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def on_ray(work: Callable[[PartType], Result], parts: Iterable[PartType]) -> Iterator[Result]:
    """Give the results of some work on each part, in the order of the parts, from a Ray cluster.

    The cluster is the one that the variable RAY_ADDRESS names, else one on this machine. What a lost worker had in
    hand is done again by another.

    Raises:
        PipelineError: if Ray is not installed, or there is no such cluster.
    """
    try:
        import ray
        from ray.data import DataContext, from_items
    except ImportError as error:
        raise PipelineError(
            "harmonize.engine: ray is not installed; run `pip install -c constraints.txt -e '.[ray]'`"
        ) from error
    try:
        ray.init(ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise PipelineError(f"harmonize.engine: there is no Ray cluster ({' '.join(str(error).split())})") from error
    context = DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False  # the stage has one of its own
    # Pickled, because Ray Data would take a part's fields, and a result's, for columns.
    rows = [{"part": pickle.dumps(part)} for part in parts]
    if rows:
        for row in from_items(rows, override_num_blocks=len(rows)).map(partial(_answer, work)).iter_rows():
            result = pickle.loads(row["result"])
            if isinstance(result, PipelineError):
                raise result
            yield result


def _answer(work: Callable[[PartType], Result], row: dict[str, bytes]) -> dict[str, bytes]:
    """Do the work on a row's part; what a person can mend is an answer too, or Ray would bury it in tracebacks."""
    try:
        result: Result | PipelineError = work(pickle.loads(row["part"]))
    except PipelineError as error:
        result = error
    return {"result": pickle.dumps(result)}


ENGINES: dict[str, Engine[Any, Any]] = {"local": on_this_machine, "ray": on_ray}
