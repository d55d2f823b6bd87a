"""Metrics on their way to MLflow, kept in a file until it has them: a tracking server that dies costs no training."""

import json
import logging
import os
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.utils.time import get_current_time_millis
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

logger = logging.getLogger(__name__)

PAUSE = 60.0  # seconds after which a server that did not answer is asked again
PATIENCE = 5  # seconds that it has to answer while a training waits
MOST = 1000  # metrics that MLflow takes at once


class Outbox(Logger):
    """Lightning's logger for one run: what the server does not take waits in a file, also for the next process."""

    def __init__(self, client: MlflowClient, run_id: str, file: Path, prefix: str = "") -> None:
        """Log to a run, with a file of one metric a line for those that were not sent; names begin with `prefix`."""
        super().__init__()
        self._client, self._run_id, self._file, self._prefix = client, run_id, file, prefix
        self._not_before = 0.0

    @property
    def name(self) -> str:
        """Return a name for Lightning's folders, of which this needs none."""
        return "mlflow"

    @property
    def version(self) -> str:
        """Return the run's id."""
        return self._run_id

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Leave the parameters alone: the run has had the recipe's from its start."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Put metrics into the file, and send what is there, unless the server was silent a moment ago."""
        now = get_current_time_millis()
        with self._file.open("a", encoding="utf-8") as file:
            for key, value in metrics.items():
                file.write("\n" + json.dumps([self._prefix + key, float(value), now, step or 0]))
        if time.monotonic() < self._not_before:
            return
        try:
            with impatient():
                self.send()
        except MlflowException as error:
            self._not_before = time.monotonic() + PAUSE
            logger.warning("warning: MLflow does not answer; metrics wait in %s (%s)", self._file, _first_line(error))

    def send(self) -> None:
        """Send what waits; raises MlflowException if the server does not take it."""
        if not self._file.exists():
            return
        lines = self._file.read_text(encoding="utf-8").splitlines()
        metrics = [Metric(*json.loads(line)) for line in lines if line.endswith("]")]  # a full disk may cut one off
        for first in range(0, len(metrics), MOST):
            self._client.log_batch(self._run_id, metrics=metrics[first : first + MOST])
        self._file.unlink()


@contextmanager
def impatient() -> Iterator[None]:
    """Ask the tracking server once, with little time to answer; a silent one would otherwise be waited for for minutes.

    MLflow looks into the environment each time that it asks.
    """
    wanted = {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(PATIENCE), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    before = {name: os.environ[name] for name in wanted if name in os.environ}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name in wanted:
            del os.environ[name]
        os.environ.update(before)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200]
