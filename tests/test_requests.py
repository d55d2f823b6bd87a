"""The ways to ask beside an uploaded file, and all that the README shows, against a real service."""

import base64
import io
import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from films import film, opened, portraits
from jsonschema import Draft202012Validator
from serving import check, refuse
from toys import encoded, picture

from pipeline.client import Client
from pipeline.inference.options import ImageOptions, OptionError, VideoOptions, read_query
from pipeline.inference.predictor import Predictor
from pipeline.inference.watching import watch
from pipeline.labels import LABELS
from pipeline.sample import draw
from pipeline.vision.transforms import decode

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
JPEG, PNG = encoded(".jpg", picture(seed=3)), encoded(".png", picture(seed=3))


@pytest.fixture(scope="module")
def predictor(folder: Path, client: httpx.Client) -> Predictor:
    return Predictor(folder / "registry" / "3.onnx", name="expression-classifier-sample", version="3")


def text(image: bytes) -> str:
    return base64.b64encode(image).decode()


def test_an_image_in_json_is_answered_as_one_that_is_uploaded(client: httpx.Client) -> None:
    uploaded = client.post("/predict?detect=false", content=JPEG).json()
    check(uploaded)
    for image in (text(JPEG), f"data:image/jpeg;base64,{text(JPEG)}"):
        assert client.post("/predict", json={"image": image, "detect": False}).json() == uploaded
    declared = {"content-type": "application/json; charset=utf-8"}
    sent = json.dumps({"image": text(JPEG)}, indent=1)
    assert client.post("/predict?detect=false", content=sent, headers=declared).json() == uploaded
    # What is declared to be JSON and is an image is one; curl and others declare what they like.
    assert client.post("/predict?detect=false", content=JPEG, headers=declared).json() == uploaded


def test_options_in_the_body_count_before_those_in_the_query(client: httpx.Client) -> None:
    answer = client.post("/predict?detect=true&top=1", json={"image": text(JPEG), "detect": False}).json()
    assert [len(face["top"]) for face in answer["faces"]] == [1]


def test_a_batch_in_json_fails_image_by_image(client: httpx.Client) -> None:
    images = [text(JPEG), "http://localhost/face.jpg", "no base64", text(b"text"), text(JPEG[:300]), "", text(PNG)]
    answers = client.post("/predict_batch", json={"images": images, "detect": False, "top": 7}).json()["answers"]
    assert [answer.get("status", 200) for answer in answers] == [200, 422, 422, 415, 400, 400, 200]
    assert [len(answer["faces"][0]["top"]) for answer in (answers[0], answers[-1])] == [7, 7]
    assert "addresses are not fetched" in answers[1]["error"]


