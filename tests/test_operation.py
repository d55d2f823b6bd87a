"""How a real service is operated: what it measures, what happens when its network dies, and how it ends."""

import json
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import httpx
import numpy as np
import promql_parser
import psutil
import pytest
import yaml
from once import kill_all
from prometheus_client.parser import text_string_to_metric_families
from serving import ROOT, free_port, serve, wait_until_ready, write_champion
from toys import encoded, picture, toy_offer

from pipeline.inference.answer_table import NUMBERS
from pipeline.inference.pointer import read_pointer, write_pointer
from pipeline.monitoring.logbook import read_log

PICTURE = encoded(".jpg", picture(seed=1))
SOON = 60  # seconds, on a machine that is very busy; `make bench-operation` says how soon that is


class Running(NamedTuple):
    """A service, with a client, its process, and the folders of its log and of what is temporary."""

    client: httpx.Client
    process: subprocess.Popen[bytes]
    folder: Path
    temporary: Path

    def network(self, other_than: int = 0) -> psutil.Process | None:
        children = [child for child in psutil.Process(self.process.pid).children() if child.pid != other_than]
        return next((child for child in children if "expression_classifier" in child.cmdline()), None)

    def said(self) -> str:
        return (self.folder / "server.log").read_text()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    with TemporaryDirectory() as temporary:  # a short path: sockets lie in it
        own = {"TMPDIR": temporary, "FER_PREDICTIONS_LOG": str(folder / "log"), "FER_VARIANT": "int8"}
        pointer_file = write_champion(folder)
        toy_offer(folder / "registry" / "3.onnx", "int8")
        server = serve(folder, pointer_file, port, **own)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                wait_until_ready(client, server, folder)
                yield Running(client, server, folder, Path(temporary))
        finally:
            if server.poll() is None:  # its processes have groups of their own
                kill_all(server.pid)


class Asked(NamedTuple):
    """What came of a request: when it ended, how long it took, its status (0: none), and its answer."""

    at: float
    seconds: float
    status: int
    text: str


class Crowd:
    """Clients that ask all the time, each on a new connection, until the end of a `with` block."""

    def __init__(self, address: httpx.URL, clients: int) -> None:
        self.asked: list[Asked] = []
        self._address, self._over = str(address), threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> "Crowd":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._over.is_set():
            start = time.monotonic()
            try:
                answer = httpx.post(f"{self._address}/predict?detect=false", content=PICTURE, timeout=120, verify=False)
                status, text = answer.status_code, answer.text
            except httpx.TransportError as error:
                status, text = 0, repr(error)
            self.asked.append(Asked(time.monotonic(), time.monotonic() - start, status, text))
            if status != 200:
                time.sleep(0.05)


