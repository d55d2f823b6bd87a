"""The log of predictions: in this process, in one that is killed, and in a served Bento."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from answered import LOOK, answered
from prometheus_client import REGISTRY
from serving import free_port, serve, wait_until_ready, write_champion
from toys import encoded

from pipeline.errors import PipelineError
from pipeline.inference.answer_table import SCHEMA
from pipeline.inference.answers import Look
from pipeline.labels import LABELS
from pipeline.monitoring.logbook import read_log
from pipeline.serving import answer_log
from pipeline.serving.answer_log import AnswerLog
from pipeline.serving.deployment import prepare
from pipeline.serving.protection.exposure import Exposure


def counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("expression_logged_faces_total", {"outcome": outcome}) or 0


def wait_for(what: str, so: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not so():  # type: ignore[operator]
        assert time.monotonic() < end, what
        time.sleep(0.02)


def test_a_row_has_what_was_answered_and_no_pixels(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path / "log")
    given = [answered(2, "1"), answered(1, "2", summary=5)]
    for one in given:
        log.add(one)
    log.close()
    (file,) = (tmp_path / "log").rglob("*.parquet")
    assert file.parent.name == f"{given[0].time:%Y-%m-%d}"
    assert pq.read_schema(file).equals(SCHEMA)
    assert not any("binary" in str(kind) for kind in SCHEMA.types)
    rows = read_log(tmp_path / "log")
    assert rows.version.to_list() == ["1", "1", "2"]
    assert rows.time.to_list() == [given[0].time, given[0].time, given[1].time]
    np.testing.assert_array_equal(np.stack(rows.probabilities[:2]), given[0].outputs)
    assert rows.emotion[0] == LABELS[given[0].outputs[0].argmax()]
    assert rows.confidence[0] == given[0].outputs[0].max()
    assert rows.loc[0, list(Look._fields)].to_list() == pytest.approx(list(LOOK))
    assert rows.embedding_norm.isna().to_list() == [True, True, False]  # a model need not have it


def test_files_are_written_when_they_are_full_and_when_it_is_time(tmp_path: Path) -> None:
    log, before = AnswerLog(tmp_path, rows=10, seconds=0.3), counted("written")
    for _ in range(25):
        log.add(answered())
    wait_for("the rest comes in time", lambda: counted("written") == before + 25)
    assert sorted(pq.read_metadata(file).num_rows for file in tmp_path.rglob("*.parquet")) == [5, 10, 10]
    log.close()


def test_what_waits_is_written_at_the_end_however_much_it_is(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path, rows=10)
    for _ in range(95):
        log.add(answered())
    log.close()
    assert len(read_log(tmp_path)) == 95


def test_several_processes_share_a_folder(tmp_path: Path) -> None:
    logs = [AnswerLog(tmp_path) for _ in range(3)]
    for log in logs:
        log.add(answered(2))
    for log in logs:
        log.close()
    assert len(read_log(tmp_path)) == 6


def test_a_folder_that_can_not_be_written_to_is_told_and_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(answer_log, "AGAIN", 0.05)
    caplog.set_level(logging.WARNING, "bentoml.serve")
    (tmp_path / "log").write_text("a file stands where the folder should be")
    log, dropped = AnswerLog(tmp_path / "log", rows=2, seconds=0.05, bound=3), counted("dropped")
    assert "predictions are not logged, the service goes on" in caplog.text
    for _ in range(20):
        log.add(answered())
        time.sleep(0.06)  # longer than a second in all: the time is in the files' names
    lost = counted("dropped") - dropped
    assert 10 <= lost <= 18  # two wait in hand, three in the queue
    assert caplog.text.count("faces are dropped; /metrics counts them") == 1
    assert caplog.text.count("the service goes on") <= 2  # not again and again
    (tmp_path / "log").unlink()
    wait_for("it is written again", lambda: "is written again" in caplog.text)
    log.close()
    assert len(read_log(tmp_path / "log")) == 20 - lost
    assert f"{lost:.0f} faces were not logged in all" in caplog.text


def test_a_folder_without_permission_is_told_at_once(unprivileged: Path, caplog: pytest.LogCaptureFixture) -> None:
    (unprivileged / "log").mkdir(mode=0o555)
    AnswerLog(unprivileged / "log").close()
    assert "log can not be written: Permission denied" in caplog.text


def run(code: str, folder: Path) -> subprocess.Popen[str]:
    head = """
import logging, resource, sys, time
from pathlib import Path
from answered import answered
from pipeline.serving.answer_log import AnswerLog
from pipeline.serving.deployment import prepare
from pipeline.serving.protection.exposure import Exposure
folder = Path(sys.argv[1])
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])}
    return subprocess.Popen(
        [sys.executable, "-c", head + code, folder], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def test_a_killed_process_leaves_whole_files_and_loses_only_what_was_not_written(tmp_path: Path) -> None:
    code = """
log = AnswerLog(folder, rows=50)
while True:
    log.add(answered(10))
    time.sleep(0.001)
"""
    process = run(code, tmp_path)
    wait_for("some files are written", lambda: len(list(tmp_path.rglob("[!.]*.parquet"))) > 5, 60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    files = list(tmp_path.rglob("[!.]*.parquet"))
    assert len(read_log(tmp_path)) == sum(pq.read_metadata(file).num_rows for file in files) >= 50 * len(files)


def test_a_full_disk_is_told_and_harms_nobody(tmp_path: Path) -> None:
    code = """
logging.basicConfig()
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # no file can have more bytes: as on a full disk, writing fails
log = AnswerLog(folder, rows=5, seconds=0.05)
for _ in range(30):
    log.add(answered())
log.close()
print("still there")
"""
    said, _ = run(code, tmp_path).communicate(timeout=240)
    assert "predictions are not logged, the service goes on" in said
    assert "File too large" in said
    assert "30 faces were not logged in all" in said
    assert "still there" in said
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.slow  # `test_a_folder_that_can_not_be_written_to_is_told_and_waited_for` is quick
def test_a_service_goes_on_without_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FER_PREDICTIONS_LOG", str(tmp_path / "file" / "log"))
    port = free_port()
    server = serve(tmp_path, write_champion(tmp_path), port)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_until_ready(client, server, tmp_path)
            assert client.post("/predict?detect=false", content=encoded(".png")).status_code == 200
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(240)
    said = (tmp_path / "server.log").read_text()
    assert "predictions are not logged, the service goes on" in said
    assert "1 faces were not logged in all" in said
    assert "Traceback" not in said


def test_an_address_is_refused_before_anything_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_PREDICTIONS_LOG", "sqlite:///log.db")
    with pytest.raises(PipelineError, match="FER_PREDICTIONS_LOG must name a folder, not sqlite:///log.db"):
        prepare(Exposure())
