"""Lineage, both ways: what a registered version is made of, and which versions were made from a commit or some data."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from pipeline.errors import PipelineError
from pipeline.files import read_json
from pipeline.inference.pointer import SAMPLE_SUFFIX
from pipeline.networks.checkpoint import FACTS
from pipeline.recipes import Recipe
from pipeline.registry import history, registry, tracking
from pipeline.registry.lineage import FILE
from pipeline.registry.registry import REPRODUCED

PACKAGES = ("torch", "pytorch-lightning", "timm", "albumentations", "mlflow", "onnxruntime")  # what is named of many
SHORTEST = 7  # characters of a hash that tell enough
HASH = re.compile(r"[0-9a-f]+(\.dir)?", re.IGNORECASE)  # DVC's, of a folder, end so


def is_hash(what: str) -> bool:
    """Return whether this is the beginning of a hash; raises PipelineError if it is one that is too short to tell."""
    looks_like_one = HASH.fullmatch(what) is not None
    if looks_like_one and len(what) < SHORTEST:
        raise PipelineError(f"{what!r} is too short for a hash; give {SHORTEST} characters or more")
    return looks_like_one


def find(client: MlflowClient, what: str) -> ModelVersion:
    """Return the registered version that NAME@ALIAS, NAME/NUMBER or NAME (its champion) means.

    Raises:
        PipelineError: if there is none.
    """
    name, slash, number = what.removeprefix("models:/").partition("/")
    name, _, alias = name.partition("@")
    if slash:
        found = registry.find_version(client, name, number)
    else:
        found = registry.find_alias(client, name, alias or registry.CHAMPION)
    if found is None:
        raise PipelineError(f"the registry has no {what}; it has {', '.join(_names(client)) or 'no version at all'}")
    return found


def trace(client: MlflowClient, version: ModelVersion, models: Path, bento: str | None = None) -> str:
    """Return what a registered version is made of and why it is what it is, as lines for a person.

    Args:
        client: of the registry.
        version: see `find`.
        models: folder below which its files lie, or are fetched to.
        bento: tag of the Bento that serves it, if it is known.
    """
    folder = registry.fetch(version, models)
    facts, tags = read_json(folder / FACTS), version.tags
    lineage = read_json(folder / FILE) if (folder / FILE).exists() else {}
    run = client.get_run(str(version.run_id))
    state = {"true": "with uncommitted changes", "false": "clean"}.get(tags.get("git_dirty", ""), "state unknown")
    environment = lineage.get("environment", {})
    changed = Recipe.model_validate(facts["recipe"]).model_dump(mode="json", exclude_defaults=True)
    told: dict[str, Any] = {
        "recipe": f"{tags['recipe']}, at scale {tags['scale']}",
        "registered": _time(version.creation_timestamp),
        "aliases": ", ".join(version.aliases) or "none",
        "run": f"{run.info.run_id} ({run.info.run_name}, {_time(run.info.start_time)})",
        "code": f"commit {tags['git_commit']}, {state}",
        "data": [f"{name}: {sha256}" for name, sha256 in facts["data"].items()],
        "dvc.lock": [f"{path}: {md5}" for path, md5 in lineage.get("dvc", {}).items()],
        "parameters": [f"{key}: {value}" for key, value in tracking.flatten(changed).items()],  # defaults are left out
        "seed": facts.get("seed", "unknown"),
        "trained on": f"{facts.get('device', 'unknown')}, {facts.get('precision', 'unknown')}, "
        f"{run.data.tags.get('seconds', '?')} s",
        "started from": facts.get("start_from") or "nothing",
        "taught by": ", ".join(facts.get("teachers", ())) or "labels alone",
        "environment": [
            f"Python {lineage.get('python', 'unknown')}",
            *(f"{name} {environment[name]}" for name in PACKAGES if name in environment),
        ],
        "weights": tags["weights_sha256"],
        "model": tags["model_sha256"],
        "metrics": [f"{key}: {value:.4f}" for key, value in tracking.scores_of(run).items()],
        "reproduced": tags.get(REPRODUCED, "never"),
        "champion": [
            f"{event.at}, by {event.kind}: {event.why}"
            for event in history.read_history(client, version.name)
            if event.version == str(version.version)
        ]
        or "never",
        "Bento": bento or "none here",
    }
    lines = [f"{version.name} version {version.version}"]
    for key, value in told.items():
        first, *others = (value or ["unknown"]) if isinstance(value, list) else [value]
        lines += [f"  {key:<13} {first}", *(f"  {'':<13} {line}" for line in others)]
    return "\n".join(lines)


def find_made_from(client: MlflowClient, prefix: str) -> list[tuple[ModelVersion, list[str]]]:
    """Return the registered versions made from a commit or some data, by the beginning of its hash, and what matched.

    That may be the git commit, the hash of all data or of one dataset, DVC's of a file, or that of weights.
    """
    found = []
    for version in _versions(client):
        matched = [name for name, value in version.tags.items() if value.startswith(prefix.lower())]
        if matched:
            found.append((version, matched))
    return found


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def _versions(client: MlflowClient) -> Iterator[ModelVersion]:
    for name in (registry.MODEL, registry.MODEL + SAMPLE_SUFFIX):
        yield from registry.iter_versions(client, name)


def _names(client: MlflowClient) -> list[str]:
    return [f"{version.name}/{version.version}" for version in _versions(client)]
