"""Stage 5: train one version on its own datasets; log it to MLflow as it goes; leave weights, facts and curves."""

import hashlib
import json
import logging
import math
import shutil
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from safetensors.torch import load_file

from pipeline import tracking
from pipeline.checkpoint import WEIGHTS, save_checkpoint
from pipeline.command import run
from pipeline.data import FaceData
from pipeline.errors import PipelineError
from pipeline.files import read_json, read_output, sha256_of, written_whole
from pipeline.machine import MachineMetrics
from pipeline.model import EpochAveraging, ExpressionModel, MovingAveraging, choose_precision
from pipeline.networks import ExpressionNetwork, first_weights
from pipeline.outbox import Outbox
from pipeline.params import Params, TrainParams, load_params
from pipeline.progress import show_progress
from pipeline.recipes import Recipe
from pipeline.tables import read_origin

logger = logging.getLogger(__name__)

CHECKPOINTS = Path("checkpoints")  # not DVC's: what is needed to go on after an interruption must outlive a rerun
# What Lightning and torch warn of at each start, and nobody can mend: the folder holds what a training goes on from.
KNOWN = (r"Checkpoint directory .* exists and is not empty", r"`isinstance\(treespec, LeafSpec\)` is deprecated")


def train(
    version: str, recipe: Recipe, data: FaceData, start: Path | None, work: Path, params: TrainParams, outbox: Outbox
) -> tuple[ExpressionNetwork, dict[str, Any]]:
    """Train a version, or go on where an interrupted training of the same recipe and data stopped.

    Args:
        version: its name.
        recipe: as it runs.
        data: its faces.
        start: weights of another version to start from, if any.
        work: folder for the checkpoints to go on from, and the curves.
        params: seed and precision.
        outbox: takes the metrics to the MLflow run.

    Returns:
        the network with its final weights (averaged ones where the recipe averages, else, as it says, those of the last
        epoch or of the one with the best validation macro-F1), and facts about the training, validation scores among
        them.
    """
    # Faces come as (batch, side, side, 3): with channels last, no layer has to turn them around.
    network = ExpressionNetwork(recipe).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if start:
        fresh = first_weights(network, load_file(start), start)
        logger.info("%s starts from %s; new in the head: %s", version, start.parent.name, ", ".join(fresh) or "nothing")
    network.freeze(recipe.trainable)
    if recipe.compile:
        network.backbone.compile()
    model = ExpressionModel(network, recipe, data.train_faces.class_counts(), params.seed)
    best = ModelCheckpoint(work, "best", monitor="validation/macro_f1", mode="max")
    # With `save_last` it would be written where an epoch is better than those before, and only then.
    every = ModelCheckpoint(work, "last", enable_version_counter=False, save_on_train_epoch_end=True)
    trainer = build_trainer(version, recipe, work, params, outbox, best, every)
    last = work / "last.ckpt"
    began = time.monotonic()
    trainer.fit(model, datamodule=data, ckpt_path=last if last.exists() else None)
    seconds = time.monotonic() - began
    if trainer.interrupted:
        raise PipelineError(f"the training of {version} was interrupted; run it again to go on from {last}")
    if recipe.keep == "best" and not (recipe.swa or recipe.ema):
        model.load_state_dict(torch.load(best.best_model_path, weights_only=True)["state_dict"])
    trainer.loggers = []  # the scores of the final weights are no further point of the curves
    (scores,) = trainer.validate(model, datamodule=data, verbose=False)
    return network, {
        "validation": {name.removeprefix("validation/"): value for name, value in scores.items()},
        "epochs": trainer.current_epoch,
        "precision": str(trainer.precision),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "seconds": round(seconds, 1),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "trained_parameters": sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad),
    }


def build_trainer(
    version: str, recipe: Recipe, work: Path, params: TrainParams, outbox: Outbox, *callbacks: Callback
) -> pl.Trainer:
    """Build the trainer of a recipe; see `train` for what it takes."""
    return pl.Trainer(
        default_root_dir=work,
        max_epochs=recipe.epochs,
        accumulate_grad_batches=recipe.accumulate,
        gradient_clip_val=recipe.clip_gradients,
        precision=choose_precision(params.precision),  # type: ignore[arg-type]
        callbacks=[*callbacks, *_callbacks(version, recipe), MachineMetrics(outbox)],
        logger=[outbox, CSVLogger(work, name="curves")],  # curves: a folder for each time that it goes on
        enable_model_summary=False,
        enable_progress_bar=sys.stderr.isatty(),
        num_sanity_val_steps=0,
        deterministic="warn",
    )


