"""Live sessions: over real WebSockets to a real service, and their limits in the test's own process."""

import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from httpx_ws import WebSocketDisconnect, WebSocketSession, connect_ws
from serving import wait_until_served
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect as Closed
from toys import encoded, picture, toy_model

from pipeline.client import Client
from pipeline.errors import PipelineError
from pipeline.files import sha256_of
from pipeline.inference.options import ImageOptions, LiveOptions
from pipeline.inference.pointer import Pointer, read_pointer, write_pointer
from pipeline.inference.predictor import Predictor
from pipeline.labels import LABELS
from pipeline.serving.endpoint import create_app
from pipeline.serving.live import FULL, IDLE, REFUSED, TOO_LARGE, VARIABLE, load_limits
from pipeline.serving.session import Seen, Session
from pipeline.vision.faces import Face

FRAMES = [encoded(kind, picture(seed=seed)) for seed, kind in enumerate((".jpg", ".png", ".webp", ".bmp"))]
CERTAIN = np.eye(len(LABELS), dtype=np.float32)


@pytest.fixture(scope="module")
def predictor(folder: Path, client: httpx.Client) -> Predictor:
    return Predictor(folder / "registry" / "3.onnx", name="expression-classifier-sample", version="3")


def session_of(client: httpx.Client) -> Any:
    return connect_ws(f"{client.base_url}/live")


def ask(session: WebSocketSession, frame: bytes) -> dict[str, Any]:
    session.send_bytes(frame)
    return session.receive_json(timeout=60)


def probabilities(answer: dict[str, Any]) -> list[float]:
    return [answer["faces"][0]["probabilities"][label] for label in LABELS]


def test_each_frame_is_answered_as_an_image_is_and_names_who_it_is(client: httpx.Client, predictor: Predictor) -> None:
    options = LiveOptions(detect=False, smoothing=0, top=2, tta=True)
    answers = list(Client(str(client.base_url)).live(FRAMES, options))
    assert [(answer["frame"], answer["dropped"]) for answer in answers] == [(1, 0), (2, 0), (3, 0), (4, 0)]
    assert [answer["time"] for answer in answers] == sorted(answer["time"] for answer in answers)
    for frame, answer in zip(FRAMES, answers, strict=True):
        expected = predictor.predict(frame, detect=False, top=2, tta=True)
        (face,), (expected_face,) = answer["faces"], expected["faces"]
        assert (face["track"], face["box"], face["emotion"]) == (1, expected_face["box"], expected_face["emotion"])
        assert face["probabilities"] == pytest.approx(expected_face["probabilities"], abs=1e-6)
        assert [label for label, _ in face["top"]] == [label for label, _ in expected_face["top"]]
        assert answer["model"] == expected["model"]


def test_what_is_read_is_smoothed_by_time_as_in_videos(client: httpx.Client, predictor: Predictor) -> None:
    before, now = Client(str(client.base_url)).live(FRAMES[:2], LiveOptions(detect=False, smoothing=0.5))
    first, second = (probabilities(predictor.predict(frame, detect=False)) for frame in FRAMES[:2])
    old = math.exp(-(now["time"] - before["time"]) / 0.5)
    assert probabilities(before) == pytest.approx(first, abs=1e-6)
    expected = [old * a + (1 - old) * b for a, b in zip(first, second, strict=True)]
    assert probabilities(now) == pytest.approx(expected, abs=3e-3)


def test_without_options_faces_are_looked_for_and_none_is_no_error(client: httpx.Client) -> None:
    with session_of(client) as session:
        answer = ask(session, FRAMES[0])
    assert (answer["faces"], answer["note"]) == ([], "no face was found in this frame")


@pytest.mark.parametrize(("broken", "status"), [(b"text", 415), (FRAMES[0][:200], 400), (b"", 400)])
def test_a_broken_frame_is_told_and_does_no_harm_to_the_next(client: httpx.Client, broken: bytes, status: int) -> None:
    bad, good = Client(str(client.base_url)).live([broken, FRAMES[0]], LiveOptions(detect=False))
    assert (bad["frame"], bad["status"], "error" in bad, "faces" in bad) == (1, status, True, False)
    assert (good["frame"], len(good["faces"])) == (2, 1)


def test_where_frames_come_too_fast_the_latest_wins_and_memory_stays(client: httpx.Client) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (570, 570, 3)).astype(np.uint8)
    frame, count, answers = encoded(".png", noise), 60, []
    servers = psutil.Process(os.getpid()).children(recursive=True)
    before = sum(server.memory_info().rss for server in servers)
    with session_of(client) as session:
        session.send_json({"detect": False})
        for _ in range(count):
            session.send_bytes(frame)
        while not answers or answers[-1]["frame"] < count:
            answers.append(session.receive_json(timeout=60))
    grown = sum(server.memory_info().rss for server in servers) - before
    numbers = [answer["frame"] for answer in answers]
    assert numbers == sorted(set(numbers))
    assert len(answers) + answers[-1]["dropped"] == count
    assert answers[-1]["dropped"] > 0
    assert grown < len(frame) * count / 2


