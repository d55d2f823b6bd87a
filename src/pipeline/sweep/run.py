"""A sweep from its first trial to its last one: one run in MLflow, with a child run a trial."""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_SOURCE_NAME
from optuna.trial import TrialState

from pipeline.errors import PipelineError
from pipeline.files import written_whole
from pipeline.registry import tracking
from pipeline.sweep.plan import Plan
from pipeline.sweep.plots import draw_sweep
from pipeline.sweep.report import paste, ranked
from pipeline.sweep.study import locked, next_trial, open_study
from pipeline.sweep.trial import run_trial

logger = logging.getLogger(__name__)

BEST = "best/macro_f1"


def run_sweep(plan: Plan) -> optuna.Study:
    """Run the trials of a sweep that are left, beside other processes with the same plan if there are any.

    Returns:
        the study.

    Raises:
        PipelineError: if there is another sweep of this name, the tracking server is silent, or it is interrupted.
    """
    if plan.params.train.devices != 1:
        logger.warning("warning: a trial trains on one GPU, whatever train.devices says; start it once for each GPU")
    with tracking.answering():
        with locked(plan.folder / "lock"):  # two processes that begin would both make store, experiment and run
            study = open_study(plan)
            client = tracking.connect()
            parent = _parent(plan, client)
        with tracking.killed_unless_done(client, parent):
            try:
                _run_trials(study, plan, client, parent)
            except (KeyboardInterrupt, SystemExit):  # Lightning makes the one into the other
                raise PipelineError(
                    f"the sweep {plan.name} was interrupted; the same command goes on with it"
                ) from None
            with locked(plan.folder / "lock"):
                if not study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):  # in another process
                    _finish(study, plan, client, parent)
    return study


def _run_trials(study: optuna.Study, plan: Plan, client: MlflowClient, parent: str) -> None:
    while True:
        with next_trial(study, plan) as trial:
            if trial is None:
                return
            run_trial(plan, trial, client, parent)
            _log_best(study, plan, client, parent)


def _parent(plan: Plan, client: MlflowClient) -> str:
    """Return the id of the sweep's run: the one that it had, or a new one."""
    file = plan.folder / "run_id"
    run_id = tracking.resume_run(client, file) or tracking.start_run(
        client,
        plan.version,
        {"vary": plan.space.description(), **plan.settings.model_dump(include={"epochs", "seeds"})},
        {MLFLOW_SOURCE_NAME: f"pipeline sweep {plan.version}", "sweep": plan.name, "scale": plan.params.scale},
        name=plan.name,
        experiment=tracking.SWEEPS,
    )
    with written_whole(file) as partial:
        partial.write_text(run_id)
    return run_id


def _log_best(study: optuna.Study, plan: Plan, client: MlflowClient, parent: str) -> None:
    """Say in the sweep's run what the best trial is by now. Its values are tags: MLflow's parameters never change."""
    if best := ranked(study):
        values: Mapping[str, Any] = plan.space.values(best[0].params)
        tags = {"best/trial": str(best[0].number), **{f"best/{key}": str(value) for key, value in values.items()}}
        tracking.log_result(client, parent, {BEST: best[0].value or 0.0}, tags, {})


def _finish(study: optuna.Study, plan: Plan, client: MlflowClient, parent: str) -> None:
    if best := ranked(study):
        with tempfile.TemporaryDirectory() as folder:
            for picture in draw_sweep(study, Path(folder)):
                client.log_artifact(parent, str(picture), "plots")
        client.log_text(parent, paste(plan, plan.space.values(best[0].params)), "best.yaml")
    client.set_terminated(parent)
