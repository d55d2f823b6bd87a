"""Stage 5: train one version on its own datasets; log it to MLflow as it goes; leave weights, facts and curves."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import pytorch_lightning as pl
import torch
import typer
from pytorch_lightning.callbacks import Callback
from safetensors.torch import load_file

from pipeline.command import run
from pipeline.datasets.tables import read_origin
from pipeline.errors import PipelineError
from pipeline.files import NO_ROOM, read_output, sha256_of, written_whole
from pipeline.networks.checkpoint import WEIGHTS, save_checkpoint
from pipeline.networks.network import ExpressionNetwork, first_weights
from pipeline.networks.recurrent import build_network
from pipeline.params import Params, TrainParams, load_params
from pipeline.recipes import Recipe
from pipeline.registry import tracking
from pipeline.registry.checkout import checked_out
from pipeline.registry.outbox import Outbox
from pipeline.registry.progress import Stopwatch
from pipeline.training import processes
from pipeline.training.calibration import calibrate
from pipeline.training.clips import open_data
from pipeline.training.data import RecipeData
from pipeline.training.launch import count_wanted, launch
from pipeline.training.memory import GO_ON, within_memory
from pipeline.training.model import Averaging, ExpressionModel, choose_precision
from pipeline.training.parents import Parents, find_parents
from pipeline.training.trainer import LAST, build_checkpoints, build_trainer, quiet

logger = logging.getLogger(__name__)

CHECKPOINTS = Path("checkpoints")  # not DVC's: what is needed to go on after an interruption must outlive a rerun


@quiet()
def train(
    version: str,
    recipe: Recipe,
    data: RecipeData,
    parents: Parents,
    work: Path,
    params: TrainParams,
    outbox: Outbox | None,
    *callbacks: Callback,
) -> tuple[ExpressionNetwork, dict[str, Any]]:
    """Train a version, or go on where an interrupted training of the same recipe and data stopped.

    Args:
        version: its name.
        recipe: as it runs.
        data: its faces, or clips.
        parents: the version to start from, if any, and those that teach it.
        work: folder for the checkpoints to go on from, and the curves.
        params: seed and precision.
        outbox: takes the metrics to the MLflow run; only the first process has one.
        callbacks: what else looks on, as a sweep does.

    Returns:
        the network with its final weights (averaged ones where the recipe averages, else, as it says, those of the last
        epoch or of the one with the best validation macro-F1), and facts about the training, validation scores among
        them.
    """
    pl.seed_everything(params.seed, workers=True, verbose=False)  # here, as memory may run out, and all begin again
    # Faces come as (batch, side, side, 3): with channels last, no layer has to turn them around.
    network = build_network(recipe, pretrained=False if parents.start else None)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if start := parents.start:
        fresh = first_weights(network, load_file(start.weights), start.weights)
        logger.info("%s starts from %s; new in the head: %s", version, start.folder.name, ", ".join(fresh) or "nothing")
    network.freeze(recipe.trainable)
    # Between processes batch norm is shared, and one face in each is enough.
    data.least = 2 if processes.has_batch_norm(network) and processes.count() == 1 else 1
    processes.share_batch_norm(network, version)
    if recipe.compile:
        network.backbone.compile()
    model = ExpressionModel(network, recipe, data.train_faces.class_counts(), params.seed, parents.teachers)
    best, *others = build_checkpoints(recipe, work)
    last = work / LAST
    agreement = processes.Agreement(work.name, data.parts, last.exists())
    watch = Stopwatch()
    trainer = build_trainer(
        version, recipe, work, params, outbox, *callbacks, agreement, watch, best, *others, parts=data.parts
    )
    trainer.fit(model, datamodule=data, ckpt_path=last if last.exists() else None)
    seconds = float(watch)
    looking_on: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    averaged = any(each.has_begun for each in looking_on if isinstance(each, Averaging))
    if recipe.keep == "best" and not averaged and processes.rank() == 0:  # the others are given it
        kept = torch.load(best.best_model_path, weights_only=True)
        # Where an average was to be taken, its place in the checkpoint has the first random weights until it begins.
        model.load_state_dict(kept.get("current_model_state", kept["state_dict"]))
    trainer.loggers = []  # the scores of the final weights are no further point of the curves
    (scores,) = trainer.validate(model, datamodule=data, verbose=False)
    return network, {
        "validation": {name.removeprefix("validation/"): value for name, value in scores.items()},
        "temperature": round(calibrate(network.eval(), data.validation_faces, data.workers), 6),
        "epochs": _epochs(trainer),
        "precision": str(trainer.precision),
        "processes": processes.count(),
        "batch_parts": data.parts,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "seconds": round(seconds, 1),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "trained_parameters": sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad),
    }


@contextmanager
def interruptions(version: str, work: Path) -> Iterator[None]:
    """Say in a sentence that a training was interrupted, or that its folder is full; it goes on when it is run again.

    Raises:
        PipelineError: instead of the errors of Lightning and the system.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:  # Lightning makes the one into the other
        if processes.count() > 1:  # who started them speaks
            raise
        raise PipelineError(f"the training of {version} was interrupted; {GO_ON}") from error
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise PipelineError(f"{work} can not be written: {error.strerror}; make room; {GO_ON}") from error


