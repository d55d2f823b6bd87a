"""What DVC can not see: a source that was replaced under the same path, and a registry or Bento store that was lost."""

from pathlib import Path

import bentoml

from pipeline import registry, tracking
from pipeline.files import read_json
from pipeline.params import Params
from pipeline.pointer import read_pointer
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


def lost_stages(pointer_file: Path, package: Path) -> list[str]:
    """Return the stages to run again because what they left outside is gone: a registered champion, a Bento.

    Raises:
        PipelineError: if the registry does not answer; what it holds is then not lost.
    """
    if not pointer_file.exists():
        return ["promote", "package"]
    pointer = read_pointer(pointer_file)
    with tracking.answering():
        if registry.find_version(tracking.connect(), pointer.name, pointer.version) is None:
            return ["promote", "package"]
    try:
        bentoml.get(read_json(package)["bento"])
    except bentoml.exceptions.NotFound:
        return ["package"]
    return []
