"""Lightning's trainer as a recipe wants it: how long, in which precision, who looks on, and what it logs."""

import io
import logging
import math
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.plugins.io import TorchCheckpointIO

from pipeline.params import TrainParams
from pipeline.recipes import Recipe
from pipeline.registry.outbox import Outbox
from pipeline.registry.progress import show_progress
from pipeline.training import processes
from pipeline.training.machine import MachineMetrics
from pipeline.training.model import EpochAveraging, MovingAveraging, choose_precision

logger = logging.getLogger(__name__)

LAST = "last.ckpt"  # what an interrupted training goes on from
# Warnings of what is meant: the folder holds what a training goes on from, frozen layers stay still, an epoch may have
# fewer steps than Lightning logs in one go (here an epoch is logged, not a step), and how many processes load the faces
# is what `train.workers` says, or the data when it says "auto": few faces want none.
KNOWN = (
    r"Checkpoint directory .* exists and is not empty",
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"Found \d+ module\(s\) in eval mode",
    r"The number of training batches \(\d+\) is smaller than the logging interval",
    r"The '\w+' does not have many workers",
)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what Lightning and torch warn of at each start, and nobody can mend, out of the log."""
    with warnings.catch_warnings():
        for message in KNOWN:
            warnings.filterwarnings("ignore", message)
        yield


class StagedStopping(EarlyStopping):
    """Early stopping by validation macro-F1 that ends a stage, and the training only in the last one.

    A stage also ends at its epoch. The next goes on from there, with a best score and a patience of its own, as if
    somebody had started the training again.
    """

    def __init__(self, stages: Sequence[int], patience: int) -> None:
        """Take the epoch at which each stage ends at the latest, if there are several, and the epochs of patience."""
        super().__init__("validation/macro_f1", mode="max", patience=patience)
        self._ends = list(stages[:-1])  # of those that another one follows

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the score of the epoch, and begin the next stage when it is time."""
        super().on_train_epoch_end(trainer, pl_module)
        if self._ends and (trainer.should_stop or trainer.current_epoch + 1 == self._ends[0]):
            del self._ends[0]
            trainer.should_stop = False
            self.wait_count, self.best_score = 0, torch.full_like(self.best_score, -torch.inf)
            logger.info("a stage ends after epoch %d; %d to go", trainer.current_epoch + 1, len(self._ends) + 1)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave a training that is resumed when it had stopped already as it is."""
        trainer.should_stop = not self._ends and self.wait_count >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {**super().state_dict(), "ends": list(self._ends)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on in the stage of the checkpoint."""
        self._ends = list(state_dict["ends"])
        super().load_state_dict(state_dict)


def build_trainer(
    version: str,
    recipe: Recipe,
    work: Path,
    params: TrainParams,
    outbox: Outbox | None,
    *callbacks: Callback,
    parts: int = 1,
) -> pl.Trainer:
    """Build the trainer of a recipe whose batches come in `parts`; see the stage `train` for the rest."""
    curves = CSVLogger(work, name="curves")  # a folder for each time that it goes on
    return pl.Trainer(
        default_root_dir=work,
        max_epochs=recipe.epochs,
        accumulate_grad_batches=recipe.accumulate * parts,
        gradient_clip_val=recipe.clip_gradients,
        precision=choose_precision(params.precision),  # type: ignore[arg-type]
        callbacks=[*callbacks, *build_callbacks(version, recipe), *([MachineMetrics(outbox)] if outbox else [])],
        logger=[outbox, curves] if outbox else [curves],
        enable_model_summary=False,
        enable_progress_bar=sys.stderr.isatty(),
        num_sanity_val_steps=0,
        deterministic="warn",
        plugins=[WholeCheckpoints()],
        **processes.trainer_settings(),
    )


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place before it takes it, so that no kill leaves half a one.

    Lightning's own way leads through the system's temporary folder, which may lie on another disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint; raises OSError where there is no room."""
        content, partial = io.BytesIO(), Path(path).with_suffix(".partial")
        torch.save(checkpoint, content)  # which to a full disk would raise errors of its own
        partial.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(content.getbuffer())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


class Checkpoints(ModelCheckpoint):
    """Lightning's, in a folder that may have been moved since: it would forget the best score, and look in the old one.

    A checkpoint has whole paths in it. The files lie beside it wherever it is, under the same names.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the files that are in the folder now."""
        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        here = {key: self._here(state_dict[key]) for key in paths}
        best = {self._here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **here, "best_k_models": best, "dirpath": self.dirpath})

    def _here(self, path: str) -> str:
        assert self.dirpath is not None
        return str(Path(self.dirpath) / Path(path).name) if path else ""


class KeptCheckpoints(Checkpoints):
    """Those that are kept for good; of a class of its own, since Lightning tells callbacks' states apart by that."""


def build_checkpoints(recipe: Recipe, work: Path) -> list[ModelCheckpoint]:
    """Return what writes checkpoints into the folder of a training: the best, the last, and those to keep beside it."""
    best = Checkpoints(work, "best", monitor="validation/macro_f1", mode="max")
    # With `save_last` it would be written where an epoch is better than those before, and only then.
    last = Checkpoints(work, Path(LAST).stem, enable_version_counter=False, save_on_train_epoch_end=True)
    if recipe.checkpoint_every is None:
        return [best, last]
    kept = KeptCheckpoints(
        work.parent / f"kept-{work.name}",  # `work` itself is deleted at the end
        "epoch-{epoch:03d}",  # counted from 0, as Lightning does inside
        auto_insert_metric_name=False,
        every_n_epochs=recipe.checkpoint_every,
        save_top_k=-1,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    return [best, last, kept]


def build_callbacks(version: str, recipe: Recipe) -> list[Callback]:
    """Return what a recipe adds to a training: early stopping, averaging of weights; and what shows how far it is."""
    callbacks: list[Callback] = [
        LearningRateMonitor("epoch"),  # each step would be a write to the store
        show_progress(version),
    ]
    if recipe.patience:
        callbacks.append(StagedStopping(recipe.stages, recipe.patience))
    if recipe.swa:
        callbacks.append(EpochAveraging(math.floor(recipe.swa.start * recipe.epochs)))
    if recipe.ema:
        callbacks.append(MovingAveraging(recipe.ema.decay))
    return callbacks
