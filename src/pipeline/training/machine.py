"""What a training asks of its machine, as metrics of its run: faces a second, and the load of CPU, memory and GPU."""

import time
from typing import Any

import pytorch_lightning as pl
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from pytorch_lightning.callbacks import Callback

from pipeline.registry.outbox import Outbox
from pipeline.registry.progress import Speed

SECONDS = 10.0  # between two looks at the machine


class MachineMetrics(Callback):
    """Sends `train/images_per_second` for each epoch, and MLflow's `system/...` metrics every ten seconds.

    They go to the run alone: the curves beside the model are the same for the same training, on whatever machine. Of
    MLflow's monitor only the measuring is used. Its own thread asks the server for the run each time, and ends for good
    when that is silent once.
    """

    def __init__(self, outbox: Outbox) -> None:
        """Take what brings metrics to the run, or keeps them while the tracking server is silent."""
        self._outbox = outbox
        self._monitor: SystemMetricsMonitor | None = None
        self._speed, self._looked = Speed(), 0.0

    def on_fit_start(self, *_: Any) -> None:
        """Begin to measure; the CPU's load is that since the look before, so this one does not count."""
        self._monitor = SystemMetricsMonitor(self._outbox.version)
        self._monitor.collect_metrics()
        self._forget()

    def on_train_epoch_start(self, *_: Any) -> None:
        """Start the clock of the epoch."""
        self._speed = Speed()

    def on_train_batch_end(
        self, trainer: pl.Trainer, model: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Count the faces, and look at the machine when it is time."""
        self._speed.add(trainer, batch)
        self._look_if_time(trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Look at the machine when it is time."""
        self._look_if_time(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Send the faces that were trained on in a second; the time of the validation is not in it."""
        step = trainer.global_step - 1  # as `train/loss` has it
        self._outbox.log_metrics({"train/images_per_second": float(self._speed)}, step)

    def on_train_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Look once more, so that a short training has a look as well."""
        self._look(trainer)

    def _look_if_time(self, trainer: pl.Trainer) -> None:
        if self._monitor and time.monotonic() - self._looked > SECONDS:
            self._look(trainer)

    def _look(self, trainer: pl.Trainer) -> None:
        assert self._monitor is not None  # a training has begun
        self._monitor.collect_metrics()
        found = self._monitor.aggregate_metrics()
        self._outbox.log_metrics({f"system/{name}": value for name, value in found.items()}, trainer.global_step)
        self._forget()

    def _forget(self) -> None:
        assert self._monitor is not None
        for part in self._monitor.monitors:
            part.clear_metrics()
        self._looked = time.monotonic()
