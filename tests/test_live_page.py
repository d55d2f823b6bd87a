"""The page that shows a live session: what it is made of, and in a real browser what it does."""

import base64
import hashlib
import re
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import browsing
from serving import running, write_champion
from starlette.testclient import TestClient

from pipeline.inference.predictor import Predictor
from pipeline.labels import LABELS
from pipeline.sample import draw
from pipeline.serving.endpoint import create_app
from pipeline.vision.transforms import decode


def test_the_page_runs_its_own_script_alone_and_asks_nobody_else() -> None:
    answer = TestClient(create_app(lambda: None)).get("/live")  # type: ignore[arg-type, return-value]
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for name in ("script", "style"):
        (content,) = re.findall(f"<{name}>(.*?)</{name}>", answer.text, re.DOTALL)
        assert f"{name}-src 'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'" in policy
    assert "://" not in answer.text
    assert not re.search(r"\s(style|onclick|src)=", answer.text)  # what the policy forbids within the page
    assert "no diagnosis" in answer.text
    assert "keeps no picture" in answer.text


@pytest.mark.slow  # it starts a browser
def test_a_browser_shows_what_is_read_in_the_face_before_its_camera(tmp_path: Path) -> None:
    pointer = write_champion(tmp_path)
    predictor = Predictor(tmp_path / "registry" / "3.onnx", name="expression-classifier-sample", version="3")
    drawn = (decode(file) for path, file in draw("wild", 3) if path.endswith(".jpg"))
    person = next(image for image in drawn if predictor.find(image))
    frame = np.full((480, 640, 3), 128, np.uint8)
    frame[80:400, 40:360] = cv2.resize(person, (320, 320))
    with running(tmp_path, pointer) as client, browsing(f"{client.base_url}/live", [frame] * 30, tmp_path) as page:
        status = "document.getElementById('status').textContent"
        wait_until(lambda: page.ask(f"document.readyState == 'complete' && {status}") == "The camera is off.")
        page.ask("document.getElementById('switch').click()")
        wait_until(lambda: "version 3:" in page.ask(status))
        wait_until(lambda: page.ask("document.querySelectorAll('.person').length") == 1)
        seen = page.ask("document.querySelector('.person').innerText").split("\n")
        assert re.fullmatch(f"1: ({'|'.join(LABELS)})", seen[0])
        assert seen[1::2] == list(LABELS)
        assert "not for real use" in page.ask("document.getElementById('caveat').textContent")
        shown = decode(page.picture())
        assert page.ask(
            "document.getElementById('boxes').getContext('2d').getImageData(0, 0, 640, 480).data.some(Boolean)"
        )
        assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 1000
        page.ask("document.getElementById('switch').click()")
        assert page.ask(status) == "The camera is off."
        assert page.complaints == []
    assert "Traceback" not in (tmp_path / "server.log").read_text()


def wait_until(so: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not so():
        assert time.monotonic() < end
        time.sleep(0.2)
