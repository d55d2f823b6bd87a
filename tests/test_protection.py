"""What stands before the endpoint, around the endpoint's own routes; `test_protected_service.py` asks a service."""

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from anyio.to_thread import run_sync
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from toys import encoded

from pipeline.serving.endpoint import create_app
from pipeline.serving.errors import OverloadedError
from pipeline.serving.protection import request_log
from pipeline.serving.protection.chain import Protection, who_may_ask
from pipeline.serving.protection.exposure import Exposure
from pipeline.serving.protection.keys import add_key, revoke_key
from pipeline.serving.protection.rates import Rate

JPEG = encoded(".jpg")
HERE, ELSEWHERE = ("127.0.0.1", 50000), ("203.0.113.7", 50000)


class Toy:
    """A service that does what a test wants while it answers."""

    def __init__(self, work: Any = None) -> None:
        self._work = work

    def describe(self) -> dict[str, Any]:
        return {"name": "expression-classifier", "version": "3"}

    async def answer(self, image: bytes, detect: bool) -> dict[str, Any]:
        if self._work:
            await self._work()
        return {"faces": [], "bytes": len(image)}


def protected(exposure: Exposure, work: Any = None) -> ASGIApp:
    routes = create_app(lambda: Toy(work))  # type: ignore[arg-type, return-value]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            socket = WebSocket(scope, receive, send)
            await socket.accept()
            await socket.send_text(await socket.receive_text())
            await socket.close()
        else:
            await routes(scope, receive, send)

    return Protection(app, exposure)


def client(exposure: Exposure, address: tuple[str, int] = HERE, work: Any = None) -> TestClient:
    return TestClient(protected(exposure, work), client=address, raise_server_exceptions=False)


