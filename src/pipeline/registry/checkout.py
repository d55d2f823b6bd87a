"""What is checked out here: the commit, whether the tree differs from it, and whether it is one of DVC's copies."""

import subprocess
from pathlib import Path


def checked_out() -> dict[str, str]:
    """Return what is checked out here: `git_commit`, and as `git_dirty` whether the tree differs from it.

    `dvc.lock` and the metrics that it vouches for do not count: they change with every run.
    """
    commit = _git("rev-parse", "HEAD").strip() or "unknown"
    changed = [line[3:] for line in _git("status", "--porcelain").splitlines()]
    own = [path for path in changed if not path.startswith("metrics/") and not path.endswith("dvc.lock")]
    return {"git_commit": commit, "git_dirty": str(bool(own)).lower() if commit != "unknown" else commit}


def experiment_root() -> Path | None:
    """Return the repository's root where this is the copy in which DVC runs a queued experiment, else nothing.

    DVC makes it below `.dvc/tmp/exps` and deletes it afterwards, with all that it does not know in it.
    """
    return next((path.parents[2] for path in Path.cwd().parents if path.parts[-3:] == (".dvc", "tmp", "exps")), None)


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""
