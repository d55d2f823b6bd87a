"""Lightning's trainer as a recipe wants it: how long, in which precision, who looks on, and what it logs."""

import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, EarlyStopping, LearningRateMonitor
from pytorch_lightning.loggers import CSVLogger

from pipeline import processes
from pipeline.machine import MachineMetrics
from pipeline.model import EpochAveraging, MovingAveraging, choose_precision
from pipeline.outbox import Outbox
from pipeline.params import TrainParams
from pipeline.progress import show_progress
from pipeline.recipes import Recipe

# Warnings of what is meant: the folder holds what a training goes on from, frozen layers stay still.
KNOWN = (
    r"Checkpoint directory .* exists and is not empty",
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"Found \d+ module\(s\) in eval mode",
)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what Lightning and torch warn of at each start, and nobody can mend, out of the log."""
    with warnings.catch_warnings():
        for message in KNOWN:
            warnings.filterwarnings("ignore", message)
        yield


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
        **processes.trainer_settings(),
    )


def build_callbacks(version: str, recipe: Recipe) -> list[Callback]:
    """Return what a recipe adds to a training: early stopping, averaging of weights; and what shows how far it is."""
    callbacks: list[Callback] = [
        LearningRateMonitor("epoch"),  # each step would be a write to the store
        show_progress(version),
    ]
    if recipe.patience:
        callbacks.append(EarlyStopping("validation/macro_f1", mode="max", patience=recipe.patience))
    if recipe.swa:
        callbacks.append(EpochAveraging(math.floor(recipe.swa.start * recipe.epochs)))
    if recipe.ema:
        callbacks.append(MovingAveraging(recipe.ema.decay))
    return callbacks
