"""The endpoint over real HTTP, served by `bentoml serve` in processes of its own."""

import io
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import cv2
import httpx
import numpy as np
import onnx
import pytest
from cards import toy_card
from films import RECORDINGS, film, opened, portraits
from promotions import real_champion
from serving import check, field, free_port, refuse, serve, wait_until_served, write_champion
from starlette.testclient import TestClient
from toys import encoded, picture, toy_model, toy_offer

from pipeline.cards.card import write_card
from pipeline.client import Client
from pipeline.datasets.images import read_images
from pipeline.datasets.tables import read_split
from pipeline.errors import PipelineError
from pipeline.evaluation.predictions import stack
from pipeline.files import sha256_of
from pipeline.inference.cores import count_threads
from pipeline.inference.options import ImageOptions, VideoOptions
from pipeline.inference.pointer import Pointer, read_pointer, write_pointer
from pipeline.inference.predictor import Predictor
from pipeline.inference.watching import watch
from pipeline.labels import LABELS
from pipeline.networks.checkpoint import load_checkpoint
from pipeline.sample import draw
from pipeline.serving.deployment import prepare
from pipeline.serving.endpoint import create_app
from pipeline.serving.protection.exposure import Exposure
from pipeline.stages.evaluate import predict
from pipeline.vision.transforms import ImageError, decode
from pipeline.vision.video import VideoError

JPEG, PNG = encoded(".jpg"), encoded(".png")


@pytest.mark.parametrize("kind", [".jpg", ".png", ".webp", ".bmp"])
@pytest.mark.parametrize("way", ["field", "body", "form body"])
def test_image_is_answered_however_it_is_sent(kind: str, way: str, client: httpx.Client, folder: Path) -> None:
    image = encoded(kind, picture(seed=3))
    sent: dict[str, Any] = {"files": {"image": ("x", image)}} if way == "field" else {"content": image}
    if way == "form body":  # what curl --data-binary declares
        sent["headers"] = {"content-type": "application/x-www-form-urlencoded"}
    answer = client.post("/predict?detect=false", **sent)
    assert answer.status_code == 200
    check(answer.json())
    predictor = Predictor(folder / "registry" / "3.onnx", name="expression-classifier-sample", version="3")
    expected = predictor.predict(image, detect=False)["faces"][0]["probabilities"]
    assert answer.json()["faces"][0]["probabilities"] == pytest.approx(expected, abs=1e-6)


def test_no_face_says_so(client: httpx.Client) -> None:
    answer = client.post("/predict", content=PNG).json()
    assert (answer["faces"], answer["model"]["name"]) == ([], "expression-classifier-sample")
    assert "no face was found" in answer["note"]


def test_broken_image_of_a_batch_fails_alone(client: httpx.Client) -> None:
    files = [("images", ("a.jpg", part)) for part in (JPEG, b"text", PNG, JPEG[:500], b"")]
    answers = client.post("/predict_batch?detect=false", files=files).json()["answers"]
    assert [answer.get("status", 200) for answer in answers] == [200, 415, 200, 400, 400]
    assert all("error" in answer for answer in answers if "status" in answer)
    check(answers[0])
    check(answers[2])