def measured(client: httpx.Client) -> dict[tuple[str, ...], float]:
    """Return the samples at `/metrics`, by name and the values of their labels."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    return {(sample.name, *sample.labels.values()): sample.value for sample in samples}


def test_what_was_asked_is_measured(running: Running) -> None:
    client, before = running.client, measured(running.client)
    answer = client.post("/predict?detect=false", content=PICTURE).json()
    client.post("/predict", content=PICTURE)  # has no face
    client.post("/predict", content=b"no picture")
    files = [("images", ("a.jpg", PICTURE))] * 3
    client.post("/predict_batch?detect=false", files=files)
    after = measured(client)

    def grown(*key: str) -> float:
        return after[key] - before.get(key, 0)

    assert grown("expression_requests_total", "/predict", "200") == 2
    assert grown("expression_requests_total", "/predict", "415") == 1
    assert grown("expression_requests_total", "/predict_batch", "200") == 1
    assert grown("expression_request_seconds_count", "/predict") == 3
    assert grown("expression_stage_seconds_count", "decode") == 5  # the sixth was no picture
    assert grown("expression_stage_seconds_count", "detect") == 1
    assert grown("expression_stage_seconds_count", "network") == 4
    assert 1 <= grown("expression_stage_seconds_count", "compute") == grown("expression_batch_faces_count") <= 4
    assert grown("expression_batch_faces_sum") == 4
    assert (grown("expression_image_faces_count"), grown("expression_image_faces_sum")) == (5, 4)
    assert grown("expression_image_faces_bucket", "0.0") == 1
    assert grown("expression_faces_total", answer["faces"][0]["emotion"]) == 4
    assert after["expression_model_info", "expression-classifier-sample", "int8", "3"] == 1
    assert after["expression_ready",] == 1
    assert after["expression_requests_in_flight",] == after["expression_videos_waiting",] == 0


def test_it_goes_on_in_full_precision_where_a_version_lacks_the_wanted_variant(running: Running) -> None:
    client, pointer_file = running.client, running.folder / "champion.json"
    first, fourth = read_pointer(pointer_file), running.folder / "registry" / "4.onnx"
    fourth.write_bytes((running.folder / "registry" / "3.onnx").read_bytes())

    def serves(version: str, variant: str) -> bool:
        said = client.get("/model").json()
        return (said["version"], said["variant"]) == (version, variant)

    assert serves("3", "int8")
    write_pointer(pointer_file, replace(first, version="4", location="registry/4.onnx"))
    until(lambda: serves("4", "full"))
    assert client.post("/predict?detect=false", content=PICTURE).json()["model"]["version"] == "4"
    toy_offer(fourth, "int8")  # as `package` does behind a promotion
    until(lambda: serves("4", "int8"))
    assert client.get("/model").json()["facts"]["variant"] == "int8"
    assert running.said().count("version 4 is served in full precision: the variant int8 was not made for") == 1
    write_pointer(pointer_file, first)
    until(lambda: serves("3", "int8"))


def test_no_path_that_somebody_thinks_of_makes_a_metric(running: Running) -> None:
    before = measured(running.client)
    for number in range(20):
        running.client.get(f"/no/such/page/{number}")
    after = measured(running.client)
    key = ("expression_requests_total", "other", "404")
    assert after[key] - before.get(key, 0) == 20
    assert len(after.keys() - before.keys()) <= 20  # a histogram's, of one route
    assert "/no/such" not in running.client.get("/metrics").text


def queries() -> Iterator[str]:
    """Give all queries of the dashboard and the alerts, as Prometheus gets them."""
    board = (ROOT / "deploy" / "grafana" / "expression-service.json").read_text()
    for panel in json.loads(board)["panels"]:
        yield from (target["expr"].replace("$__rate_interval", "1m") for target in panel["targets"])
    for group in yaml.safe_load((ROOT / "deploy" / "alerts.yaml").read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


def test_whatever_the_dashboard_and_the_alerts_ask_for_is_there(running: Running) -> None:
    running.client.post("/predict?detect=false", content=PICTURE)
    families = list(text_string_to_metric_families(running.client.get("/metrics").text))
    known = {sample.name: set(sample.labels) for family in families for sample in family.samples}
    known["up"] = {"job", "instance"}  # Prometheus's own
    asked: set[str] = set()

    def visit(node: object) -> bool:
        selector = getattr(node, "vector_selector", node)
        if isinstance(selector, promql_parser.VectorSelector):
            assert {matcher.name for matcher in selector.matchers.matchers} <= known[selector.name]
            asked.add(selector.name)
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            labels = [known[name] for name in re.findall(r"\b(?:expression_\w+|up)\b", node.prettify())]
            assert all(set(node.modifier.labels) <= each for each in labels)
        return True

    for query in queries():
        promql_parser.walk(promql_parser.parse(query), visit)
    ours = {family.name for family in families if family.name.startswith("expression_")}
    shown = {name for name in ours if any(each.startswith(name) for each in asked)}
    assert shown == ours  # and what is measured is shown


def test_a_killed_network_costs_seconds_and_everybody_is_told(running: Running) -> None:
    address = running.client.base_url
    probes: list[tuple[float, int, int]] = []
    with Crowd(address, 4) as crowd:
        time.sleep(1)
        network = running.network()
        assert network
        network.kill()
        killed, next_one = time.monotonic(), None
        while time.monotonic() < killed + 240:
            if not next_one and (next_one := running.network(network.pid)):
                started = time.monotonic() - killed
            since = time.monotonic() - killed
            ready, alive = (httpx.get(f"{address}{path}", timeout=SOON).status_code for path in ("/readyz", "/livez"))
            probes.append((since, ready, alive))
            if ready == 200 and len({probe[1] for probe in probes}) == 2:
                break
            time.sleep(0.1)
        back = time.monotonic()
        time.sleep(1)
    assert started < SOON
    assert {alive for *_, alive in probes} == {200}
    first_no = next(since for since, ready, _ in probes if ready == 503)
    assert first_no < SOON, probes
    failed = [asked for asked in crowd.asked if asked.status != 200]
    assert {asked.status for asked in failed} == {503}, Counter(crowd.asked)
    assert all("starting again" in json.loads(asked.text)["error"] for asked in failed)
    assert max(asked.seconds for asked in failed) < SOON
    assert all(asked.at - asked.seconds < back for asked in failed)  # who asked since then was answered
    assert running.said().count("there is no network now: its process has ended") == 1
    assert "Traceback" not in running.said()


class Halting(threading.Thread):
    """A request whose picture arrives in two halves, the second of them when it is `released`."""

    def __init__(self, address: httpx.URL, released: threading.Event) -> None:
        super().__init__()
        self._address, self._released = address, released
        self.answer: httpx.Response | Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self.answer = httpx.post(f"{self._address}/predict?detect=false", content=self._halves(), timeout=240)
        except httpx.TransportError as error:
            self.answer = error

    def _halves(self) -> Iterator[bytes]:
        yield PICTURE[:100]
        assert self._released.wait(240)
        yield PICTURE[100:]


@pytest.fixture(scope="module")
def crops(running: Running) -> dict[bytes, dict[str, Any]]:
    """Return crops of a width that no other picture here has, and what the service answered for each."""
    sent = [encoded(".png", picture(120, 101, seed=seed)) for seed in range(5)]
    answers = {crop: running.client.post("/predict?detect=false", content=crop).json() for crop in sent}
    files = [("images", ("a.png", part)) for part in (sent[0], b"text")]
    running.client.post("/predict_batch?detect=false", files=files)
    assert running.client.post("/predict", content=sent[0]).json()["faces"] == []
    assert measured(running.client)["expression_logged_faces_total", "dropped"] == 0
    return answers


@pytest.mark.usefixtures("crops")
def test_who_was_taken_is_answered_when_the_service_ends(running: Running) -> None:
    address, released = running.client.base_url, threading.Event()
    taken = [Halting(address, released) for _ in range(8)]
    until(lambda: measured(running.client)["expression_requests_in_flight",] == len(taken))
    with Crowd(address, 4) as crowd:
        until(lambda: bool(crowd.asked))
        running.process.send_signal(signal.SIGTERM)
        until(lambda: refused(address))
        released.set()
        assert running.process.wait(240) == 0
    for each in taken:
        each.join()
    assert [getattr(each.answer, "status_code", each.answer) for each in taken] == [200] * len(taken)
    # Of those who asked meanwhile, some were still taken; others found nobody, or had not been read yet.
    assert {asked.status for asked in crowd.asked} == {200, 0}
    assert not [asked.text for asked in crowd.asked if "complete" in asked.text or "Timeout" in asked.text]
    assert not [entry.name for entry in running.temporary.iterdir()]
    assert "Traceback" not in running.said()


def test_what_was_answered_is_in_the_log_when_the_service_has_ended(
    running: Running, crops: dict[bytes, dict[str, Any]]
) -> None:
    if running.process.poll() is None:
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(240) == 0
    rows = read_log(running.folder / "log").query("width == 101")
    assert set(NUMBERS) <= set(rows)
    assert set(rows.name) == {"expression-classifier-sample"}
    assert set(rows.version) == {"3"}
    # The first crop was sent again in a batch; what shows no face, or is no image, is no row.
    faces = [answer["faces"][0] for answer in [*crops.values(), next(iter(crops.values()))]]
    assert rows.emotion.to_list() == [face["emotion"] for face in faces]
    told = [face["confidence"] for face in faces]
    np.testing.assert_allclose(rows.confidence, told, atol=1e-5)
    assert set(rows.height) == {120}
    assert rows.score.isna().all()  # nobody looked for a face
    assert rows.brightness.between(100, 150).all()


def until(condition: Callable[[], bool], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def refused(address: httpx.URL) -> bool:
    try:
        httpx.get(f"{address}/livez", timeout=5)
    except httpx.ConnectError:
        return True
    except httpx.TransportError:
        pass
    return False
