"""The network as the front knows it: in a process of its own, with a queue of faces for each of its slots."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.parts import IN_CACHE, MAX_BATCH
from pipeline.serving.gathering import Gathered
from pipeline.serving.lifeline import Lifeline
from pipeline.serving.meters import timed
from pipeline.serving.slots import SLOTS

WARM_UP_CALLS = 12  # what BentoML's batcher measures before it batches
FACES_A_CALL = 2 * IN_CACHE  # of many requests; few enough that others are read and answered meanwhile


class RemoteNetwork:
    """Asks the network's process: for requests over the lifeline, for what goes before them directly."""

    def __init__(self, client: Any, lifeline: Lifeline) -> None:
        """Take BentoML's client of the service `ExpressionClassifier`, and what refuses where that is not there."""
        self._client, self._lifeline = client, lifeline
        self._gathered = {slot: Gathered(partial(self._send, slot), FACES_A_CALL) for slot in SLOTS}

    @property
    def is_ready(self) -> bool:
        """Whether it answered the last time it was asked."""
        return self._lifeline.is_ready

    async def classify(self, slot: str, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map uint8 faces (n, size, size, 3) to `Predictor.outputs` (n, 7 + k), and none to (0, 7), unasked.

        Raises:
            pipeline.serving.errors.OverloadedError: if the network does not answer.
        """
        if not len(faces):
            return np.empty((0, 7), np.float32)
        with timed("network"):
            return await self._gathered[slot](faces)

    async def explain(self, slot: str, face: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Map a face (1, size, size, 3) to its probabilities (7,) and maps (7, height, width); raises as `classify`."""
        said = await self._lifeline.ask(lambda: self._client.explain(slot=slot, face=face))
        return np.array(said["probabilities"], np.float32), np.array(said["maps"], np.float32)

    async def fill(self, slot: str) -> None:
        """Let it open what has come into a slot; this and what follows raises as BentoML's client does."""
        await self._client.call("fill", slot=slot)

    async def empty(self, slot: str) -> None:
        """Let it close what was in a slot."""
        await self._client.call("empty", slot=slot)

    async def warm_up(self, slot: str, size: int) -> dict[str, Any]:
        """Send it some faces (size, size, 3); return the `pipeline.inference.runtimes.Computation` that answers."""
        for _ in range(WARM_UP_CALLS):
            await self._client.call(f"classify_{slot}", np.zeros((1, size, size, 3), np.uint8))
        return await self._client.call("computation", slot=slot)

    async def _send(self, slot: str, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        classify = self._client.classify_a if slot == SLOTS[0] else self._client.classify_b
        parts = [faces[start : start + MAX_BATCH] for start in range(0, len(faces), MAX_BATCH)]
        return np.concatenate([await self._lifeline.ask(partial(classify, part)) for part in parts])
