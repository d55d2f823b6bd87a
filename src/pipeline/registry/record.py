"""The record beside the pointer, from which a registry that was lost gets its champion and its history back."""

from dataclasses import asdict
from pathlib import Path

from mlflow import MlflowClient

from pipeline.files import read_json, write_json
from pipeline.networks.checkpoint import load_checkpoint
from pipeline.registry import history, registry, tracking

FILE = "history.json"


def keep_record(client: MlflowClient, name: str, models: Path) -> None:
    """Write down what the registry knows of a model's champions, in `models`."""
    file = models / FILE
    events = history.read_history(client, name)
    champion = registry.find_version(client, name, events[-1].version) if events else None
    if champion is None:
        return
    kept = read_json(file) if file.exists() else {}
    folder = registry.fetch(champion, models).relative_to(models).as_posix()
    kept[name] = {"folder": folder, "tags": champion.tags, "events": [asdict(event) for event in events]}
    if not file.exists() or read_json(file) != kept:
        write_json(file, kept)


def restore(client: MlflowClient, name: str, models: Path) -> bool:
    """Give a registry that knows no champion of a model the one of the record, and all of its history.

    Former champions are no versions there any more, but what a person set aside stays so.

    Returns:
        whether there was anything to restore, and the champion's files are in `models`.
    """
    file = models / FILE
    kept = read_json(file).get(name) if file.exists() else None
    if kept is None:
        return False
    events, folder = [history.Event(**event) for event in kept["events"]], models / kept["folder"]
    if not history.is_cut_off(client, name, events) or not (folder / registry.MODEL_FILE).exists():
        return False
    champion = registry.find_same(client, name, kept["tags"]["model_sha256"])
    if champion is None:
        checkpoint = load_checkpoint(folder)
        run_id = tracking.run_of(client, checkpoint.facts["version"], checkpoint.facts, checkpoint.sha256())
        champion = registry.register(client, name, run_id, folder, kept["tags"])
    history.replay(client, champion, events)
    return True