def _epochs(trainer: pl.Trainer) -> int:
    """Return the epochs that were trained; `current_epoch` is one behind where the training was over already."""
    progress: Any = trainer.fit_loop.epoch_progress.current
    return progress.processed


def write_curves(work: Path, curves: Path) -> None:
    """Write what was logged each epoch as one CSV row an epoch."""
    parts = sorted((work / "curves").glob("*/metrics.csv"), key=lambda part: part.stat().st_mtime)
    logged = pd.concat(pd.read_csv(part).drop(columns="step") for part in parts)
    logged["epoch"] = logged.epoch.bfill().astype(int)  # the rates are logged when an epoch begins, without its number
    with written_whole(curves) as file:
        logged.groupby("epoch").last().round(6).to_csv(file)


def _facts(
    version: str, params: Params, recipe: Recipe, faces: Path, made_from: Path, parents: Parents
) -> dict[str, Any]:
    origins = [read_origin(faces, name) for name in recipe.data]
    drawn = any(origin.drawn for origin in origins)
    return {
        "version": version,
        "scale": params.scale,
        "seed": params.train.seed,
        "data": read_output(made_from / "faces.json", f"inputs@{version}"),
        "drawn": drawn or parents.drawn,  # what its parents learned from counts as well
        "detector": next((origin.detector for origin in origins if origin.detector), None),
        **parents.facts,
    }


def main(
    version: str,
    faces: Path,
    splits: Path,
    made_from: Path,
    models: Path,
    curves: Path,
    clips: Annotated[Path | None, typer.Option(help="folder of the clips, which a recurrent version reads")] = None,
) -> None:
    """Train VERSION on its datasets in FACES and SPLITS into MODELS, and write its CURVES.

    MADE_FROM is the folder in which the stage `inputs` left the hashes of its data and parents.
    """
    params = load_params()
    recipe = params.recipe(version)
    if recipe.recurrent and clips:
        faces = clips
    parents = find_parents(version, recipe, made_from, models)
    facts = _facts(version, params, recipe, faces, made_from, parents)
    if (count := count_wanted(params.train.devices)) > 1:
        launch(count, "pipeline.stages.train", version, faces, splits, made_from, models, curves)
        return
    precision = choose_precision(params.train.precision)
    identity = json.dumps([facts, recipe.model_dump(), precision, parents.sha256()], sort_keys=True)
    work = CHECKPOINTS / version / hashlib.sha256(identity.encode()).hexdigest()[:16]
    data = open_data(recipe, faces, splits, seed=params.train.seed, workers=params.train.workers)
    recipe = recipe.for_faces(len(data.train_faces))

    def trained(outbox: Outbox | None) -> tuple[ExpressionNetwork, dict[str, Any]]:
        with processes.missed(), interruptions(version, work):
            return within_memory(
                version, data, work, lambda: train(version, recipe, data, parents, work, params.train, outbox)
            )

    if processes.rank():  # the first one says and writes everything
        logging.disable(logging.INFO)
        trained(None)
        return
    tags = {"scale": params.scale, "data_hash": tracking.data_hash(facts)}
    with tracking.answering():
        client = tracking.connect()
        run_id = tracking.resume_run(client, work / "run_id") or tracking.start_run(
            client, version, {**recipe.model_dump(), "seed": params.train.seed}, tags
        )
        with written_whole(work / "run_id") as file:
            file.write_text(run_id)
        outbox = Outbox(client, run_id, work / "unsent.jsonl")
        with tracking.killed_unless_done(client, run_id):
            network, training = trained(outbox)
        seconds = training.pop("seconds")  # the same training gives the same files, however long it took
        save_checkpoint(models / version, network, recipe, {**facts, **training, **checked_out()})
        write_curves(work, curves)
        outbox.send()
        settled = {key: value for key, value in training.items() if key not in ("validation", "epochs")}
        tracking.log_result(
            client,
            run_id,
            {f"final/{key}": value for key, value in training["validation"].items()},
            {key: str(value) for key, value in {**settled, "seconds": seconds, **parents.facts}.items()},
            {"model": models / version / "model.json", "curves": curves},
        )
        tracking.finish_run(client, run_id, sha256_of(models / version / WEIGHTS))
    shutil.rmtree(work)
    logger.info("%s: validation macro-F1 %.3f in %.0f s", version, training["validation"]["macro_f1"], seconds)


if __name__ == "__main__":
    run(main)
