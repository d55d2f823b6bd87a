"""How much of this machine a process may use: the cores it may run on, and the threads that it shall compute with."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import PipelineError

THREADS = "FER_THREADS"
MOST_THREADS = 1024


def count_threads() -> int:
    """Return the threads to compute with: what the environment's `FER_THREADS` says, or one for each core.

    Raises:
        PipelineError: if it is no whole number from 1 to 1024.
    """
    said = os.environ.get(THREADS, "").strip()
    if not said:
        return count_cores()
    if not (said.isascii() and said.isdigit() and 1 <= int(said) <= MOST_THREADS):
        raise PipelineError(f"{THREADS} must be a whole number from 1 to {MOST_THREADS}, not {said[:20]!r}")
    return int(said)


def count_cores(proc: Path = Path("/proc/self"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the cores that this process may keep busy, at least 1.

    On Linux these are the ones it may run on, and no more than its control groups give it time for, as a container's
    limit does: 1.5 cores' time is two threads' work. Elsewhere all.

    Args:
        proc: where Linux says which control groups the process is in.
        groups: where the control groups are.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *(math.ceil(limit) for limit in _limits(proc / "cgroup", groups))]))


def _limits(membership: Path, groups: Path) -> Iterator[float]:
    """Give the cores' worth of time that each control group around a process allows, both versions of them."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In a container the group is named as the host sees it, and lies where the container's groups begin.
        root = groups / "cpu" if controllers else groups
        inside = root / group.lstrip("/")
        for folder in (inside, *inside.parents):
            yield from _limit_of(folder, version_two=not controllers)
            if folder == root:
                break


def _limit_of(folder: Path, *, version_two: bool) -> Iterator[float]:
    names = ("cpu.max",) if version_two else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    try:
        quota, period = " ".join((folder / name).read_text() for name in names).split()
        if quota not in ("max", "-1"):
            yield int(quota) / int(period)
    except (OSError, ValueError):  # a group without a limit has no such file
        return
