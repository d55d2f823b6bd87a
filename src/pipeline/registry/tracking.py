"""MLflow: one experiment, one run a version, and what a run and a registered model must say about themselves."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE
from mlflow.utils.time import get_current_time_millis
from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH, MAX_TAG_VAL_LENGTH

from pipeline.errors import PipelineError
from pipeline.registry.checkout import checked_out, experiment_root

EXPERIMENT = "expression-recipes"
SWEEPS = "expression-sweeps"  # apart, so that no trial is ever taken for a version
DECISIONS = "expression-decisions"  # of the gate
ARTIFACTS = Path("mlartifacts")
Entity = TypeVar("Entity")


def tracking_uri() -> str:
    """Return `MLFLOW_TRACKING_URI`, else the SQLite file at the repository's root."""
    root = experiment_root()
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root / 'mlflow.db' if root else 'mlflow.db'}"


def connect() -> MlflowClient:
    """Return a client of the tracking server and registry in use."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # by default it would ask a dead server for minutes
    mlflow.set_tracking_uri(tracking_uri())  # what reads and writes artifacts asks for it behind the client's back
    return MlflowClient(tracking_uri=tracking_uri(), registry_uri=tracking_uri())


def start_run(
    client: MlflowClient,
    version: str,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    *,
    name: str | None = None,
    experiment: str = EXPERIMENT,
    source: str | None = None,
) -> str:
    """Start the run of a version, or of a trial of it in an experiment apart, and return its id.

    Args:
        client: the client.
        version: the version's name.
        params: nested parameters; logged with dotted names.
        tags: searchable facts, such as the hash of the data; what is longer than a database takes is cut.
        name: the run's name, where it is not the version's.
        experiment: where it belongs.
        source: the stage that makes it, where that is not the version's training.
    """
    cut = {key: value[:MAX_TAG_VAL_LENGTH] for key, value in tags.items()}  # MLflow cuts those that are set later
    run = client.create_run(
        _experiment(client, experiment),
        run_name=name or version,
        tags={"version": version, **_source_tags(source or f"train@{version}"), **cut},
    )
    flat = [Param(key, str(value)[:MAX_PARAM_VAL_LENGTH]) for key, value in flatten(params).items()]
    client.log_batch(run.info.run_id, params=flat)
    return run.info.run_id


def data_hash(facts: Mapping[str, Any]) -> str:
    """Return one SHA-256 for all data that a version was made from, of the facts of its checkpoint."""
    return hashlib.sha256(json.dumps(facts["data"]).encode()).hexdigest()


def resume_run(client: MlflowClient, file: Path) -> str | None:
    """Return the id of an interrupted run, kept in a file, if the tracking store still has it."""
    try:
        run_id = file.read_text().strip()
        client.update_run(run_id, status="RUNNING")
    except (OSError, MlflowException):
        return None
    return run_id


@contextmanager
def answering() -> Iterator[None]:
    """Say in a sentence that the tracking server does not answer, or what it answers.

    Raises:
        PipelineError: instead of an MlflowException.
    """
    try:
        yield
    except MlflowException as error:
        why = " ".join(str(error).split())[:200]
        raise PipelineError(
            f"MLflow at {tracking_uri()} does not answer, or refuses ({why}); run again when it does: nothing is lost"
        ) from error


@contextmanager
def killed_unless_done(client: MlflowClient, run_id: str) -> Iterator[None]:
    """Mark a run as killed if its work ends in an error, so that the store does not show it as running for ever."""
    done = False
    try:
        yield
        done = True
    finally:
        if not done:
            with suppress(MlflowException):  # the error of the work says more
                client.set_terminated(run_id, "KILLED")


def finish_run(client: MlflowClient, run_id: str, weights_sha256: str) -> None:
    """Mark a run as finished and tie it to the weights that it made."""
    client.set_tag(run_id, "weights_sha256", weights_sha256)
    client.set_terminated(run_id)


def every(search: Callable[[str | None], PagedList[Entity]]) -> Iterator[Entity]:
    """Give all that a search finds, page by page; it is called with the token of the page."""
    token: str | None = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return


def find_run(client: MlflowClient, version: str, weights_sha256: str) -> Run | None:
    """Return the newest run of a version that made these weights, if the tracking store still has it."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return None
    condition = f"tags.version = '{version}' and tags.weights_sha256 = '{weights_sha256}'"
    runs = client.search_runs([experiment.experiment_id], condition, max_results=1)
    return runs[0] if runs else None


