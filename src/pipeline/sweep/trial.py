"""One trial: the recipe with drawn values, trained by the training stage's own function, as a run of its own."""

import logging
import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_SOURCE_NAME
from optuna import TrialPruned
from optuna.trial import Trial, TrialState
from pytorch_lightning.callbacks import Callback

from pipeline.errors import NotFiniteError, PipelineError, ValuesError
from pipeline.files import written_whole
from pipeline.networks.network import check_network
from pipeline.recipes import Recipe
from pipeline.registry import tracking
from pipeline.registry.outbox import Outbox
from pipeline.stages.train import train
from pipeline.sweep.plan import FACES, SPLITS, Plan
from pipeline.training.augment import augmentation_of
from pipeline.training.balancing import Copies
from pipeline.training.clips import open_data

logger = logging.getLogger(__name__)

WARM_UP = 0.25  # of the epochs, in which no trial is pruned
SCORE = "final/macro_f1"  # as in the run of a version: of the trained network, on validation faces
STATUS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "FINISHED", TrialState.FAIL: "FAILED"}


class Pruning(Callback):
    """Tells Optuna the validation macro-F1 of each epoch, and ends the training when it calls it hopeless."""

    def __init__(self, trial: Trial) -> None:
        """Take the trial to report to."""
        self.trial = trial

    def on_train_epoch_end(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        """Report, and raise TrialPruned; validation is over by then."""
        epochs, whole = trainer.current_epoch + 1, int(trainer.max_epochs or 0)
        self.trial.report(float(trainer.callback_metrics["validation/macro_f1"]), trainer.current_epoch)
        if WARM_UP * whole < epochs < whole and self.trial.should_prune():
            raise TrialPruned(f"pruned after {epochs} of {whole} epochs")


@dataclass(frozen=True)
class Attempt:
    """A trial of a sweep, and its MLflow run."""

    plan: Plan
    trial: Trial
    client: MlflowClient
    run_id: str

    @property
    def folder(self) -> Path:
        """Where it keeps what it needs to go on."""
        return self.plan.folder / str(self.trial.number)

    def scores(self) -> list[float]:
        """Train with each seed, but for those whose score is known from before an interruption.

        Returns:
            the validation macro-F1 of each seed.

        Raises:
            ValuesError: if the values do not go together, or with the version that it starts from.
            NotFiniteError: if the loss is not finite.
            TrialPruned: if the first seed does worse than most trials did.
        """
        try:
            recipe = self.plan.recipe(self.plan.space.values(self.trial.params))
            check_network(recipe)
            augmentation_of(recipe)
            if recipe.balance:
                Copies(np.empty(0, np.int64), recipe.balance, recipe.image_size, seed=0)
        except PipelineError as error:
            raise ValuesError(str(error)) from error
        seeds = [self.plan.params.train.seed + number for number in range(self.plan.settings.seeds)]
        for seed in seeds:
            if f"seed {seed}" not in self.trial.user_attrs:
                self.trial.set_user_attr(f"seed {seed}", self._train(recipe, seed, first=seed == seeds[0]))
        return [self.trial.user_attrs[f"seed {seed}"] for seed in seeds]

    def _train(self, recipe: Recipe, seed: int, *, first: bool) -> float:
        work = self.folder / str(seed)
        work.mkdir(parents=True, exist_ok=True)
        outbox = Outbox(self.client, self.run_id, work / "unsent.jsonl", prefix="" if first else f"seed_{seed}/")
        params = self.plan.params.train.model_copy(update={"seed": seed})
        data = open_data(recipe, FACES, SPLITS, seed=seed, workers=params.workers)
        recipe = recipe.for_faces(len(data.train_faces))
        looking_on = [Pruning(self.trial)] if first else []
        name = trial_name(self.plan, self.trial)
        _, facts = train(name, recipe, data, self.plan.parents, work, params, outbox, *looking_on)
        outbox.send()
        return facts["validation"]["macro_f1"]


def run_trial(plan: Plan, trial: Trial, client: MlflowClient, parent: str) -> None:
    """Train a trial, or go on with one whose process died, and settle it in its MLflow run and in the study.

    Values that do not go together, or that train to a loss that is not finite, or need more memory than there is, fail
    the trial and not the sweep.

    Args:
        plan: the sweep.
        trial: this process's own.
        client: of the tracking store.
        parent: the id of the sweep's run.

    Raises:
        MlflowException: if the tracking server does not answer; the trial then waits for the next process.
    """
    name, values = trial_name(plan, trial), plan.space.values(trial.params)
    logger.info("%s: %s", name, ", ".join(f"{key}={value}" for key, value in values.items()))
    attempt = Attempt(plan, trial, client, _run(plan, trial, client, parent))
    metrics: dict[str, float] = {}
    with tracking.killed_unless_done(client, attempt.run_id):
        try:
            metrics[SCORE] = statistics.fmean(attempt.scores())
            state, why = TrialState.COMPLETE, ""
        except TrialPruned as pruned:
            state, why = TrialState.PRUNED, str(pruned)
        except (ValuesError, NotFiniteError, torch.OutOfMemoryError) as error:
            state, why = TrialState.FAIL, " ".join(str(error).split())
        tags = {"state": state.name.lower(), "why": why[:500]}
        tracking.log_result(client, attempt.run_id, metrics, tags, {})
        client.set_terminated(attempt.run_id, STATUS[state])
    trial.set_user_attr("why", why)
    trial.study.tell(trial, metrics.get(SCORE), state)
    logger.info("%s: %s", name, why or f"validation macro-F1 {metrics[SCORE]:.3f}")
    for checkpoint in attempt.folder.rglob("*.ckpt"):
        checkpoint.unlink()
    if state != TrialState.FAIL:  # where the batch of a loss that is not finite is kept
        shutil.rmtree(attempt.folder)


def trial_name(plan: Plan, trial: Trial) -> str:
    """Return what a trial is called in logs and in MLflow."""
    return f"{plan.version} trial {trial.number}"


def _run(plan: Plan, trial: Trial, client: MlflowClient, parent: str) -> str:
    """Return the id of the trial's run: the one that it had, or a new one below the sweep's."""
    file = plan.folder / str(trial.number) / "run_id"
    tags = {MLFLOW_PARENT_RUN_ID: parent, MLFLOW_SOURCE_NAME: f"pipeline sweep {plan.version}"}
    tags |= {"sweep": plan.name, "scale": plan.params.scale}
    run_id = tracking.resume_run(client, file) or tracking.start_run(
        client,
        plan.version,
        plan.space.values(trial.params),
        tags,
        name=trial_name(plan, trial),
        experiment=tracking.SWEEPS,
    )
    with written_whole(file) as partial:
        partial.write_text(run_id)
    return run_id