def test_many_at_once_are_answered_each_with_its_own(client: httpx.Client) -> None:
    images = [encoded(".png", picture(seed=seed)) for seed in range(8)]
    alone = [client.post("/predict?detect=false", content=image).json()["faces"] for image in images]
    with ThreadPoolExecutor(16) as threads:
        crowd = list(
            threads.map(lambda turn: client.post("/predict?detect=false", content=images[turn % 8]), range(160))
        )
    assert {answer.status_code for answer in crowd} == {200}
    for turn, answer in enumerate(crowd):
        found, expected = answer.json()["faces"][0], alone[turn % 8][0]
        assert found["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)


def test_the_client_gets_the_same_answers_and_refusals_as_exceptions(client: httpx.Client) -> None:
    ours = Client(str(client.base_url))
    assert ours.predict(JPEG, detect=False) == client.post("/predict?detect=false", content=JPEG).json()
    good, bad = ours.predict_batch([JPEG, b"no picture"], detect=False)
    check(good)
    assert bad["status"] == 415
    assert ours.model()["version"] == "3"
    with pytest.raises(ImageError, match="no still image"):
        ours.predict(b"no picture")
    with pytest.raises(PipelineError, match="is it served there"):
        Client(f"http://127.0.0.1:{free_port()}").model()
    with pytest.raises(PipelineError, match="answered 404"):
        Client(f"{client.base_url}/elsewhere").model()


def test_an_explanation_is_a_picture_that_names_what_it_shows(client: httpx.Client, folder: Path) -> None:
    image = encoded(".jpg", picture(90, 130))
    predictor = Predictor(folder / "registry" / "3.onnx", name="expression-classifier-sample", version="3")
    answer = predictor.predict(image, detect=False)["faces"][0]
    _, (maps,) = predictor.class_maps(predictor.stack(predictor.faces(image, detect=False)))
    for label in (None, "sad"):
        chosen = {"detect": "false"} | ({"label": label} if label else {})
        shown = client.post("/explain", params=chosen, files={"image": ("x.jpg", image)})
        assert (shown.status_code, shown.headers["content-type"]) == (200, "image/png")
        assert shown.headers["expression-label"] == (label or answer["emotion"])
        expected = answer["probabilities"][shown.headers["expression-label"]]
        assert float(shown.headers["expression-probability"]) == pytest.approx(expected, abs=1e-4)
        assert shown.headers["face-box"] == "0,0,130,90"
        assert (shown.headers["model-name"], shown.headers["model-version"]) == ("expression-classifier-sample", "3")
        assert "not for real use" in shown.headers["model-warning"]
        assert decode(shown.content).shape == (90, 130, 3)
        told = client.post("/explain", params={**chosen, "form": "json"}, content=image).json()
        np.testing.assert_allclose(told["map"], maps[LABELS.index(told["label"])], atol=1e-5)
        assert told["model"]["version"] == "3"
        alone = client.post("/explain", params={**chosen, "form": "map"}, content=image)
        assert decode(alone.content).shape == (224, 224, 3)
    assert Client(str(client.base_url)).explain(image, "sad", detect=False) == shown.content


def test_a_real_face_is_explained_where_it_is(client: httpx.Client, shared: Path) -> None:
    with ZipFile(shared / "data" / "wild_images.zip") as images:
        portrait = images.read("wild_images/angry/001.jpg")
    answer = client.post("/explain", content=portrait)
    x, y, width, height = map(int, answer.headers["face-box"].split(","))
    changed = np.abs(decode(answer.content).astype(int) - decode(portrait)).max(2) > 8
    rows, columns = np.nonzero(changed)
    margin = 0.12 * max(width, height)
    assert x - margin <= columns.min() < columns.max() <= x + width + margin
    assert y - margin <= rows.min() < rows.max() <= y + height + margin


@pytest.mark.parametrize(
    ("path", "content", "status", "said"),
    [
        ("/explain?label=contempt", JPEG, 422, "label must be one of angry, disgust"),
        ("/explain?form=svg", JPEG, 422, "form must be one of overlay, map, json"),
        ("/explain?detect=perhaps", JPEG, 422, "detect must be"),
        ("/explain", PNG, 422, "no face was found"),
        ("/explain", JPEG[:100], 400, "damaged"),
        ("/explain", b"text", 415, "no still image"),
        ("/explain", bytes(25_000_000), 413, "more than 20 MB"),
    ],
)
def test_what_can_not_be_explained_gets_its_status(
    path: str, content: bytes, status: int, said: str, client: httpx.Client
) -> None:
    answer = client.post(path, content=content)
    refuse(answer, status)
    assert said in answer.json()["error"]


def test_model_tells_its_facts(client: httpx.Client) -> None:
    model = client.get("/model").json()
    assert (model["name"], model["version"]) == ("expression-classifier-sample", "3")
    assert model["facts"]["labels"] == list(LABELS)
    assert model["variant"] == "full"
    computed = {"runtime": "onnxruntime", "precision": "fp32", "device": "cpu", "threads": count_threads()}
    assert model.items() >= computed.items()
    assert "warning" in model


def test_model_gives_its_card_in_the_form_that_is_asked_for(client: httpx.Client, folder: Path) -> None:
    card = client.get("/model").json()["card"]
    assert card == json.loads((folder / "registry" / "card.json").read_text())
    for kind, file in (("text/html", "card.html"), ("text/markdown", "card.md")):
        answer = client.get("/model", headers={"accept": f"{kind},*/*;q=0.8"})
        assert (answer.status_code, answer.headers["content-type"]) == (200, f"{kind}; charset=utf-8")
        assert answer.text == (folder / "registry" / file).read_text()
        assert answer.headers["vary"] == "accept"


class Cardless:
    """A service whose model has no card beside it."""

    def describe(self) -> dict[str, Any]:
        return {"name": "expression-classifier", "version": "3"}

    def card(self) -> None:
        return None

    async def answer(self, image: bytes, options: ImageOptions) -> dict[str, Any]:
        raise NotImplementedError


@pytest.mark.parametrize(("kind", "status"), [("application/json", 200), ("text/html", 404), ("text/markdown", 404)])
def test_a_model_without_a_card_says_so(kind: str, status: int) -> None:
    answer = TestClient(create_app(Cardless)).get("/model", headers={"accept": kind})
    assert answer.status_code == status
    assert status == 200 or "this model has no card" in answer.json()["error"]


def test_every_route_is_described_and_nothing_is_loaded_from_elsewhere(client: httpx.Client) -> None:
    docs = client.get("/docs.json").json()
    assert docs["openapi"].startswith("3.")
    assert {"/predict", "/predict_batch", "/predict_video", "/explain", "/model"} <= set(docs["paths"])
    kinds = docs["paths"]["/model"]["get"]["responses"]["200"]["content"]
    assert set(kinds) == {"application/json", "text/html", "text/markdown"}
    assert "://" not in client.get("/").text
    assert "://" not in json.dumps(docs)


def test_the_answer_for_a_video_is_as_described(client: httpx.Client) -> None:
    docs = client.get("/docs.json").json()
    schema = docs["components"]["schemas"]["VideoAnswer"]["properties"]
    example = docs["paths"]["/predict_video"]["post"]["responses"]["200"]["content"]["application/json"]["example"]
    answer = client.post("/predict_video?detect=false", content=FILM).json()
    for told in (answer, example):
        assert set(told) | {"note"} == set(schema)
        assert set(told["frames"]) == set(schema["frames"]["properties"])
        assert set(told["overall"]) == set(schema["overall"]["properties"])
        assert set(told["tracks"][0]) == set(schema["tracks"]["items"]["properties"])
        seen = schema["tracks"]["items"]["properties"]["timeline"]["items"]["properties"]
        assert set(told["tracks"][0]["timeline"][0]) == set(seen)


def test_bentoml_still_answers_for_health_and_metrics(client: httpx.Client) -> None:
    assert client.get("/livez").status_code == client.get("/readyz").status_code == 200
    assert "expression_ready 1.0" in client.get("/metrics").text


FILM, WEBM = film(portraits(30)), film(portraits(30), ".webm")


@pytest.fixture(scope="module")
def long() -> bytes:
    """Return 18 seconds of a drawn person who does not move: they take longer than a change of the model."""
    person = next(decode(file) for path, file in draw("wild", 3) if path.endswith(".jpg"))
    return film([cv2.resize(person, (320, 320)).astype(np.uint8)] * 180)


def predictor_of(pointer: Pointer, folder: Path) -> Predictor:
    return Predictor(folder / pointer.location, name=pointer.name, version=pointer.version)


@pytest.mark.parametrize(
    ("content", "way"),
    [
        (FILM, "field"),
        (WEBM, "body"),
        *((file.read_bytes(), "form body" if odd else "field") for odd, file in enumerate(RECORDINGS)),
    ],
)
def test_video_is_answered_however_it_is_sent(content: bytes, way: str, client: httpx.Client, folder: Path) -> None:
    sent = field("video", content, "x") if way == "field" else {"content": content}
    if way == "form body":
        sent["headers"] = {"content-type": "application/x-www-form-urlencoded"}
    answer = client.post("/predict_video?detect=false&fps=4&smoothing=1", **sent)
    assert answer.status_code == 200, answer.text
    expected = watch(
        predictor_of(read_pointer(folder / "champion.json"), folder),
        opened(content),
        VideoOptions(fps=4, smoothing=1, detect=False),
    )
    found = answer.json()
    mean, expected_mean = (said["overall"]["mean"].pop("probabilities") for said in (found, expected))
    assert mean == pytest.approx(expected_mean, abs=1e-6)
    assert found["frames"] == expected["frames"]
    assert found["overall"]["distribution"] == expected["overall"]["distribution"]
    assert found["overall"]["screening"] == expected["overall"]["screening"]
    assert [seen["time"] for seen in found["tracks"][0]["timeline"]] == [
        seen["time"] for seen in expected["tracks"][0]["timeline"]
    ]
    assert "not for real use" in found["model"]["warning"]


def test_the_client_sends_videos_too(client: httpx.Client) -> None:
    ours = Client(str(client.base_url))
    answer = ours.predict_video(io.BytesIO(FILM), detect=False)
    assert answer == client.post("/predict_video?detect=false", content=FILM).json()
    with pytest.raises(VideoError, match="no video that can be read"):
        ours.predict_video(io.BytesIO(JPEG))


def test_pictures_do_not_wait_for_videos(client: httpx.Client, long: bytes) -> None:
    def timed(path: str, content: bytes) -> float:
        start = time.monotonic()
        assert client.post(path, content=content).status_code == 200
        return time.monotonic() - start

    with ThreadPoolExecutor(3) as threads:
        videos = [threads.submit(timed, "/predict_video", long) for _ in range(2)]
        pictures = []
        while not any(video.done() for video in videos):
            pictures.append(timed("/predict", JPEG))
    assert len(pictures) >= 5
    assert np.median(pictures) < min(video.result() for video in videos) / 5


@pytest.fixture(scope="module")
def other(folder: Path) -> Pointer:
    """Another version beside the champion: a network that wants smaller faces."""
    file = folder / "registry" / "4" / "model.onnx"
    toy_model(file, side=32, version="v9", weights_sha256="4" * 64)
    write_card(file.parent, toy_card(version="v9", weights_sha256="4" * 64))
    return Pointer("expression-classifier-sample", "4", "registry/4/model.onnx", sha256_of(file))


def wait_until_logged(folder: Path, text: str, times: int = 1) -> None:
    end = time.monotonic() + 60
    while (log := (folder / "server.log").read_text()).count(text) < times:
        assert time.monotonic() < end, log[-3000:]
        time.sleep(0.2)


def test_a_running_server_follows_the_pointer_and_loses_no_request(
    client: httpx.Client, folder: Path, other: Pointer
) -> None:
    first = read_pointer(folder / "champion.json")
    images = [encoded(".png", picture(seed=seed)) for seed in range(4)]
    closed, before = "the former version is closed", (folder / "server.log").read_text()
    answers: list[tuple[int, httpx.Response]] = []
    stop = threading.Event()

    def ask() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            answers.append((turn % 4, client.post("/predict?detect=false", content=images[turn % 4])))

    with ThreadPoolExecutor(8) as threads:
        for _ in range(8):
            threads.submit(ask)
        try:
            for pointer in (other, first, other, first):
                write_pointer(folder / "champion.json", pointer)
                wait_until_served(client, pointer.version)
                recipe = {"3": "v3", "4": "v9"}[pointer.version]
                assert client.get("/model").json()["card"]["version"] == recipe
                assert f", {recipe}</h1>" in client.get("/model", headers={"accept": "text/html"}).text
                time.sleep(0.5)
        finally:
            stop.set()
            write_pointer(folder / "champion.json", first)
    assert {answer.status_code for _, answer in answers} == {200}
    predictors = {
        pointer.version: Predictor(folder / pointer.location, name=pointer.name, version=pointer.version)
        for pointer in (first, other)
    }
    expected = {
        (version, turn): predictor.predict(image, detect=False)["faces"][0]["probabilities"]
        for version, predictor in predictors.items()
        for turn, image in enumerate(images)
    }
    wait_until_logged(folder, closed, times=before.count(closed) + 4)
    assert (folder / "server.log").read_text().count("stays") == before.count("stays")
    for turn, answer in answers:
        said = answer.json()
        found = said["faces"][0]["probabilities"]
        assert found == pytest.approx(expected[said["model"]["version"], turn], abs=1e-5)
    assert {answer.json()["model"]["version"] for _, answer in answers} == {"3", "4"}


def test_a_video_is_answered_by_the_model_that_it_began_with(
    client: httpx.Client, folder: Path, other: Pointer, long: bytes
) -> None:
    first = read_pointer(folder / "champion.json")
    with ThreadPoolExecutor(1) as threads:
        try:
            answer = threads.submit(client.post, "/predict_video?fps=10", content=long)
            time.sleep(0.2)
            write_pointer(folder / "champion.json", other)
            wait_until_served(client, other.version)
            assert not answer.done()  # else this tests nothing
            video = answer.result()
        finally:
            write_pointer(folder / "champion.json", first)
    # The person does not move, so that a few frames are enough to tell the two models apart.
    by_first, by_other = (
        watch(predictor_of(pointer, folder), opened(long), VideoOptions(fps=0.2))["overall"]["mean"]["probabilities"]
        for pointer in (first, other)
    )
    found = video.json()["overall"]["mean"]["probabilities"]
    far_from_first, far_from_other = (
        max(abs(found[label] - mean[label]) for label in LABELS) for mean in (by_first, by_other)
    )
    assert video.json()["model"]["version"] == first.version
    assert far_from_first < far_from_other / 2
    wait_until_served(client, first.version)


def test_the_service_answers_what_evaluation_writes_down(
    client: httpx.Client, folder: Path, copies: Callable[[Callable[[Path], None]], Path]
) -> None:
    promoted = copies(real_champion)
    faces, splits = promoted / "data" / "faces", promoted / "data" / "splits.parquet"
    checkpoint = load_checkpoint(promoted / "models" / "v1")
    written = predict(checkpoint, faces, read_split(faces, splits, "fer2013", "train"), workers=0)
    (model,) = (promoted / "models" / "registry").rglob("model.onnx")
    first = read_pointer(folder / "champion.json")
    write_pointer(folder / "champion.json", Pointer(first.name, "6", str(model), sha256_of(model)))
    try:
        wait_until_served(client, "6")
        answers = [client.post("/predict?detect=false", content=image).json() for image in read_images(faces, written)]
    finally:
        write_pointer(folder / "champion.json", first)
        wait_until_served(client, "3")
    found = [[answer["faces"][0]["probabilities"][label] for label in LABELS] for answer in answers]
    assert len(found) == 28
    assert np.ptp(found, axis=0).min() > 0.1  # faces are told apart
    # Its last layer was fitted and not trained, and makes much of rounding; `make bench-agreement` asks a trained one.
    np.testing.assert_allclose(found, stack(written.probabilities), atol=0.02)


def test_a_model_without_maps_answers_and_says_that_it_can_not_explain(client: httpx.Client, folder: Path) -> None:
    first, file = read_pointer(folder / "champion.json"), folder / "registry" / "5.onnx"
    model = onnx.load(folder / "registry" / "3.onnx")
    del model.graph.output[1:], model.graph.node[-1:], model.graph.input[1:]  # as it was exported before there were any
    onnx.save(model, file)
    write_pointer(folder / "champion.json", replace(first, version="5", location=str(file), sha256=sha256_of(file)))
    try:
        wait_until_served(client, "5")
        assert client.post("/predict?detect=false", content=JPEG).status_code == 200
        answer = client.post("/explain?detect=false", content=JPEG)
        refuse(answer, 501)
        assert "version 5 can not explain its answers" in answer.json()["error"]
        with pytest.raises(PipelineError, match="answered 501"):
            Client(str(client.base_url)).explain(JPEG, detect=False)
    finally:
        write_pointer(folder / "champion.json", first)
        wait_until_served(client, "3")


def test_what_can_not_be_served_is_not_followed(client: httpx.Client, folder: Path, other: Pointer) -> None:
    first = read_pointer(folder / "champion.json")
    before = (folder / "server.log").read_text().count("version 3 stays")
    write_pointer(folder / "champion.json", replace(other, sha256="0" * 64))
    try:
        wait_until_logged(folder, "version 3 stays", times=before + 1)
        assert "is not the model that" in (folder / "server.log").read_text()
        check(client.post("/predict?detect=false", content=JPEG).json())
    finally:
        write_pointer(folder / "champion.json", first)


def test_without_a_model_the_server_says_what_to_do(tmp_path: Path) -> None:
    server = serve(tmp_path, tmp_path / "champion.json", free_port())
    assert server.wait(240) == 1
    said = (tmp_path / "server.log").read_text()
    assert "run `make repro` first" in said
    assert "Traceback" not in said


def test_a_variant_that_is_not_offered_is_refused_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_POINTER", str(write_champion(tmp_path)))
    monkeypatch.setenv("FER_VARIANT", "int8")
    toy_offer(tmp_path / "registry" / "3.onnx", "int8", offered=False)
    with pytest.raises(PipelineError, match="is not offered: macro-F1 falls"):
        prepare(Exposure())