def run_of(client: MlflowClient, version: str, facts: Mapping[str, Any], weights_sha256: str) -> str:
    """Return the id of the run that made these weights; where the tracking store lost it, of one made from its facts.

    The tracking store is not DVC's: a trained version that DVC restores may have no run there.
    """
    run = find_run(client, version, weights_sha256)
    if run:
        return run.info.run_id
    tags = {"recreated": "true", "scale": str(facts["scale"]), "data_hash": data_hash(facts)}
    # What is checked out now need not be what made them; they say themselves what was.
    commit = facts.get("git_commit", "unknown")
    tags |= {"git_commit": commit, "git_dirty": facts.get("git_dirty", "unknown"), MLFLOW_GIT_COMMIT: commit}
    run_id = start_run(client, version, facts, tags)
    finish_run(client, run_id, weights_sha256)
    return run_id


def log_result(
    client: MlflowClient, run_id: str, metrics: Mapping[str, float], tags: Mapping[str, str], files: Mapping[str, Path]
) -> None:
    """Add metrics, tags and files (artifact folder to a file, or to a folder whose files go there) to a run."""
    now = get_current_time_millis()
    client.log_batch(
        run_id,
        metrics=[Metric(key, value, now, 0) for key, value in metrics.items()],
        tags=[RunTag(key, value) for key, value in tags.items()],
    )
    for folder, file in files.items():
        log = client.log_artifacts if file.is_dir() else client.log_artifact
        log(run_id, str(file), folder or None)


def scores_of(run: Run) -> dict[str, float]:
    """Return those of a run's metrics that say how good the version is, by name."""
    return {
        name: value
        for name, value in sorted(run.data.metrics.items())
        if name.split("/")[-1] in ("accuracy", "macro_f1", "ece") and not name.startswith(("train/", "validation/"))
    }


def log_scores(
    version: str,
    facts: Mapping[str, Any],
    weights_sha256: str,
    parts: Mapping[str, Mapping[str, Any]],
    classes: Mapping[str, Mapping[str, Any]],
    files: Mapping[str, Path],
) -> None:
    """Add what an evaluation found to the run that made these weights.

    Args:
        version: its name.
        facts: of its checkpoint.
        weights_sha256: of its checkpoint.
        parts: by what was scored, such as `own` or `fer2013/test`, what `pipeline.evaluation.metrics.score` returned;
            the names of the metrics are `own/macro_f1` and so on. Scores of no faces, and those that it lacks, are
            left out.
        classes: what `pipeline.evaluation.metrics.score_classes` returned, as `own/f1/<class>`.
        files: see `log_result`.

    Raises:
        PipelineError: if the tracking server does not answer.
    """
    scores = {
        f"{name}/{key}": part[key]
        for name, part in parts.items()
        for key in ("accuracy", "macro_f1", "weighted_f1", "ece")
        if part.get(key) is not None
    }
    scores |= {f"own/f1/{label}": part["f1"] for label, part in classes.items()}
    with answering():
        client = connect()
        log_result(client, run_of(client, version, facts, weights_sha256), scores, {}, files)


def _source_tags(stage: str) -> dict[str, str]:
    """Return what made a run: the stage, the commit, and whether the tree differs from it."""
    here = checked_out()
    return {
        **here,
        MLFLOW_GIT_COMMIT: here["git_commit"],  # and the next two: for MLflow's own columns
        MLFLOW_SOURCE_NAME: stage,
        MLFLOW_SOURCE_TYPE: "LOCAL",
    }


def _experiment(client: MlflowClient, name: str) -> str:
    if name != EXPERIMENT:
        _experiment(client, EXPERIMENT)  # is always the first, so that its address in the UI stays the same
    experiment = client.get_experiment_by_name(name)
    if experiment:
        return experiment.experiment_id
    # A store in a file needs to be told where pictures and models go; a server has its own place for them.
    location = ((experiment_root() or Path()) / ARTIFACTS).resolve().as_uri()
    try:
        return client.create_experiment(
            name, artifact_location=location if tracking_uri().startswith("sqlite") else None
        )
    except MlflowException as error:
        experiment = client.get_experiment_by_name(name)
        if error.error_code != "RESOURCE_ALREADY_EXISTS" or experiment is None:
            raise
        return experiment.experiment_id  # somebody else was quicker


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested parameters by dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in params.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
