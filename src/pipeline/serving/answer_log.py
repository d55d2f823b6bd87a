"""The log of a service's answers: Parquet files in a folder, written beside the requests and never in their way."""

import logging
import queue
import secrets
import tempfile
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.errors import PipelineError
from pipeline.files import written_whole
from pipeline.inference.answer_table import tabulate
from pipeline.inference.answers import Answered

log = logging.getLogger("bentoml.serve")  # BentoML shows this one

ROWS, SECONDS = 5_000, 60.0  # a file is written after so many faces, or so long after its first one
BOUND = 5_000  # pictures that wait to be written; more are dropped
AGAIN = 10.0  # seconds, where the folder could not be written to


@cache
def _faces_counted() -> Any:
    """Return the counter at `/metrics`, of faces by whether they are written or dropped."""
    # Imported here: before BentoML has said where the processes meet, Prometheus counts for this one alone.
    from prometheus_client import Counter

    counter = Counter("expression_logged_faces", "Faces of the log of predictions, written or dropped", ["outcome"])
    for outcome in ("written", "dropped"):
        counter.labels(outcome)  # at 0, so that an alert can be told from a log that is off
    return counter


class AnswerLog:
    """A folder with a folder a day, into which one thread writes whole files.

    Who answers only puts the answer into a queue. If the disk is too slow, or full, or may not be written to, answers
    wait until the queue is full; then they are dropped, counted and told of.
    """

    def __init__(self, folder: Path, *, rows: int = ROWS, seconds: float = SECONDS, bound: int = BOUND) -> None:
        """Begin; what keeps the folder from being written to is a warning, now and later."""
        self._folder, self._rows, self._seconds = folder, rows, seconds
        self._queue: queue.Queue[Answered | None] = queue.Queue(bound)
        self._waiting: list[Answered] = []  # taken from the queue, and not written yet
        self._name, self._files = secrets.token_hex(4), 0  # of this process, and the files that it wrote
        self._dropped = 0
        self._trouble = ""
        self._closing = threading.Event()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
            log.info("predictions are logged in %s, without pixels", folder)
        except OSError as error:
            self._warn(f"{folder} can not be written: {error.strerror}")
        _faces_counted()
        tabulate([])  # what Arrow loads for its first table, it loads before the first request
        self._thread = threading.Thread(target=self._run, name="answer log", daemon=True)
        self._thread.start()

    def add(self, answered: Answered) -> None:
        """Take an answer; costs microseconds and raises nothing, whatever the disk does."""
        try:
            self._queue.put_nowait(answered)
        except queue.Full:
            self._drop(len(answered.looks))

    def close(self, seconds: float = 10.0) -> None:
        """Write what waits, and end; what can not be written in this time is dropped."""
        self._closing.set()
        with suppress(queue.Full):
            self._queue.put_nowait(None)  # wakes the thread
        self._thread.join(seconds)

    def _run(self) -> None:
        written = True
        while not self._closing.is_set():
            # While the folder can not be written to, no more is taken than fits into one file: the rest queues.
            if not written and self._count() >= self._rows:
                self._closing.wait(AGAIN)
            else:
                self._gather(AGAIN if not written else self._seconds)
            written = self._write()
        while written and (self._waiting or not self._queue.empty()):
            self._gather(0)
            written = self._write()
        self._drop(self._count() + sum(len(answer.looks) for answer in self._queue.queue if answer))
        if self._dropped:
            log.warning("%d faces were not logged in all", self._dropped)

    def _count(self) -> int:
        return sum(len(answer.looks) for answer in self._waiting)

    def _gather(self, seconds: float) -> None:
        """Take answers from the queue until they fill a file, or for some seconds from the first of them on."""
        count, end = self._count(), time.monotonic() + seconds
        while count < self._rows:
            idle = not self._waiting and seconds > 0  # nothing to write: there is time until something comes
            try:
                answer = self._queue.get(timeout=None if idle else max(0.0, end - time.monotonic()))
            except queue.Empty:
                return
            if answer is None:
                return
            self._waiting.append(answer)
            count += len(answer.looks)
            if idle:
                end = time.monotonic() + seconds

    def _write(self) -> bool:
        """Write what waits as one file; return whether nothing waits any more."""
        if not self._waiting:
            return True
        # Named by its first answer, so that a second try has the same name, and the same trouble is not told again.
        file = self._folder / f"{self._waiting[0].time:%Y-%m-%d/%H%M%S}-{self._name}-{self._files:06d}.parquet"
        try:
            table = tabulate(self._waiting)
            with written_whole(file) as partial:
                pq.write_table(table, partial)
        except Exception as error:  # whatever it is, the service goes on and so does the thread
            self._warn(str(error) if isinstance(error, PipelineError) else repr(error))
            return False
        self._files += 1
        self._waiting = []
        _faces_counted().labels("written").inc(table.num_rows)
        if self._trouble:
            log.warning("the log of predictions is written again; %d faces were dropped so far", self._dropped)
            self._trouble = ""
        return True

    def _drop(self, faces: int) -> None:
        if faces and not self._dropped:  # the first ones; the rest are counted
            log.warning("the log of predictions can not keep up, faces are dropped; /metrics counts them")
        self._dropped += faces
        _faces_counted().labels("dropped").inc(faces)

    def _warn(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.warning("predictions are not logged, the service goes on: %s", trouble)
        self._trouble = trouble
