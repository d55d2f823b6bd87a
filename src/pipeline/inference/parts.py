"""In which parts an opened network is given faces, and how many of these at once: what is quickest here."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.runtimes import ONNXRUNTIME, Computation, Session
from pipeline.labels import LABELS

MAX_BATCH = 64
IN_CACHE = 8  # faces, on a CPU; more do not fit into a processor's cache, and large networks are slower by a sixth
SLOW = 0.03  # seconds of a face


class Parts:
    """A session that is asked in parts; safe among threads.

    The threads of one computation wait for each other behind every layer. So ONNX Runtime is given faces that take a
    CPU long one by one, each computed by one thread, as many at once as there are threads: ConvNeXt-Tiny does a sixth
    more of them on two cores. The network is opened a second time for that. For a small one it is not worth it.
    """

    def __init__(
        self, session: Session, computation: Computation, side: int, open_for_one: Callable[[], Session]
    ) -> None:
        """Take a session, what it computes by, the side of its faces in pixels, and what opens it for one thread."""
        self._session, self._threads = session, computation.threads
        self._asked = [value.name for value in session.get_outputs() if value.name != "maps"]
        self._most = IN_CACHE if computation.device == "cpu" else MAX_BATCH
        self._pool: ThreadPoolExecutor | None = None
        may_gain = computation.runtime == ONNXRUNTIME and computation.device == "cpu" and self._threads > 1
        if may_gain and self._seconds(np.zeros((1, side, side, 3), np.uint8)) > SLOW:
            self._for_one, self._pool = open_for_one(), ThreadPoolExecutor(self._threads)

    def outputs(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return all outputs but the maps side by side, float32 (n, 7 + k), for uint8 faces (n, side, side, 3)."""
        if self._pool and len(faces) >= self._threads:
            each = [faces[number : number + 1] for number in range(len(faces))]
            return np.concatenate(list(self._pool.map(lambda face: self._compute(self._for_one, face), each)))
        parts = [faces[start : start + self._most] for start in range(0, len(faces), self._most)]
        rows = [self._compute(self._session, part) for part in parts]
        return np.concatenate(rows) if rows else np.empty((0, len(LABELS)), np.float32)

    def _seconds(self, face: NDArray[np.uint8]) -> float:
        """Return how long one face takes: the least of three, as others may disturb, behind what is done but once."""
        taken = []
        for _ in range(4):
            began = time.perf_counter()
            self._compute(self._session, face)
            taken.append(time.perf_counter() - began)
        return min(taken[1:])

    def _compute(self, session: Session, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.hstack(session.run(self._asked, {"faces": np.ascontiguousarray(faces)}))
