"""A service with keys, rates and named origins, over real HTTP; `test_protection.py` looks at each part."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import ROOT, free_port, running, serve, write_champion
from toys import encoded

from pipeline.client import Client
from pipeline.errors import PipelineError
from pipeline.serving.deployment import prepare
from pipeline.serving.protection.exposure import Exposure
from pipeline.serving.protection.keys import add_key, revoke_key

JPEG = encoded(".jpg")
PAGE = "https://app.example"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("protected")


@pytest.fixture(scope="module")
def keys(folder: Path) -> dict[str, str]:
    return {name: add_key(folder / "keys.json", name) for name in ("phone", "tablet", "lost")}


@pytest.fixture(scope="module")
def service(folder: Path, keys: dict[str, str]) -> Iterator[httpx.Client]:
    """Serve with everything on; whoever asks has the tablet's key, unless a test says otherwise."""
    said = {
        "FER_KEYS": str(folder / "keys.json"),
        "FER_RATE_KEY": "1000/day",
        "FER_CONCURRENCY": "4",
        "FER_BODY_SECONDS": "2",
        "FER_REQUEST_SECONDS": "20",
        "FER_CORS": PAGE,
        "FER_LOG": "json",
    }
    with running(folder, write_champion(folder), **said) as client:
        client.headers["x-api-key"] = keys["tablet"]
        yield client


def lines(folder: Path) -> list[dict[str, Any]]:
    log = (folder / "server.log").read_text().splitlines()
    return [json.loads(line) for line in log if line.startswith('{"time"')]


def line_of(folder: Path, name: str) -> dict[str, Any]:
    end = time.monotonic() + 60
    while not (found := [line for line in lines(folder) if line["id"] == name]):
        assert time.monotonic() < end, (folder / "server.log").read_text()[-2000:]
        time.sleep(0.1)
    return found[0]


def test_a_key_opens_the_service_until_it_is_revoked(service: httpx.Client, folder: Path, keys: dict[str, str]) -> None:
    lost = {"x-api-key": keys["lost"]}
    assert service.post("/predict?detect=false", content=JPEG, headers=lost).status_code == 200
    revoke_key(folder / "keys.json", "lost")
    answer = service.post("/predict?detect=false", content=JPEG, headers=lost)
    assert (answer.status_code, set(answer.json())) == (401, {"error"})
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert service.get("/metrics").status_code == 200


def test_a_client_with_a_key_goes_live_and_one_without_does_not(service: httpx.Client, keys: dict[str, str]) -> None:
    address = str(service.base_url)
    (answer,) = Client(address, key=keys["tablet"]).live([JPEG])
    assert (answer["frame"], len(answer["faces"])) == (1, 0)
    with pytest.raises(PipelineError, match="401"):
        list(Client(address).live([JPEG]))


@pytest.mark.parametrize(("path", "status"), [("/livez", 200), ("/readyz", 200), ("/metrics", 401), ("/model", 401)])
def test_only_probes_need_no_key(path: str, status: int, service: httpx.Client) -> None:
    answer = httpx.get(service.base_url.join(path))
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers


def test_the_container_asks_whether_it_is_well(service: httpx.Client) -> None:
    template = (ROOT / "Dockerfile.template").read_text()
    _, code, program = json.loads(template.split("CMD ")[1].splitlines()[0])
    for port, well in ((service.base_url.port, True), (free_port(), False)):
        done = subprocess.run([sys.executable, code, program.replace("3000", str(port))], capture_output=True)
        assert (done.returncode == 0) is well


def test_the_client_sends_its_key(service: httpx.Client, keys: dict[str, str]) -> None:
    assert Client(str(service.base_url), key=keys["phone"]).predict(JPEG, detect=False)["faces"]
    with pytest.raises(PipelineError, match="answered 401: a key is needed"):
        Client(str(service.base_url)).predict(JPEG)


def test_a_large_upload_without_a_key_is_refused_before_it_is_read(service: httpx.Client) -> None:
    answer = httpx.post(service.base_url.join("/predict"), content=bytes(15_000_000))
    assert answer.status_code == 401
    assert service.post("/predict?detect=false", content=JPEG).status_code == 200


def test_above_its_capacity_it_answers_503_and_goes_on(service: httpx.Client) -> None:
    def ask(_: int) -> httpx.Response:
        return service.post("/predict?detect=false", content=JPEG)

    with ThreadPoolExecutor(40) as threads:
        answers = list(threads.map(ask, range(200)))
    statuses = {answer.status_code for answer in answers}
    assert statuses == {200, 503}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status_code == 503)
    assert ask(0).status_code == 200


