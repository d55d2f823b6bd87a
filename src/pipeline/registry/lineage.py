"""What a version is made of, gathered where it was made: DVC's hashes, the parameters, the environment."""

import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import yaml

FILE = "lineage.json"
LOCK, PARAMS = Path("dvc.lock"), Path("params.yaml")


def gather(datasets: Iterable[str]) -> dict[str, Any]:
    """Return what there is to know here, ready for JSON.

    Args:
        datasets: what the version learned from.

    Returns:
        `dvc`, the MD5 by which DVC knows each dataset as it came and as a table of faces, and the splits, by path;
        `params`, all of `params.yaml`; `environment`, the version of every installed package; `python`; `platform`.
    """
    known = _read_lock()
    paths = [f"data/{kind}" for name in datasets for kind in (f"raw/{name}", f"faces/{name}.parquet")]
    return {
        "dvc": {path: known[path] for path in [*paths, "data/splits.parquet"] if path in known},
        "params": yaml.safe_load(PARAMS.read_text(encoding="utf-8")) if PARAMS.exists() else {},
        "environment": _installed(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


@cache  # reading what hundreds of packages say of themselves takes a while, and it does not change meanwhile
def _installed() -> dict[str, str]:
    return dict(sorted((found.name, found.version) for found in distributions()))


def _read_lock() -> dict[str, str]:
    """Return the MD5 of everything that DVC's stages made here, by path; nothing where there is no lock file."""
    if not LOCK.exists():
        return {}
    stages = yaml.safe_load(LOCK.read_text(encoding="utf-8"))["stages"]
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", []) if "md5" in out}
