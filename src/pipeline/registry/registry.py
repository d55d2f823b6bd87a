"""The model registry: which name a version goes under, its champion, and how a new one takes its place."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from pipeline.errors import PipelineError
from pipeline.files import sha256_of
from pipeline.inference.card_files import read_card
from pipeline.inference.pointer import SAMPLE_SUFFIX, Pointer
from pipeline.registry import tracking

MODEL = "expression-classifier"
CHAMPION, PREVIOUS = "champion", "previous"
MODEL_FILE = "model.onnx"
REPRODUCED = "reproduced"  # the tag that says what came out of making a version again


def registered_name(*, drawn: bool) -> str:
    """Return the name a version is registered under; one that learned from any drawn face has a name of its own."""
    return MODEL + SAMPLE_SUFFIX if drawn else MODEL


def find_champion(client: MlflowClient, name: str) -> ModelVersion | None:
    """Return the registered version that bears the alias `champion`, if any."""
    return find_alias(client, name, CHAMPION)


def find_alias(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """Return the registered version that bears an alias, if any."""
    with _none_if_missing():
        return client.get_model_version_by_alias(name, alias)
    return None


def find_version(client: MlflowClient, name: str, version: str) -> ModelVersion | None:
    """Return a registered version by its number, if there is such a one."""
    with _none_if_missing():
        return client.get_model_version(name, version)
    return None


def register(client: MlflowClient, name: str, run_id: str, folder: Path, tags: Mapping[str, str]) -> ModelVersion:
    """Register what lies in a folder as the next version of a model, made by a run; its card tells it in short."""
    experiment = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(experiment, name=tags["recipe"], source_run_id=run_id, tags=dict(tags))
    client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    ensure_model(client, name)
    card = read_card(folder, tags.get("weights_sha256"))
    return client.create_model_version(
        name,
        f"models:/{model.model_id}",
        run_id,
        tags=dict(tags),
        description=card.facts["brief"] if card else None,
        model_id=model.model_id,
    )


def ensure_model(client: MlflowClient, name: str) -> None:
    """Let there be a registered model of this name; somebody else may make it at the same time."""
    if not client.search_registered_models(f"name = '{name}'"):
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def iter_versions(client: MlflowClient, name: str) -> Iterator[ModelVersion]:
    """Give all versions of a registered model, the latest first; none where there is no such model."""
    order = ["version_number DESC"]
    return tracking.every(
        lambda token: client.search_model_versions(f"name = '{name}'", order_by=order, page_token=token)
    )


def find_same(client: MlflowClient, name: str, model_sha256: str) -> ModelVersion | None:
    """Return the latest registered version with the very same exported model, if there is one."""
    versions = (version for version in iter_versions(client, name) if version.tags.get("model_sha256") == model_sha256)
    return next(versions, None)


def fetch(version: ModelVersion, models: Path) -> Path:
    """Return the folder below `models` with the files of a registered version, downloaded if it does not hold them yet.

    Its name has the content's beside the number, which another registry may give to another version.

    Raises:
        PipelineError: if the registry does not have them any more; what lies there is left.
    """
    folder = models / "registry" / version.name / f"{version.version}-{version.tags.get('model_sha256', '')[:8]}"
    if _holds(folder, version):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
        fetched = Path(download_artifacts(f"models:/{version.name}/{version.version}", dst_path=partial))
        if not _holds(fetched, version):
            raise PipelineError(
                f"the artifacts of {version.name} version {version.version} are gone from the registry; restore them, "
                f"or put the model's files into {folder}"
            )
        shutil.rmtree(folder, ignore_errors=True)
        fetched.replace(folder)
    return folder


def point_to(version: ModelVersion, models: Path) -> Pointer:
    """Return the pointer to a registered version's exported model, for a file in `models`; see `fetch`."""
    file = fetch(version, models) / MODEL_FILE
    return Pointer(version.name, str(version.version), file.relative_to(models).as_posix(), sha256_of(file))


def _holds(folder: Path, version: ModelVersion) -> bool:
    file = folder / MODEL_FILE
    return file.exists() and sha256_of(file) == version.tags.get("model_sha256")


@contextmanager
def _none_if_missing() -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:  # the latter: no such alias
            raise