def _callbacks(version: str, recipe: Recipe) -> list[Callback]:
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


def choose_start(version: str, recipe: Recipe, made_from: Path, models: Path) -> str | None:
    """Return the parent that the version starts from: of those the recipe names, the best on its validation faces.

    Raises:
        PipelineError: if one of them was not trained.
    """
    parents = {}
    for name in recipe.start_from:
        if not (made_from / f"{name}.json").exists() or not (models / name / WEIGHTS).exists():
            raise PipelineError(
                f"{version} starts from {' or '.join(recipe.start_from)}, but {name} was not trained; add {name} to "
                f"`run`, or set `recipes.{version}.start_from: []`"
            )
        parents[name] = read_json(made_from / f"{name}.json")["validation_macro_f1"]
    return max(parents, key=parents.__getitem__) if parents else None


def write_curves(work: Path, curves: Path) -> None:
    """Write what was logged each epoch as one CSV row an epoch."""
    parts = sorted((work / "curves").glob("*/metrics.csv"), key=lambda part: part.stat().st_mtime)
    logged = pd.concat(pd.read_csv(part).drop(columns="step") for part in parts)
    logged["epoch"] = logged.epoch.bfill().astype(int)  # the rates are logged when an epoch begins, without its number
    with written_whole(curves) as file:
        logged.groupby("epoch").last().round(6).to_csv(file)


def _facts(version: str, params: Params, recipe: Recipe, faces: Path, made_from: Path) -> dict[str, Any]:
    origins = [read_origin(faces, name) for name in recipe.data]
    return {
        "version": version,
        "scale": params.scale,
        "seed": params.train.seed,
        "data": read_output(made_from / "faces.json", f"inputs@{version}"),
        "drawn": any(origin.drawn for origin in origins),
        "detector": next((origin.detector for origin in origins if origin.detector), None),
    }


def main(version: str, faces: Path, splits: Path, made_from: Path, models: Path, curves: Path) -> None:
    """Train VERSION on its datasets in FACES and SPLITS into MODELS, and write its CURVES.

    MADE_FROM is the folder in which the stage `inputs` left the hashes of its data and parents.
    """
    params = load_params()
    recipe = params.recipe(version)
    facts = _facts(version, params, recipe, faces, made_from)
    facts["start_from"] = parent = choose_start(version, recipe, made_from, models)
    start = models / parent / WEIGHTS if parent else None
    identity = json.dumps([facts, recipe.model_dump(), start and sha256_of(start)], sort_keys=True)
    work = CHECKPOINTS / version / hashlib.sha256(identity.encode()).hexdigest()[:16]
    pl.seed_everything(params.train.seed, workers=True, verbose=False)
    data = FaceData(recipe, faces, splits, seed=params.train.seed, workers=params.train.workers)
    recipe = recipe.for_faces(len(data.train_faces))

    tags = {"scale": params.scale, "data_hash": hashlib.sha256(json.dumps(facts["data"]).encode()).hexdigest()}
    with tracking.answering():
        client = tracking.connect()
        run_id = tracking.resume_run(client, work / "run_id") or tracking.start_run(
            client, version, {**recipe.model_dump(), "seed": params.train.seed}, tags
        )
        with written_whole(work / "run_id") as file:
            file.write_text(run_id)
        outbox = Outbox(client, run_id, work / "unsent.jsonl")
        with tracking.killed_unless_done(client, run_id), warnings.catch_warnings():
            for message in KNOWN:
                warnings.filterwarnings("ignore", message)
            network, training = train(version, recipe, data, start, work, params.train, outbox)
        seconds = training.pop("seconds")  # the same training gives the same files, however long it took
        save_checkpoint(models / version, network, recipe, {**facts, **training})
        write_curves(work, curves)
        outbox.send()
        settled = {key: training[key] for key in ("precision", "device", "parameters", "trained_parameters")}
        tracking.log_result(
            client,
            run_id,
            {f"final/{key}": value for key, value in training["validation"].items()},
            {**{key: str(value) for key, value in settled.items()}, "seconds": str(seconds), "start_from": str(parent)},
            {"model": models / version / "model.json", "curves": curves},
        )
        tracking.finish_run(client, run_id, sha256_of(models / version / WEIGHTS))
    shutil.rmtree(work)
    logger.info("%s: validation macro-F1 %.3f in %.0f s", version, training["validation"]["macro_f1"], seconds)


if __name__ == "__main__":
    run(main)