def refused(answer: httpx.Response, status: int, words: str) -> None:
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    assert words in answer.json()["error"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_key_is_taken_in_both_headers_and_nothing_else_is(file: Path) -> None:
    key = add_key(file, "phone")
    asked = client(Exposure(keys=file), ELSEWHERE)
    for headers in ({"authorization": f"Bearer {key}"}, {"authorization": f"bearer {key}"}, {"x-api-key": key}):
        assert asked.post("/predict", content=JPEG, headers=headers).status_code == 200
    for headers in ({}, {"authorization": f"Basic {key}"}, {"authorization": "Bearer"}, {"x-api-key": ""}):
        answer = asked.post("/predict", content=JPEG, headers=headers)
        refused(answer, 401, "a key is needed")
        assert answer.headers["www-authenticate"] == 'Bearer realm="expression recognition"'
    for headers in ({"authorization": f"Bearer {key}x"}, {"x-api-key": key[:-1]}, {"authorization": "Bearer \xff"}):
        answer = asked.post("/predict", content=JPEG, headers={k: v.encode("latin-1") for k, v in headers.items()})
        refused(answer, 401, "was revoked")
        assert answer.headers["www-authenticate"].endswith(', error="invalid_token"')
    refused(asked.post(f"/predict?key={key}", content=JPEG), 401, "a key is needed")
    refused(TestClient(protected(Exposure(keys=file)), client=HERE).get("/model"), 401, "a key is needed")


def test_a_revoked_key_opens_nothing_at_once(file: Path) -> None:
    key = add_key(file, "phone")
    asked = client(Exposure(keys=file))
    assert asked.get("/", headers={"x-api-key": key}).status_code == 200
    revoke_key(file, "phone")
    refused(asked.get("/", headers={"x-api-key": key}), 401, "was revoked")


def test_keys_that_can_not_be_read_let_nobody_in_and_the_log_says_so_once(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = add_key(file, "phone")
    asked = client(Exposure(keys=file))
    file.write_text("{")
    for _ in range(3):
        answer = asked.get("/", headers={"x-api-key": key})
        refused(answer, 503, "can not read its keys")
        assert answer.headers["retry-after"]
        assert str(file) not in answer.text
    assert caplog.text.count("nobody is let in") == 1


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz"])
def test_probes_need_no_key(path: str, file: Path) -> None:
    add_key(file, "phone")
    # The routes of BentoML are not here, so what is let in is not found.
    assert client(Exposure(keys=file), ELSEWHERE).get(path).status_code == 404
    assert client(Exposure(), ELSEWHERE).get(path).status_code == 404
    assert client(Exposure(keys=file)).get(f"{path}/").status_code == 401
    assert client(Exposure(keys=file)).get("/metrics").status_code == 401


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
def test_without_keys_the_own_machine_is_answered(host: str) -> None:
    assert client(Exposure(), (host, 1)).post("/predict", content=JPEG).status_code == 200


@pytest.mark.parametrize("host", ["203.0.113.7", "172.17.0.1", "10.0.0.1", "::ffff:203.0.113.7", "2001:db8::1", "x"])
def test_without_keys_nobody_else_is(host: str) -> None:
    refused(client(Exposure(), (host, 1)).post("/predict", content=JPEG), 403, "start it with FER_KEYS")
    assert client(Exposure(open=True), (host, 1)).post("/predict", content=JPEG).status_code == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
def test_without_keys_no_proxy_lets_others_in(header: str) -> None:
    asked = client(Exposure())
    refused(asked.get("/", headers={header: "127.0.0.1"}), 403, "has no keys")


@pytest.mark.parametrize(
    ("origin", "status"),
    [("https://evil.example", 403), ("null", 403), ("http://[", 403), ("http://localhost:8080", 200)],
)
def test_without_keys_no_page_from_elsewhere_asks_by_a_browser_here(origin: str, status: int) -> None:
    assert client(Exposure()).post("/predict", content=JPEG, headers={"origin": origin}).status_code == status


def test_the_log_is_told_who_may_ask(file: Path) -> None:
    add_key(file, "phone")
    assert "whoever has one of the 1 keys" in who_may_ask(Exposure(keys=file))
    assert "everybody" in who_may_ask(Exposure(open=True))
    assert "only clients of this machine" in who_may_ask(Exposure())


def test_each_address_has_its_rate_whoever_it_says_to_be(file: Path) -> None:
    key = add_key(file, "phone")
    app = protected(Exposure(keys=file, rate_address=Rate(3, 3600)))
    stranger, phone = TestClient(app, client=ELSEWHERE), TestClient(app, client=("203.0.113.8", 1))
    answers = [
        stranger.get("/", headers={"x-api-key": f"guess {n}", "x-forwarded-for": f"10.0.0.{n}"}) for n in range(5)
    ]
    assert [answer.status_code for answer in answers] == [401] * 3 + [429] * 2
    refused(answers[-1], 429, "too many requests")
    assert int(answers[-1].headers["retry-after"]) == pytest.approx(1200, abs=2)
    assert phone.get("/", headers={"x-api-key": key}).status_code == 200
    assert stranger.get("/livez").status_code == 404  # a probe is not counted


def test_each_key_has_its_rate_wherever_it_is_used(file: Path) -> None:
    phone, tablet = add_key(file, "phone"), add_key(file, "tablet")
    app = protected(Exposure(keys=file, rate_key=Rate(4, 3600)))
    statuses = [
        TestClient(app, client=(f"203.0.113.{n}", 1)).get("/", headers={"x-api-key": phone}).status_code
        for n in range(6)
    ]
    assert statuses == [200] * 4 + [429] * 2
    assert TestClient(app).get("/", headers={"x-api-key": tablet}).status_code == 200


def test_each_image_of_a_batch_counts() -> None:
    asked = client(Exposure(rate_address=Rate(10, 3600)))
    files = [("images", ("a.jpg", JPEG))] * 20
    answer = asked.post("/predict_batch", files=files)
    assert (answer.status_code, len(answer.json()["answers"])) == (200, 20)
    refused(asked.post("/predict", content=JPEG), 429, "ask again in 3960 s")  # 11 more than the bucket held


def test_above_its_capacity_a_service_says_when_to_come_back() -> None:
    arrived, go_on = threading.Semaphore(0), threading.Event()

    async def work() -> None:
        arrived.release()
        await run_sync(go_on.wait)

    with client(Exposure(concurrency=2), work=work) as asked, ThreadPoolExecutor(2) as threads:
        try:
            slow = [threads.submit(asked.post, "/predict", content=JPEG) for _ in range(2)]
            assert all(arrived.acquire(timeout=60) for _ in range(2))
            answer = asked.get("/model")
            refused(answer, 503, "as much to do as it can")
            assert int(answer.headers["retry-after"]) >= 1
            assert asked.get("/livez").status_code == 404  # let in, to BentoML's own
            assert asked.get("/metrics").status_code != 503
        finally:
            go_on.set()
        assert [answer.result().status_code for answer in slow] == [200, 200]
        assert asked.get("/").status_code == 200


def test_what_the_network_has_no_time_for_may_be_asked_again() -> None:
    async def work() -> None:
        raise OverloadedError("the network is busy")

    answer = client(Exposure(), work=work).post("/predict", content=JPEG)
    refused(answer, 503, "busy")
    assert int(answer.headers["retry-after"]) >= 1


async def drops(seconds: float, parts: int | None, start: bytes = JPEG) -> AsyncIterator[bytes]:
    yield start
    while parts is None or parts > 0:
        parts = None if parts is None else parts - 1
        await asyncio.sleep(seconds)
        yield b"x"


def ask(exposure: Exposure, content: Any, work: Any = None, **sent: Any) -> httpx.Response:
    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(protected(exposure, work))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as session:
            return await session.post("/predict", content=content, **sent)

    return asyncio.run(asyncio.wait_for(asked(), 10))


FORM = b'--x\r\ncontent-disposition: form-data; name="image"; filename="a"\r\n\r\n'


@pytest.mark.parametrize(
    ("kind", "start"), [("image/jpeg", JPEG), ("multipart/form-data; boundary=x", FORM)], ids=["body", "form"]
)
def test_a_body_without_an_end_is_not_waited_for(kind: str, start: bytes) -> None:
    answer = ask(Exposure(body_seconds=1), drops(0.05, None, start), headers={"content-type": kind})
    refused(answer, 408, "did not arrive within 1 seconds")
    assert answer.headers["connection"] == "close"


def test_a_body_that_arrives_in_time_may_come_in_drops() -> None:
    assert ask(Exposure(body_seconds=60), drops(0.05, 5)).json() == {"faces": [], "bytes": len(JPEG) + 5}


def test_work_that_hangs_is_answered_for() -> None:
    async def work() -> None:
        await asyncio.sleep(3600)

    answer = ask(Exposure(request_seconds=1), JPEG, work)
    refused(answer, 503, "no answer within 1 seconds")
    assert int(answer.headers["retry-after"]) >= 1


def test_a_thread_that_hangs_keeps_its_place_until_it_ends() -> None:
    go_on = threading.Event()

    async def work() -> None:
        await run_sync(go_on.wait)

    async def asked() -> list[int]:
        app = protected(Exposure(request_seconds=1, body_seconds=1, concurrency=1), work)
        answered = asyncio.Event()
        statuses = []

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
                answered.set()

        async def receive() -> Any:
            return {"type": "http.request", "body": JPEG}

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/predict",
            "headers": [],
            "query_string": b"",
            "client": HERE,
        }
        hanging = asyncio.create_task(app(dict(scope), receive, send))  # type: ignore[arg-type]
        await asyncio.wait_for(answered.wait(), 60)
        assert not hanging.done()
        await app(dict(scope), receive, send)  # as the thread still runs, this one has no place
        go_on.set()
        await asyncio.wait_for(hanging, 60)
        await app(dict(scope), receive, send)
        return statuses

    assert asyncio.run(asked()) == [503, 503, 200]


def test_pages_of_named_origins_may_ask_and_read_refusals_too(file: Path) -> None:
    key = add_key(file, "phone")
    asked = client(Exposure(keys=file, origins=("https://app.example",)), ELSEWHERE)
    wish = {"access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}
    before = asked.options("/predict", headers={"origin": "https://app.example", **wish})
    assert before.status_code == 200
    assert before.headers["access-control-allow-origin"] == "https://app.example"
    assert asked.options("/predict", headers={"origin": "https://evil.example", **wish}).status_code == 400
    for headers, status in (({"x-api-key": key}, 200), ({}, 401)):
        answer = asked.post("/predict", content=JPEG, headers={"origin": "https://app.example", **headers})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
        assert "origin" in answer.headers["vary"].lower()
    answer = asked.post("/predict", content=JPEG, headers={"origin": "https://evil.example", "x-api-key": key})
    assert "access-control-allow-origin" not in answer.headers


def test_without_named_origins_no_page_is_told_that_it_may_ask() -> None:
    answer = client(Exposure(open=True)).get("/", headers={"origin": "https://app.example"})
    assert not [header for header in answer.headers if header.startswith("access-control")]


@pytest.mark.parametrize("path", ["/", "/docs.json", "/nothing", "/predict", "/livez"])
@pytest.mark.parametrize("exposure", [Exposure(), Exposure(open=True, origins=("https://app.example",))])
def test_every_answer_is_safe_to_look_at(path: str, exposure: Exposure) -> None:
    for address in (HERE, ELSEWHERE):
        headers = client(exposure, address).get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("abc-1.2_3", True),
        ("a" * 64, True),
        ("a" * 65, False),
        ("a b", False),
        ("a\tb", False),
        ("ä", False),
        ("", False),
    ],
)
def test_an_id_is_echoed_if_it_is_harmless_and_made_otherwise(sent: str, kept: bool) -> None:
    answered = client(Exposure()).get("/", headers={"x-request-id": sent.encode("latin-1")}).headers["x-request-id"]
    assert (answered == sent) is kept
    assert kept or (len(answered) == 32 and answered.isalnum())


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_line_is_kept_of_each_request_without_what_strangers_wrote(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = add_key(file, "phone")
    app = protected(Exposure(keys=file, log_form="json"))
    asked = TestClient(app, client=ELSEWHERE)
    asked.post("/predict?secret=word", content=JPEG, headers={"x-api-key": key, "x-request-id": "first"})
    asked.get("/private/person", headers={"x-api-key": "wrong", "user-agent": "browser"})
    asked.request("BREW", "/", headers={"x-api-key": key})
    first, second, third = lines(capsys)
    assert {name: first[name] for name in ("id", "method", "route", "status", "key")} == {
        **{"id": "first", "method": "POST", "route": "/predict", "status": 200, "key": "phone"},
    }
    assert first["bytes_in"] == len(JPEG)
    assert first["bytes_out"] > 0 < first["ms"]
    assert (second["route"], second["status"], second["key"]) == ("other", 401, None)
    assert third["method"] == "other"
    text = json.dumps([first, second, third])
    assert not [word for word in (key, "secret", "person", "wrong", "BREW", "203.0.113.7", "browser") if word in text]


def test_the_address_is_kept_if_it_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    app = protected(Exposure(log_form="json", log_clients=True))
    TestClient(app, client=ELSEWHERE).get("/")
    assert [line["client"] for line in lines(capsys)] == ["203.0.113.7"]


def test_as_text_a_line_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    asked = TestClient(protected(Exposure(log_clients=True)), client=ELSEWHERE)
    asked.get("/", headers={"x-request-id": "first"})
    (line,) = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"20\S+ GET / 403 in [\d.]+ ms, 0 bytes in, \d{3} out, id first, client 203\.0\.113\.7", line)


