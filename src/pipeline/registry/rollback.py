"""Going back to an earlier champion: the registry keeps the reason, and the pointer moves for those who follow it."""

from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from pipeline.errors import PipelineError
from pipeline.inference.pointer import move_pointer, read_pointer
from pipeline.inference.predictor import Predictor
from pipeline.registry import history, registry, tracking
from pipeline.registry.record import keep_record


def roll_back(pointer_file: Path, why: str, to: str | None = None) -> history.Event:
    """Make an earlier version of the model that a pointer names its champion again.

    Its files are fetched and opened before anything is changed. The weights that are left behind do not become champion
    again unless somebody names or forces them (see `pipeline.registry.history.find_set_aside`).

    Args:
        pointer_file: the champion's pointer; it is moved last.
        why: in a sentence.
        to: number of the version; by default the latest champion before that nobody rolled back.

    Raises:
        PipelineError: if there is no such version, or it can not be served, or somebody else changed the champion
            meanwhile.
    """
    present = read_pointer(pointer_file)
    name = present.name
    with tracking.answering():
        client = tracking.connect()
        last = history.settle(client, name)
        if last is None:
            raise PipelineError(f"{name} has no champion yet")
        if present.version != last.version:
            _follow(pointer_file, registry.find_version(client, name, last.version))
            raise PipelineError(
                f"version {last.version} had become champion, by {last.kind} at {last.at} ({last.why}), and was not "
                "served here yet; now it is; run again if that is what you want to roll back"
            )
        number = to or _former(client, name)
        if number is None:
            raise PipelineError(f"{name} has no earlier champion to go back to; --to names any version")
        target = registry.find_version(client, name, number)
        if target is None:
            raise PipelineError(f"{name} has no version {number}; `pipeline history` lists its champions")
        if str(target.version) == last.version:
            raise PipelineError(f"version {number} of {name} is the champion already")
        pointer = registry.point_to(target, pointer_file.parent)
        Predictor(pointer_file.parent / pointer.location, name=name, version=pointer.version)
        event = history.append(client, last, "rollback", target, why)
        history.settle(client, name)
        keep_record(client, name, pointer_file.parent)
    move_pointer(pointer_file, [pointer])
    return event


def _former(client: MlflowClient, name: str) -> str | None:
    """Return the number of the latest champion before the present one that nobody rolled back."""
    events, aside = history.read_history(client, name), history.find_set_aside(client, name)
    unwanted = {events[-1].weights_sha256, *(sha256 for sha256, event in aside.items() if event.kind == "rollback")}
    return next((event.version for event in reversed(events) if event.weights_sha256 not in unwanted), None)


def _follow(pointer_file: Path, champion: ModelVersion | None) -> None:
    if champion:
        move_pointer(pointer_file, [registry.point_to(champion, pointer_file.parent)])
