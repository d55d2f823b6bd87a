"""A cheap look at a source, to notice that it was replaced under the same name."""

from pathlib import Path
from typing import Any

from pipeline.params import NO_PATHS


def fingerprint(source: str) -> dict[str, Any] | None:
    """Return what a cheap look says about a source: size and time of a path, nothing where it is not a path."""
    if source in NO_PATHS:
        return None
    status = Path(source).stat()
    return {"path": source, "bytes": status.st_size, "modified_ns": status.st_mtime_ns}
