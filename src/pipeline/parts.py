"""In which parts an opened network is given faces, and how many of these at once: what is quickest here."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from pipeline.labels import LABELS
from pipeline.runtimes import ONNXRUNTIME, Computation, Session

MAX_BATCH = 64
IN_CACHE = 8  # faces, on a CPU; more do not fit into a processor's cache, and large networks are slower by a sixth
SLOW = 0.03  # seconds of a face
AT_ONCE = 8


class Parts:
    """A session that is asked in parts; safe among threads.

    The threads of one computation wait for each other behind every layer. A network that takes long for a face is given
    them one by one, several at once, so that there is always something to do: ConvNeXt-Tiny does a fifth more on two
    cores. For a small one the calls would cost more than that.
    """

    def __init__(self, session: Session, computation: Computation, side: int) -> None:
        """Take a session, what it computes by, and the side of its faces in pixels."""
        self._session = session
        self._asked = [value.name for value in session.get_outputs() if value.name != "maps"]
        self._most = IN_CACHE if computation.device == "cpu" else MAX_BATCH
        self._pool: ThreadPoolExecutor | None = None
        if computation.runtime == ONNXRUNTIME and computation.device == "cpu" and computation.threads > 1:
            self._settle(np.zeros((1, side, side, 3), np.uint8))

    def outputs(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return all outputs but the maps side by side, float32 (n, 7 + k), for uint8 faces (n, side, side, 3)."""
        parts = [faces[start : start + self._most] for start in range(0, len(faces), self._most)]
        run = self._pool.map if self._pool and len(parts) > 1 else map
        rows = list(run(self._compute, parts))
        return np.concatenate(rows) if rows else np.empty((0, len(LABELS)), np.float32)

    def _settle(self, face: NDArray[np.uint8]) -> None:
        self._compute(face)  # what is done once, at the first call, does not count
        began = time.perf_counter()
        self._compute(face)
        if time.perf_counter() - began > SLOW:
            self._most, self._pool = 1, ThreadPoolExecutor(AT_ONCE)

    def _compute(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.hstack(self._session.run(self._asked, {"faces": np.ascontiguousarray(faces)}))