def test_of_many_refusals_in_a_second_few_have_a_line_and_the_next_says_how_many_had_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(request_log, "time", SimpleNamespace(monotonic=lambda: now))
    asked = client(Exposure(open=True, rate_address=Rate(2, 3600), log_form="json"))
    statuses = [asked.get("/").status_code for _ in range(40)]
    assert statuses == [200] * 2 + [429] * 38
    first = lines(capsys)
    assert [line["status"] for line in first] == [200] * 2 + [429] * request_log.REFUSALS
    assert not any("left_out" in line for line in first)
    now = 101.0
    asked.get("/")
    asked.get("/")
    third, fourth = lines(capsys)
    assert third["left_out"] == 38 - request_log.REFUSALS
    assert "left_out" not in fourth


def test_a_web_socket_is_let_in_like_a_request(file: Path) -> None:
    key = add_key(file, "phone")
    asked = client(Exposure(keys=file, rate_key=Rate(2, 3600)), ELSEWHERE)
    with asked.websocket_connect("/live", headers={"x-api-key": key}) as socket:
        socket.send_text("hello")
        assert socket.receive_text() == "hello"
    for headers in ({}, {"x-api-key": "wrong"}):
        with pytest.raises(WebSocketDisconnect), asked.websocket_connect("/live", headers=headers):
            pass
    with pytest.raises(WebSocketDisconnect), client(Exposure(), ELSEWHERE).websocket_connect("/live"):
        pass