def raw(service: httpx.Client, head: str, parts: Iterator[bytes]) -> bytes:
    """Send a head and then parts, one every half a second, and return what is answered until it is hung up."""
    with socket.create_connection((service.base_url.host, service.base_url.port or 80), timeout=60) as line:
        line.sendall(head.encode())
        answer = b""
        line.settimeout(0.5)
        for part in parts:
            try:
                if got := line.recv(65536):
                    answer += got
                    continue
                return answer
            except TimeoutError:
                line.sendall(part)
            except ConnectionError:
                return answer
    return b""


@pytest.mark.parametrize("way", ["drops of a long body", "chunks without an end"])
def test_a_body_that_never_ends_is_hung_up_on(way: str, service: httpx.Client, keys: dict[str, str]) -> None:
    kind, part = ("transfer-encoding: chunked", b"1\r\nx\r\n") if "chunks" in way else ("content-length: 9999", b"x")
    head = f"POST /predict HTTP/1.1\r\nhost: service\r\nx-api-key: {keys['tablet']}\r\n{kind}\r\n\r\n"
    answer = raw(service, head, iter([part] * 120))  # for a minute, on a machine that is busy
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'{"error":"the upload did not arrive within 2 seconds"}' in answer


def test_a_page_of_a_named_origin_may_ask(service: httpx.Client) -> None:
    wish = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    before = httpx.options(service.base_url.join("/predict"), headers={"origin": PAGE, **wish})
    assert (before.status_code, before.headers["access-control-allow-origin"]) == (200, PAGE)
    answer = service.post("/predict?detect=false", content=JPEG, headers={"origin": PAGE})
    assert answer.headers["access-control-allow-origin"] == PAGE


def test_each_request_leaves_a_line_without_key_or_query(
    service: httpx.Client, folder: Path, keys: dict[str, str]
) -> None:
    service.post("/predict?detect=false&who=somebody", content=JPEG, headers={"x-request-id": "kept"})
    service.get("/somebody/else", headers={"x-request-id": "lost"})
    line = line_of(folder, "kept")
    assert (line["method"], line["route"], line["status"], line["key"]) == ("POST", "/predict", 200, "tablet")
    assert (line["bytes_in"], line["bytes_out"] > 100, line["ms"] > 0) == (len(JPEG), True, True)
    assert (line_of(folder, "lost")["route"], line_of(folder, "lost")["status"]) == ("other", 404)
    log = (folder / "server.log").read_text()
    assert not [word for word in (*keys.values(), "somebody") if word in log]


def test_the_images_of_a_batch_count_for_the_key(service: httpx.Client, folder: Path) -> None:
    head = {"x-api-key": add_key(folder / "keys.json", "busy")}
    files = [("images", ("a.jpg", b"no picture"))] * 64  # answered soon, and counted too
    statuses = []
    while len(statuses) < 20 and statuses[-1:] != [429]:
        answer = service.post("/predict_batch?detect=false", files=files, headers=head)
        statuses.append(answer.status_code)
    assert statuses == [200] * 16 + [429]  # 1000 images a day
    assert int(answer.headers["retry-after"]) > 60
    assert service.post("/predict?detect=false", content=JPEG).status_code == 200  # another key


def test_a_client_that_leaves_is_no_error_of_the_service(
    service: httpx.Client, folder: Path, keys: dict[str, str]
) -> None:
    with socket.create_connection((service.base_url.host, service.base_url.port or 80), timeout=60) as line:
        head = f"POST /predict HTTP/1.1\r\nhost: x\r\nx-api-key: {keys['phone']}\r\nx-request-id: gone"
        line.sendall(f"{head}\r\ncontent-length: 999\r\n\r\nbytes".encode())
        time.sleep(0.3)
    assert line_of(folder, "gone")["status"] == 499
    assert "Traceback" not in (folder / "server.log").read_text()


def test_keys_that_are_not_there_end_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_KEYS", "")  # which is set for the processes that would be started
    with pytest.raises(PipelineError, match=r"there is no file of keys at .*nowhere\.json"):
        prepare(Exposure(keys=tmp_path / "nowhere.json"))


def test_what_can_not_be_meant_ends_the_start(tmp_path: Path) -> None:
    server = serve(tmp_path, write_champion(tmp_path), free_port(), FER_RATE_ADDRESS="many")
    assert server.wait(240) == 1
    log = (tmp_path / "server.log").read_text()
    assert "error: FER_RATE_ADDRESS must be a number for a second" in log
    assert "Traceback" not in log
