"""The Bento: a front service reads pictures and finds faces, and the network behind it answers for their crops."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import bentoml
import numpy as np
from anyio.to_thread import run_sync
from bentoml.exceptions import BentoMLException

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "src"))  # inside a Bento the package lies beside this file and is not installed

from pipeline.endpoint import OverloadedError, create_app  # noqa: E402
from pipeline.errors import PipelineError  # noqa: E402
from pipeline.pointer import choose_model  # noqa: E402
from pipeline.predictor import Predictor  # noqa: E402
from pipeline.transforms import encode  # noqa: E402

log = logging.getLogger("bentoml.serve")  # BentoML shows this one

SERVED = "FER_SERVED"
WARM_UP_CALLS = 12  # what BentoML's batcher measures before it batches


def open_served() -> Predictor:
    """Open the model that was chosen when the server started."""
    served, yunet = json.loads(os.environ[SERVED]), os.environ.get("FER_YUNET")
    file = Path(served.pop("model_file"))
    return Predictor(file, **served, yunet=Path(yunet) if yunet else None)


@bentoml.service(
    name="expression_classifier",
    workers=1,
    logging={"access": {"enabled": False}},  # the front service's log has every request already
    # After 100 requests BentoML closes a pool of connections with requests still in it, and those fail.
    runner_connection={"max_requests": 10**9, "max_age": 1e9},
)
class ExpressionClassifier:
    """The network, one batch at a time."""

    def __init__(self) -> None:
        """Open the network."""
        self._predictor = open_served()

    # `max_latency_ms` sheds load and does not gather it: small values refuse requests that could be answered.
    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=30_000)
    def classify(self, faces: np.ndarray) -> np.ndarray:
        """Map uint8 faces (n, size, size, 3) to float32 probabilities (n, 7)."""
        return self._predictor.probabilities(faces)


@bentoml.service(name="expression_service", workers=1, traffic={"max_concurrency": 64, "timeout": 60})
@bentoml.asgi_app(create_app(bentoml.get_current_service))
class ExpressionService:
    """Reads, finds and cuts out in threads; only small crops of checked images go on to the network."""

    classifier = bentoml.depends(ExpressionClassifier)

    def __init__(self) -> None:
        """Open what reads pictures and finds faces; one thread a core works on them."""
        self._predictor = open_served()
        self._threads = anyio.CapacityLimiter(os.cpu_count() or 1)

    @bentoml.on_deployment
    def choose() -> None:  # type: ignore[misc]
        """Choose once, before any process starts: all serve the same model, also one that is started again later."""
        try:
            pointer, file = choose_model(Path(os.environ.get("FER_POINTER", ROOT / "models" / "champion.json")))
            os.environ[SERVED] = json.dumps(
                {"model_file": str(file.resolve()), "name": pointer.name, "version": pointer.version}
            )
            open_served()  # what cannot be served is told here, once, and not by processes that die in turn
        except PipelineError as error:
            sys.exit(f"error: {error}")

    @bentoml.on_startup
    async def warm_up(self) -> None:
        """Send the network some faces before anybody is told that the service is ready."""
        network = self.classifier.to_async
        await network.wait_until_server_ready(300)
        await run_sync(self._predictor.faces, encode(np.zeros((64, 64, 3), np.uint8)))
        size = self._predictor.image_size
        for _ in range(WARM_UP_CALLS):
            await network.call("classify", np.zeros((1, size, size, 3), np.uint8))

    def describe(self) -> dict[str, Any]:
        """Return the model's name, version and facts."""
        return {**self._predictor.model, "facts": self._predictor.facts}

    async def answer(self, image: bytes, detect: bool) -> dict[str, Any]:
        """Answer for one encoded image; raises `ImageError`, or `OverloadedError` where the network has no time."""
        found = await run_sync(self._predictor.faces, image, detect, limiter=self._threads)
        rows = await self._classify(self._predictor.stack(found)) if found else np.empty((0, 7), np.float32)
        return self._predictor.answer([face for face, _ in found], rows)

    async def _classify(self, faces: np.ndarray) -> np.ndarray:
        classify = self.classifier.to_async.classify
        try:
            try:
                return await classify(faces)
            except aiohttp.ClientConnectionError as error:
                log.info("asking the network again after %r", error)
                # Its server hangs up after five idle seconds, at times just when a connection is used again.
                return await classify(faces)
        except (BentoMLException, aiohttp.ClientError, TimeoutError) as error:
            log.warning("the network did not answer: %r", error)
            raise OverloadedError("the network is busy or starting again; try later") from error