@pytest.mark.parametrize(
    ("sent", "code", "reason"),
    [
        (['{"smoothing": -1}'], REFUSED, "smoothing must be a number from 0 to 10, not -1"),
        (['{"fps": 2}'], REFUSED, "there is no option 'fps'; there is: detect, top, tta, smoothing"),
        (["[1]"], REFUSED, "the JSON must be an object"),
        (["hello"], REFUSED, "the JSON is broken"),
        (["{}", "{}"], REFUSED, "a text with options can only be the first message"),
        ([FRAMES[0] + bytes(1_000_000)], TOO_LARGE, "a message has more than 1 MB"),
        (["{" + " " * 1_000_000 + "}"], TOO_LARGE, "a message has more than 1 MB"),
    ],
)
def test_a_session_that_can_not_go_on_ends_with_a_reason(
    client: httpx.Client, sent: list[str | bytes], code: int, reason: str
) -> None:
    with session_of(client) as session, pytest.raises(WebSocketDisconnect) as ended:  # noqa: PT012
        for message in sent:
            session.send_bytes(message) if isinstance(message, bytes) else session.send_text(message)
        session.receive(timeout=60)
    assert (ended.value.code, reason in ended.value.reason) == (code, True)
    (answer,) = Client(str(client.base_url)).live(FRAMES[:1], LiveOptions(detect=False))
    assert len(answer["faces"]) == 1


def test_there_are_so_many_sessions_and_one_that_ends_makes_room(client: httpx.Client) -> None:
    ours = Client(str(client.base_url))
    with session_of(client) as one, session_of(client) as two:
        assert ask(one, FRAMES[0])["frame"] == ask(two, FRAMES[0])["frame"] == 1
        with pytest.raises(PipelineError, match="ended the session: 2 sessions are open"):
            list(ours.live(FRAMES[:1]))
        assert ask(one, FRAMES[0])["frame"] == 2
    assert len(list(ours.live(FRAMES[:1]))) == 1
    with pytest.raises(PipelineError, match="is it served there"):
        list(Client("http://127.0.0.1:1").live(FRAMES))


def test_a_session_goes_on_with_the_model_that_goes_live(client: httpx.Client, folder: Path) -> None:
    file = toy_model(folder / "registry" / "4.onnx", side=32)
    first = read_pointer(folder / "champion.json")
    other = Pointer(first.name, "4", "registry/4.onnx", sha256_of(file))
    seen: list[dict[str, Any]] = []

    noise = encoded(".png", np.random.default_rng(0).integers(0, 256, (90, 90, 3)).astype(np.uint8))

    def frames() -> Iterator[bytes]:
        yield noise
        write_pointer(folder / "champion.json", other)
        end = time.monotonic() + 60
        while time.monotonic() < end and seen[-1]["model"]["version"] == "3":
            yield noise

    by_first, by_other = (
        probabilities(Predictor(folder / pointer.location, name="", version="").predict(noise, detect=False))
        for pointer in (first, other)
    )
    try:
        for answer in Client(str(client.base_url)).live(frames(), LiveOptions(detect=False, smoothing=10)):
            seen.append(answer)
    finally:
        write_pointer(folder / "champion.json", first)
        wait_until_served(client, first.version)
    assert {answer["model"]["version"] for answer in seen} == {"3", "4"}
    assert {face["track"] for answer in seen for face in answer["faces"]} == {1}
    assert np.abs(np.subtract(by_first, by_other)).max() > 1e-3
    assert probabilities(seen[-1]) == pytest.approx(by_other, abs=1e-5)  # nothing of version 3 is smoothed into it


def test_people_are_told_apart_and_a_session_holds_those_who_may_come_back_alone() -> None:
    session = Session(LiveOptions(smoothing=0))
    left, right = Face((0, 0, 100, 100), 0.9), Face((300, 0, 100, 100), 0.9)

    def answer(time: float, *faces: Face) -> list[int]:
        said = session.answer(time, Seen({"version": "1"}, list(faces), CERTAIN[: len(faces)]))
        return [face["track"] for face in said["faces"]]

    assert answer(0, left, right) == [1, 2]
    assert answer(0.1, right) == [2]
    assert answer(0.2, right, left) == [2, 1]
    for turn in range(100):
        answer(0.3 + turn / 10, left)
    assert [len(track.readings) for track in session._tracker.tracks] == [1]
    assert answer(11, left, right) == [1, 3]


class Here:
    """A service in this process, with a real model."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    async def see(self, image: bytes, options: ImageOptions) -> Seen:
        found = self._predictor.faces(image, options.detect)
        rows = self._predictor.probabilities(self._predictor.stack(found))
        return Seen(self._predictor.model, [face for face, _ in found], rows)


@pytest.mark.parametrize(
    ("limits", "code", "reason"),
    [
        ({"idle": 0.3}, IDLE, "no frame came for 0.3 seconds"),
        ({"seconds": 0.5}, 1000, "a session ends after 0.5 seconds; open another"),
        ({"sessions": 0}, FULL, "0 sessions are open"),
    ],
)
def test_sessions_end_by_the_limits_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, float], code: int, reason: str
) -> None:
    monkeypatch.setenv(VARIABLE, json.dumps(limits))
    here = Here(Predictor(toy_model(tmp_path / "toy.onnx"), name="expression-classifier", version="3"))
    app = create_app(lambda: here)  # type: ignore[arg-type, return-value]
    with TestClient(app).websocket_connect("/live") as session, pytest.raises(Closed) as ended:  # noqa: PT012
        session.send_bytes(FRAMES[0])
        while True:
            session.receive_json()
    assert (ended.value.code, reason in ended.value.reason) == (code, True)


@pytest.mark.parametrize("wrong", ['{"sesions": 3}', '{"idle": 0}', '{"megabytes": 20}', "no JSON"])
def test_wrong_limits_are_told(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv(VARIABLE, wrong)
    with pytest.raises(PipelineError, match=VARIABLE):
        load_limits()