BAD: dict[str, tuple[str, int, Any, str]] = {
    "cut off": ("/predict", 400, '{"image": "aaaa', "the JSON is broken or cut off"),
    "two objects": ("/predict", 400, "{}{}", "the JSON is broken or cut off"),
    "deep": ("/predict", 400, '{"image":' + "[" * 100_000, "the JSON is broken or cut off"),
    "long number": ("/predict", 400, '{"top": ' + "9" * 5000 + "}", "the JSON is broken or cut off"),
    "no image in it": ("/predict", 400, {"image": ""}, "empty"),
    "half an image": ("/predict", 400, {"image": text(JPEG[:300])}, "damaged"),
    "text": ("/predict", 415, {"image": text(b"hello")}, "no still image"),
    "plain text": ("/predict", 415, "hello", "no still image"),
    "many bytes": ("/predict", 413, {"image": text(JPEG + bytes(20_000_000))}, "more than 20 MB"),
    "very many bytes": ("/predict", 413, {"image": text(bytes(25_000_000))}, "MB"),
    "many pixels": ("/predict", 413, {"image": text(encoded(".png", np.zeros((7200, 7200, 3), np.uint8)))}, "pixels"),
    "nothing": ("/predict", 422, {}, "the field `image` is missing"),
    "the batch's field": ("/predict", 422, {"images": [text(JPEG)]}, "is missing"),
    "list": ("/predict", 422, [text(JPEG)], "the JSON must be an object with detect, top, tta, image"),
    "null": ("/predict", 422, {"image": None}, "image must be a string, not None"),
    "number": ("/predict", 422, {"image": 7}, "image must be a string, not 7"),
    "address": ("/predict", 422, {"image": "https://127.0.0.1/x.jpg"}, "addresses are not fetched"),
    "address of a file": ("/predict", 422, {"image": "file:///etc/passwd"}, "addresses are not fetched"),
    "picture as text": ("/predict", 422, {"image": "data:image/svg+xml,<svg/>"}, "addresses are not fetched"),
    "line breaks": ("/predict", 422, {"image": text(JPEG)[:76] + "\n" + text(JPEG)[76:]}, "no base64"),
    "alphabet of addresses": ("/predict", 422, {"image": "_-_-"}, "no base64"),
    "no padding": ("/predict", 422, {"image": "aaa"}, "no base64"),
    "other letters": ("/predict", 422, {"image": "ééé="}, "no base64"),
    "unknown option": ("/predict", 422, {"image": text(JPEG), "k": 3}, "there is no option 'k'"),
    "number as text": ("/predict", 422, {"image": text(JPEG), "top": "3"}, "top must be a whole number from 1 to 7"),
    "fraction": ("/predict", 422, {"image": text(JPEG), "top": 2.5}, "top must be a whole number from 1 to 7, not 2.5"),
    "truth as number": ("/predict", 422, {"image": text(JPEG), "tta": 1}, "tta must be true or false, not 1"),
    "batch of nothing": ("/predict_batch", 422, {"images": []}, "images must be a list of strings, one or more"),
    "batch of numbers": ("/predict_batch", 422, {"images": [1, 2]}, "images must be a list of strings"),
    "batch of text": ("/predict_batch", 422, {"images": text(JPEG)}, "images must be a list of strings"),
    "one image for a batch": ("/predict_batch", 422, {"image": text(JPEG)}, "the field `images` is missing"),
    "large batch": ("/predict_batch", 413, {"images": [text(JPEG)] * 65}, "at most 64"),
    "raw image for a batch": ("/predict_batch", 422, JPEG, "as base64 in a JSON body"),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_json_gets_its_status_and_is_told(name: str, client: httpx.Client) -> None:
    path, status, body, said = BAD[name]
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    answer = client.post(path, content=content, headers={"content-type": "application/json"})
    refuse(answer, status)
    assert said in answer.json()["error"]


def test_an_address_in_json_is_not_gone_to(client: httpx.Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.5)
        address = f"http://127.0.0.1:{trap.getsockname()[1]}/face.jpg"
        refuse(client.post("/predict", json={"image": address}), 422)
        assert client.post("/predict_batch", json={"images": [address]}).status_code == 200
        with pytest.raises(TimeoutError):
            trap.accept()


def test_an_image_as_large_as_may_be_goes_through_json_too(client: httpx.Client) -> None:
    large = JPEG + bytes(20_000_000 - len(JPEG))
    as_json = client.post("/predict?detect=false", json={"image": text(large)})
    assert as_json.json() == client.post("/predict?detect=false", content=large).json()
    assert as_json.status_code != 413


@pytest.mark.parametrize("top", range(1, 8))
def test_as_many_labels_are_listed_as_are_asked_for(top: int, client: httpx.Client) -> None:
    (face,) = client.post(f"/predict?detect=false&top={top}", content=JPEG).json()["faces"]
    ranked = sorted(face["probabilities"].items(), key=lambda pair: -pair[1])
    assert face["top"] == [list(pair) for pair in ranked[:top]]


def test_tta_is_the_mean_over_a_face_and_its_mirror_image(client: httpx.Client) -> None:
    mirrored = encoded(".png", cv2.flip(picture(seed=3), 1))

    def ask(image: bytes, **options: bool) -> dict[str, float]:
        return client.post("/predict", params={"detect": False, **options}, content=image).json()["faces"][0]

    face, mirror, both = ask(PNG), ask(mirrored), ask(PNG, tta=True)
    mean = {label: (face["probabilities"][label] + mirror["probabilities"][label]) / 2 for label in LABELS}
    assert both["probabilities"] == pytest.approx(mean, abs=1e-6)
    assert both["probabilities"] != pytest.approx(face["probabilities"], abs=1e-5)
    assert both["emotion"] == max(mean, key=mean.__getitem__)
    assert ask(mirrored, tta=True)["probabilities"] == pytest.approx(mean, abs=1e-6)


def test_the_client_asks_for_it_too(client: httpx.Client, predictor: Predictor) -> None:
    ours = Client(str(client.base_url))
    alone = ours.predict(JPEG, detect=False, top=2, tta=True)
    expected = predictor.predict(JPEG, detect=False, top=2, tta=True)
    assert alone["faces"][0]["probabilities"] == pytest.approx(expected["faces"][0]["probabilities"], abs=1e-6)
    assert len(alone["faces"][0]["top"]) == 2
    assert ours.predict_batch([JPEG], detect=False, top=2, tta=True) == [alone]
    video = film(portraits(10))
    mean, expected_mean = (
        answer["overall"]["mean"]["probabilities"]
        for answer in (
            ours.predict_video(io.BytesIO(video), detect=False, tta=True),
            watch(predictor, opened(video), VideoOptions(detect=False, tta=True)),
        )
    )
    assert mean == pytest.approx(expected_mean, abs=1e-6)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("top=0", "top must be a whole number from 1 to 7, not '0'"),
        ("top=8", "top must be a whole number from 1 to 7, not '8'"),
        ("top=two", "top must be a whole number from 1 to 7, not 'two'"),
        ("top=", "top must be a whole number from 1 to 7, not ''"),
        ("tta=perhaps", "tta must be true or false, not 'perhaps'"),
        ("detect=", "detect must be true or false, not ''"),
    ],
)
def test_wrong_options_are_told(query: str, said: str, client: httpx.Client) -> None:
    for path in ("/predict", "/predict_batch"):
        answer = client.post(f"{path}?{query}", files={path.removeprefix("/predict_") or "image": JPEG})
        refuse(answer, 422)
        assert answer.json()["error"] == said
    with pytest.raises(OptionError, match=re.escape(said)):
        read_query(dict([query.split("=")]), ImageOptions)


