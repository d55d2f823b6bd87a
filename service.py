"""The Bento: a front service reads pictures and finds faces, and the network behind it answers for their crops."""

import asyncio
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import bentoml
import numpy as np

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "src"))  # inside a Bento the package lies beside this file and is not installed

from pipeline.errors import PipelineError  # noqa: E402
from pipeline.serving.answering import Answerer  # noqa: E402
from pipeline.serving.deployment import lock_file, metrics_folder, open_log, prepare, slots_file  # noqa: E402
from pipeline.serving.endpoint import create_app  # noqa: E402
from pipeline.serving.following import CurrentModel  # noqa: E402
from pipeline.serving.keeper import let_go_of_the_front  # noqa: E402
from pipeline.serving.lifeline import Lifeline, hold  # noqa: E402
from pipeline.serving.meters import Metered, count_in, meters, timed  # noqa: E402
from pipeline.serving.protection.chain import ROUTES, Protection  # noqa: E402
from pipeline.serving.protection.exposure import read_exposure  # noqa: E402
from pipeline.serving.remote import RemoteNetwork  # noqa: E402
from pipeline.serving.slots import read_slots  # noqa: E402

# BentoML makes spans of every request also where nobody collects them, which costs more than reading a small picture.
# Who wants traces says so in a configuration of BentoML's, and has the last word then.
TRACING: Any = {} if any(name.startswith("BENTOML_CONFIG") for name in os.environ) else {"excluded_urls": ["/"]}

try:
    EXPOSURE = read_exposure(os.environ)
except PipelineError as error:
    sys.exit(f"error: {error}")


@bentoml.service(
    name="expression_classifier",
    workers=1,
    logging={"access": {"enabled": False}},  # the front service's log has every request already
    metrics={"enabled": False},  # ours are at /metrics; BentoML's would keep every path that anybody ever asked for
    # After 100 requests BentoML closes a pool of connections with requests still in it, and those fail.
    runner_connection={"max_requests": 10**9, "max_age": 1e9},
    tracing=TRACING,
)
class ExpressionClassifier:
    """The network, one batch at a time; two of them while the service goes over from one to the other."""

    def __init__(self) -> None:
        """Open what the service holds."""
        let_go_of_the_front()
        count_in(metrics_folder())
        self._lock = hold(lock_file())
        self._predictors = {slot: served.open() for slot, served in read_slots(slots_file()).models.items()}

    @bentoml.api
    def fill(self, slot: str) -> None:
        """Open what has come into a slot."""
        self._predictors[slot] = read_slots(slots_file()).models[slot].open()

    @bentoml.api
    def computation(self, slot: str) -> dict[str, Any]:
        """Return what the network in a slot is computed by: `pipeline.inference.runtimes.Computation`."""
        return asdict(self._predictors[slot].computation)

    @bentoml.api  # BentoML's clients have a `close` of their own
    def empty(self, slot: str) -> None:
        """Let go of what is in a slot."""
        self._predictors.pop(slot, None)

    # A batch has faces of one size and answers of one network, so each slot has a queue of its own.
    # `max_latency_ms` sheds load and does not gather it: small values refuse requests that could be answered.
    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=30_000)
    def classify_a(self, faces: np.ndarray) -> np.ndarray:
        """Map uint8 faces (n, size, size, 3) to `Predictor.outputs` (n, 7 + k), by the network in the first slot."""
        return self._compute("a", faces)

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=30_000)
    def classify_b(self, faces: np.ndarray) -> np.ndarray:
        """Do the same by the network in the second slot."""
        return self._compute("b", faces)

    def _compute(self, slot: str, faces: np.ndarray) -> np.ndarray:
        meters().batch.observe(len(faces))
        with timed("compute"):
            return self._predictors[slot].outputs(faces)

    @bentoml.api
    def explain(self, slot: str, face: np.ndarray) -> dict[str, Any]:
        """Map a uint8 face (1, size, size, 3) to its probabilities (7,) and class maps (7, height, width), as lists."""
        (row,), (maps,) = self._predictors[slot].class_maps(face)
        return {"probabilities": row.tolist(), "maps": maps.tolist()}


def backend() -> Answerer:
    """Return what answers in the running service."""
    return bentoml.get_current_service().backend


@bentoml.service(
    name="expression_service",
    workers=1,
    traffic={"timeout": EXPOSURE.grace_seconds},  # `Protection` is first, and answers in our form
    logging={"access": {"enabled": False}},  # `Protection` keeps a line of each request
    metrics={"enabled": False},
    tracing=TRACING,
    runner_probe={"enabled": False},  # it waits for a dead network; `Lifeline` knows
)
@bentoml.asgi_app(create_app(backend))
class ExpressionService:
    """Reads, finds and cuts out in threads; only small crops of checked images go on to the network."""

    classifier = bentoml.depends(ExpressionClassifier)

    def __init__(self) -> None:
        """Open what reads pictures and finds faces."""
        count_in(metrics_folder())
        client = self.classifier.to_async
        self._lifeline = Lifeline(lock_file(), client.url, self._warm_up_network)
        network = RemoteNetwork(client, self._lifeline)
        self._model = CurrentModel(network)
        self.backend = Answerer(self._model, network, open_log())

    @bentoml.on_deployment
    def choose() -> None:  # type: ignore[misc]
        """Choose before any process starts: all serve the same model, also one that is started again later."""
        try:
            prepare(EXPOSURE)
        except PipelineError as error:
            sys.exit(f"error: {error}")

    @bentoml.on_startup
    async def warm_up(self) -> None:
        """Send the network some faces before anybody is told that the service is ready; then follow the pointer."""
        await self._lifeline.open()
        self._following = [asyncio.create_task(each) for each in (self._model.follow(), self._lifeline.follow())]

    async def __is_ready__(self) -> bool:
        """Tell BentoML what to say at /readyz."""
        return self._lifeline.is_ready

    async def __is_alive__(self) -> bool:
        """Tell BentoML what to say at /livez: only who does not come back by itself is not alive."""
        return not self._lifeline.is_dead

    @bentoml.on_shutdown
    def close(self) -> None:
        """Write what the log of predictions has not written yet."""
        self.backend.close()

    async def _warm_up_network(self) -> None:
        await self._model.warm_up()


# Before all routes, BentoML's own too; what is refused is counted.
ExpressionService.add_asgi_middleware(Metered, routes=ROUTES)  # type: ignore[attr-defined]
ExpressionService.add_asgi_middleware(Protection, exposure=EXPOSURE)  # type: ignore[attr-defined]
