import os

import pytest

from pipeline.errors import PipelineError
from pipeline.inference.cores import count_cores, count_threads


@pytest.fixture
def limited(tmp_path, monkeypatch):
    """Return a function that counts the cores of a process on 64 of them, in a group, with files of limits."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)

    def count(group, **files):
        (tmp_path / "cgroup").write_text(f"{group}\n")
        for name, content in files.items():
            file = tmp_path / "groups" / name.replace("__", "/").replace("cpu_", "cpu.")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        return count_cores(tmp_path, tmp_path / "groups")

    return count


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_a_process_may_use_the_cores_it_may_run_on():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert count_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert 1 <= count_cores() <= len(allowed)


def test_a_containers_limit_counts_in_both_versions(limited):
    assert limited("0::/", cpu_max="150000 100000") == 2
    assert limited("0::/", cpu_max="20000 100000") == 1
    assert limited("0::/", cpu_max="max 100000") == 64
    assert limited("4:memory:/box", cpu_max="100000 100000") == 64
    v1 = {"cpu__cpu_cfs_quota_us": "300000", "cpu__cpu_cfs_period_us": "100000"}
    assert limited("3:cpu,cpuacct:/docker/1f", **v1) == 3  # in a container, the group's files lie at the root
    assert limited("3:cpu,cpuacct:/docker/1f", **(v1 | {"cpu__cpu_cfs_quota_us": "-1"})) == 64


def test_the_tightest_limit_around_a_process_counts(limited):
    limits = {"cpu_max": "max 100000", "slice__cpu_max": "200000 100000", "slice__unit__cpu_max": "800000 100000"}
    assert limited("0::/slice/unit", **limits) == 2


def test_without_control_groups_it_is_the_cores(limited, tmp_path):
    assert limited("5:pids:/") == 64
    assert count_cores(tmp_path / "nothing", tmp_path) == 64


def test_the_environment_sets_the_threads(monkeypatch):
    monkeypatch.delenv("FER_THREADS", raising=False)
    assert count_threads() == count_cores()
    monkeypatch.setenv("FER_THREADS", "3")
    assert count_threads() == 3


@pytest.mark.parametrize("said", ["0", "-1", "two", "1.5", "²", "1025"])
def test_what_is_no_number_of_threads_is_refused(said, monkeypatch):
    monkeypatch.setenv("FER_THREADS", said)
    with pytest.raises(PipelineError, match="FER_THREADS must be a whole number from 1 to 1024, not"):
        count_threads()
