"""Progress of a training: a bar on a terminal, a line an epoch in a log."""

import logging
import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, TQDMProgressBar

logger = logging.getLogger(__name__)


SECONDS = 60.0  # between two lines of a long epoch


class Speed:
    """How fast an epoch trains: the faces of all processes by the time up to its last step, without validation."""

    def __init__(self) -> None:
        """Start the clock."""
        self.began = self._ended = time.monotonic()
        self._faces = 0

    def add(self, trainer: pl.Trainer, batch: Any) -> None:
        """Count a step's faces."""
        self._ended = time.monotonic()
        self._faces += len(batch[0]) * trainer.world_size

    def __float__(self) -> float:
        """Return the faces a second."""
        return self._faces / (self._ended - self.began)


class EpochLines(Callback):
    """Logs a line an epoch: scores, training faces a second, and the time left; in a long epoch, a line a minute."""

    def __init__(self, version: str) -> None:
        """Take the name to begin each line with."""
        self.version = version
        self._speed, self._said = Speed(), 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        """Start the clock."""
        self._speed = Speed()
        self._said = self._speed.began

    def on_train_batch_end(
        self, trainer: pl.Trainer, model: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Count the faces, and say how far it is if it was silent for long."""
        self._speed.add(trainer, batch)
        now = time.monotonic()
        if now - self._said < SECONDS:
            return
        self._said = now
        share = (index + 1) / trainer.num_training_batches
        logger.info(
            "%s epoch %d/%d: %.0f %%, %.0f faces/s, about %.0f s of it left",
            self.version, trainer.current_epoch + 1, trainer.max_epochs or 0, 100 * share,
            self._speed, (now - self._speed.began) * (1 / share - 1),
        )  # fmt: skip

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Log the line; validation is over by then."""
        seconds = time.monotonic() - self._speed.began
        done, whole = trainer.current_epoch + 1, trainer.max_epochs or 0
        scores = {name: float(value) for name, value in trainer.callback_metrics.items()}
        logger.info(
            "%s epoch %d/%d: loss %.3f, validation macro-F1 %.3f, %.0f faces/s, at most %.0f s left",
            self.version, done, whole, scores["train/loss"], scores["validation/macro_f1"],
            self._speed, seconds * (whole - done),
        )  # fmt: skip


class Stopwatch(Callback):
    """The seconds that a training takes, with those of its interrupted parts up to the checkpoint it goes on from."""

    def __init__(self) -> None:
        """Begin at 0."""
        self._before, self._began = 0.0, time.monotonic()

    def __float__(self) -> float:
        """Return the seconds so far."""
        return self._before + time.monotonic() - self._began

    def on_fit_start(self, *_: Any) -> None:
        """Start the clock; a checkpoint was read by then."""
        self._began = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {"seconds": float(self)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Add to what the checkpoint had taken."""
        self._before = state_dict["seconds"]


def show_progress(version: str) -> Callback:
    """Return what shows the progress of a training where its output goes."""
    return TQDMProgressBar(refresh_rate=5) if sys.stderr.isatty() else EpochLines(version)
