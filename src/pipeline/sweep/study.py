"""The study of a sweep: which trials there are, in Optuna's SQLite file, and whose turn it is."""

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import optuna
from optuna.trial import Trial, TrialState

from pipeline.errors import PipelineError
from pipeline.sweep.plan import Plan

BEFORE_PRUNING = 4  # trials that come to their end whatever their curves
WAIT = 60  # seconds for another process that writes
BEGUN = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def open_study(plan: Plan) -> optuna.Study:
    """Open the study of a plan, or make it; its first trial is then the recipe as it is, if that lies in the space.

    A trial is pruned where it is worse than the median of those before it at the same epoch (Optuna's `MedianPruner`).

    Raises:
        PipelineError: if there is another sweep of this name.
    """
    plan.store.parent.mkdir(exist_ok=True)
    storage = optuna.storages.RDBStorage(f"sqlite:///{plan.store}", engine_kwargs={"connect_args": {"timeout": WAIT}})
    pruner = optuna.pruners.MedianPruner(n_startup_trials=BEFORE_PRUNING)
    study = optuna.create_study(
        storage=storage, pruner=pruner, study_name=plan.name, direction="maximize", load_if_exists=True
    )
    known = study.user_attrs.get("identity")
    if known is None:
        if present := plan.space.of_recipe():
            study.enqueue_trial(present, skip_if_exists=True)
        study.set_user_attr("identity", plan.identity)
    elif known != plan.identity:
        raise PipelineError(
            f"{plan.store} holds a sweep of another space, recipe or data; choose another --study, or delete the file"
        )
    return study


@contextmanager
def locked(file: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a file's lock, or say that another process has it; the system frees it when its process dies."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def next_trial(study: optuna.Study, plan: Plan) -> Iterator[Trial | None]:
    """Give a trial that is this process's own for as long: one whose process died, else a new one, if any is left."""
    with ExitStack() as held:
        with locked(plan.folder / "lock"):  # so that no two processes take the same
            trial = _abandoned(study, plan) or _new(study, plan)
            if trial:
                held.enter_context(locked(_lock(plan, trial.number), wait=False))
        yield trial


def _abandoned(study: optuna.Study, plan: Plan) -> Trial | None:
    for begun in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        with locked(_lock(plan, begun.number), wait=False) as mine:
            # Another process has it, or has ended it since it was listed.
            if not mine or study.get_trials(deepcopy=False)[begun.number].state != TrialState.RUNNING:
                continue
            trial = Trial(study, begun._trial_id)  # its values and scores stand in the store
            if trial.params.keys() == plan.space.distributions.keys():
                return trial
            trial.set_user_attr("why", "its process died while its values were drawn")
            study.tell(trial, state=TrialState.FAIL)
    return None


def _new(study: optuna.Study, plan: Plan) -> Trial | None:
    begun = len(study.get_trials(deepcopy=False, states=BEGUN))
    if begun >= plan.settings.trials:
        return None
    # By the trial's number: a sampler that began anew with each process would draw the same first trials again.
    study.sampler = optuna.samplers.TPESampler(seed=plan.params.train.seed + begun)
    return study.ask(plan.space.distributions)


def _lock(plan: Plan, number: int) -> Path:
    return plan.folder / str(number) / "lock"