def test_what_is_asked_and_answered_is_as_described(client: httpx.Client) -> None:
    docs = client.get("/docs.json").json()
    schemas = docs["components"]["schemas"]

    def fits(name: str, thing: Any) -> bool:
        return Draft202012Validator(schemas[name] | {"components": docs["components"]}).is_valid(thing)

    for name in ("Answer", "ImageBody", "BatchBody", "LiveOptions", "LiveAnswer"):
        assert fits(name, schemas[name]["example"])
    assert fits("Answer", client.post("/predict?detect=false&tta=1&top=7", content=JPEG).json())
    assert not fits("ImageBody", {"image": 3})
    assert not fits("BatchBody", {"images": [], "top": 9})
    for path in ("/predict", "/predict_batch"):
        operation = docs["paths"][path]["post"]
        told = {parameter["name"]: parameter["schema"] for parameter in operation["parameters"]}
        assert set(told) == {"detect", "top", "tta"}
        assert (told["top"]["minimum"], told["top"]["maximum"], told["top"]["default"]) == (1, 7, 3)
        assert "application/json" in operation["requestBody"]["content"]
    assert "tta" in {parameter["name"] for parameter in docs["paths"]["/predict_video"]["post"]["parameters"]}
    assert "WebSocket" in docs["paths"]["/live"]["get"]["description"]


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory, predictor: Predictor) -> Path:
    """Return a folder with the files that the README's examples name; on `portrait.jpg` is a face to be found."""
    folder = tmp_path_factory.mktemp("album")
    drawn = (file for path, file in draw("wild", 3) if path.endswith(".jpg"))
    person = cv2.resize(decode(next(file for file in drawn if predictor.faces(file))), (320, 320)).astype(np.uint8)
    for name in ("portrait.jpg", "one.jpg", "two.jpg", "crop.png"):
        (folder / name).write_bytes(encoded(Path(name).suffix, person))
    (folder / "clip.mp4").write_bytes(film([person] * 20))
    return folder


EXAMPLES = [block for block in re.findall(r"^```\w*\n(.*?)^```$", README, re.M | re.S) if "localhost:3000" in block]
CURLS = [line for block in EXAMPLES for line in block.splitlines() if "curl " in line]


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("bash")), reason="needs curl and bash")
@pytest.mark.parametrize("line", CURLS)
def test_curl_as_the_readme_shows_it_is_answered(line: str, client: httpx.Client, album: Path) -> None:
    command = line.replace("localhost:3000", f"localhost:{client.base_url.port}")
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=album, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    if written := re.search(r" -o (\S+)", line):
        assert decode((album / written[1]).read_bytes()).size
    elif "text/markdown" in line:
        assert done.stdout.decode().startswith("# Model card")
    else:
        answer = json.loads(done.stdout)
        assert "error" not in answer
        assert all("faces" in one for one in answer.get("answers", []))


def test_python_as_the_readme_shows_it_is_answered(client: httpx.Client, album: Path) -> None:
    (example,) = (block for block in EXAMPLES if "Client(" in block)
    code = example.replace("localhost:3000", f"localhost:{client.base_url.port}")
    done = subprocess.run([sys.executable, "-c", code], cwd=album, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert any(label in done.stdout for label in LABELS)


def test_the_readme_shows_each_way_to_ask() -> None:
    paths = {"/predict", "/predict_batch", "/predict_video", "/explain", "/model"}
    assert {re.search(r"localhost:3000(/\w+)", line)[1] for line in CURLS} == paths  # type: ignore[index]
    assert any("--json" in line for line in CURLS)
