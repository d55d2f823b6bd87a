"""Progress of a training: a bar on a terminal, a line an epoch in a log."""

import logging
import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, TQDMProgressBar

logger = logging.getLogger(__name__)


class EpochLines(Callback):
    """Logs a line an epoch: scores, training faces a second, and the time left."""

    def __init__(self, version: str) -> None:
        """Take the name to begin each line with."""
        self.version = version
        self._began = 0.0
        self._faces = 0

    def on_train_epoch_start(self, *_: Any) -> None:
        """Start the clock."""
        self._began, self._faces = time.monotonic(), 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, model: pl.LightningModule, outputs: Any, batch: Any, _: int
    ) -> None:
        """Count the faces."""
        self._faces += len(batch[0])

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Log the line; validation is over by then."""
        seconds = time.monotonic() - self._began
        done, whole = trainer.current_epoch + 1, trainer.max_epochs or 0
        scores = {name: float(value) for name, value in trainer.callback_metrics.items()}
        logger.info(
            "%s epoch %d/%d: loss %.3f, validation macro-F1 %.3f, %.0f faces/s, at most %.0f s left",
            self.version, done, whole, scores["train/loss"], scores["validation/macro_f1"],
            self._faces / seconds, seconds * (whole - done),
        )  # fmt: skip


def show_progress(version: str) -> Callback:
    """Return what shows the progress of a training where its output goes."""
    return TQDMProgressBar(refresh_rate=5) if sys.stderr.isatty() else EpochLines(version)
