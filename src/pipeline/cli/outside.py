"""What DVC can not see: a source replaced under its path, a registry or Bento store that changed or was lost."""

from pathlib import Path

import bentoml

from pipeline.files import read_json, sha256_of
from pipeline.inference.pointer import read_pointer
from pipeline.inference.variants import variant_file
from pipeline.params import Params
from pipeline.promotion.decisions import read_champions
from pipeline.registry import history, tracking
from pipeline.sources.fingerprint import fingerprint


def replaced_sources(params: Params, raw: Path) -> list[str]:
    """Return the datasets whose source looks otherwise than when it was downloaded: by size or time, a cheap look."""
    replaced: list[str] = []
    for name in params.use:
        file = raw / f"{name}.source.json"
        before = read_json(file) if file.exists() else None
        now = fingerprint(params.dataset(name).source)
        if before and now and before["path"] == now["path"] and before != now:
            replaced.append(name)
    return replaced


def versions_without_run(params: Params, models: Path) -> list[str]:
    """Return the versions in `run` that were trained, and whose runs the tracking store does not have.

    Raises:
        PipelineError: if it does not answer.
    """
    with tracking.answering():
        client = tracking.connect()
        weights = {version: sha256_of(models / version / "weights.safetensors") for version in params.run}
        return [name for name, sha256 in weights.items() if not tracking.find_run(client, name, sha256)]


def stale_stages(pointer_file: Path, promotion: Path, package: Path) -> list[str]:
    """Return the stages to run again because of what happened outside: to the champion, its variants, or its Bento.

    The registry may be lost, somebody elsewhere may have promoted another version, or somebody rolled back here, of
    which the last decision does not know.

    Raises:
        PipelineError: if the registry does not answer; what it holds is then not lost.
    """
    if not pointer_file.exists():
        return ["promote", "package"]
    pointer = read_pointer(pointer_file)
    with tracking.answering():
        last = history.settle(tracking.connect(), pointer.name)
    known = read_champions(promotion).get(pointer.name)
    if last is None or last.version != pointer.version or (known and known["version"] != pointer.version):
        return ["promote", "package"]
    packaged = read_json(package)
    try:
        bentoml.get(packaged["bento"])
    except bentoml.exceptions.NotFound:
        return ["package"]
    model = pointer_file.parent / pointer.location  # fetched anew, it has lost what `package` left beside it
    offered = [name for name, measured in packaged.get("variants", {}).items() if measured.get("offered")]
    return [] if all(variant_file(model, name).exists() for name in offered) else ["package"]
