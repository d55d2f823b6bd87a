import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import fsspec
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline.datasets.corrections import DROP, Corrections
from pipeline.datasets.engines import AHEAD, ENGINES, on_ray, on_this_machine
from pipeline.errors import PipelineError
from pipeline.params import FacesParams, SampleParams
from pipeline.sources import SOURCES
from pipeline.stages.download import download
from pipeline.stages.harmonize import harmonize

LABELS = SOURCES["rafdb"].labels()


def slow_double(number: int) -> int:
    time.sleep(0.02 if number % 3 else 0)  # later ones are done earlier
    return 2 * number


def test_results_come_in_the_order_of_the_parts() -> None:
    assert list(on_this_machine(slow_double, range(20))) == [2 * number for number in range(20)]


def test_only_so_much_is_in_memory_as_there_are_processes() -> None:
    taken = []

    def parts() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    results = on_this_machine(slow_double, parts())
    for done in range(1, 30):
        next(results)
        assert len(taken) <= done + AHEAD * (os.cpu_count() or 1)
    results.close()  # type: ignore[attr-defined]


def doubled_array(part: pa.Array) -> pa.Array:
    return pc.multiply(part, 2)


def test_results_with_buffers_come_whole_and_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    parts = [pa.array(range(length)) for length in (0, 1, 100_000, 3)]
    results = on_this_machine(doubled_array, parts)
    first = next(results)
    assert list(tmp_path.iterdir())
    assert [first, *results] == [pc.multiply(part, 2) for part in parts]
    assert not list(tmp_path.iterdir())


def test_error_of_the_work_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        list(on_this_machine(partial(divmod, 1), [1, 0, 1]))


def test_killed_process_is_an_error_in_a_sentence() -> None:
    with pytest.raises(PipelineError, match="a process was killed while it worked, perhaps for want of memory"):
        list(on_this_machine(kill_self, [1]))


def refuse_two(number: int) -> int:
    if number == 2:
        raise PipelineError(f"part {number} is damaged")
    return number


def kill_self(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    program = (
        "import os, sys, time; from pathlib import Path; from pipeline.datasets.engines import on_this_machine\n"
        "def work(n): Path(sys.argv[1], str(os.getpid())).touch(); time.sleep(60)\n"
        "list(on_this_machine(work, range(8)))\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, tmp_path]) as process:
        while not list(tmp_path.iterdir()):
            time.sleep(0.05)
        process.kill()
    assert_ended([int(file.name) for file in tmp_path.iterdir()])


@pytest.mark.parametrize("times", [1, 2, 3])
def test_interrupted_stage_ends_quietly_with_its_processes(times: int, tmp_path: Path) -> None:
    program = (
        "import os, sys, time; from pathlib import Path; from pipeline.command import run\n"
        "from pipeline.datasets.engines import on_this_machine; from pipeline.files import written_whole\n"
        "def work(n): Path(sys.argv[1], str(os.getpid())).touch(); time.sleep(0.3)\n"
        "def main(folder: Path):\n"
        "    with written_whole(folder / 'table') as file:\n"
        "        file.touch(); list(on_this_machine(work, range(1000)))\n"
        "run(main)\n"
    )
    command = [sys.executable, "-c", program, tmp_path]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while len(list(tmp_path.iterdir())) <= (os.cpu_count() or 1):  # the table, and the id of each process
            time.sleep(0.05)
        for _ in range(times):
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.05)
        _, said = process.communicate()
    assert said == ""
    assert process.returncode in ({130} if times == 1 else {130, -signal.SIGINT})  # a shell says 130 for both
    assert not (tmp_path / "table").exists()
    assert_ended([int(file.name) for file in tmp_path.iterdir() if file.name.isdigit()])


def assert_ended(processes: list[int]) -> None:
    until = time.monotonic() + 60
    while any(is_running(process) for process in processes) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(is_running(process) for process in processes)


def is_running(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE  # nobody may be there to take its exit code
    except psutil.NoSuchProcess:
        return False


def test_ray_that_is_not_installed_is_an_error_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        PipelineError, match=r"ray is not installed; run `pip install -c constraints.txt -e '\.\[ray\]'`"
    ):
        list(on_ray(slow_double, [1]))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Return the drawn RAF-DB as `download` leaves it."""
    download("rafdb", "sample", tmp_path / "raw" / "rafdb", SampleParams(faces_per_class=20))
    return tmp_path / "raw" / "rafdb"


def harmonized(raw: Path, table: Path) -> Path:
    harmonize("rafdb", raw, table, LABELS, FacesParams())
    return table


@pytest.mark.slow
def test_a_ray_cluster_that_loses_a_worker_gives_the_same_rows(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install -e '.[ray]'")
    from ray.cluster_utils import Cluster

    monkeypatch.setattr("pipeline.sources.parts.PICTURES", 4)
    pictures = pq.read_table(harmonized(raw, tmp_path / "plain.parquet"))["pixel_sha256"].to_pylist()
    corrections = Corrections({pictures[0]: "sad", pictures[50]: DROP})
    harmonize("rafdb", raw, tmp_path / "here.parquet", LABELS, FacesParams(), corrections=corrections)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)  # where workers find this module
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    workers = [cluster.add_node(num_cpus=1) for _ in range(2)]
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    lost = []

    def losing_a_worker(work, parts):  # type: ignore[no-untyped-def]
        for number, done in enumerate(on_ray(work, parts)):
            if number == 5:
                cluster.remove_node(workers[0], allow_graceful=False)
                lost.append(number)
            yield done

    monkeypatch.setitem(ENGINES, "ray", losing_a_worker)
    try:
        with pytest.raises(PipelineError, match="^part 2 is damaged$"):
            list(on_ray(refuse_two, [1, 2, 3]))
        assert list(on_ray(refuse_two, [])) == []
        counts = harmonize("rafdb", raw, tmp_path / "there.parquet", LABELS, FacesParams(), "ray", corrections)
    finally:
        import ray

        ray.shutdown()
        cluster.shutdown()
    assert lost == [5]
    assert counts["faces"] == 139
    assert counts["corrections"] == {"relabelled": 1, "dropped": 1, "kept": 0, "undecided": 0, "unmatched": 0}
    assert (tmp_path / "there.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()


@pytest.mark.slow
def test_raw_data_and_result_may_be_on_s3(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moto = pytest.importorskip("moto.server", reason="needs an S3 server: pip install -e '.[ray]' 'moto[server]'")
    harmonize("rafdb", raw, tmp_path / "here.parquet", LABELS, FacesParams())
    server = moto.ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        s3 = fsspec.filesystem("s3", skip_instance_cache=True)
        s3.mkdir("faces")
        s3.put(str(raw), "faces/raw/rafdb", recursive=True)
        harmonize("rafdb", "s3://faces/raw/rafdb", "s3://faces/rafdb.parquet", LABELS, FacesParams())
        assert s3.cat_file("faces/rafdb.parquet") == (tmp_path / "here.parquet").read_bytes()
    finally:
        server.stop()
