"""A real browser without a window and with a camera that shows a film, told what to do over its DevTools protocol."""

import base64
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_ws import WebSocketSession, connect_ws
from toys import encoded

from pipeline.vision.transforms import Image

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


class Page:
    """The one page that is open."""

    def __init__(self, session: WebSocketSession) -> None:
        self._session, self._asked = session, 0
        self.complaints: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol; what the page complains of meanwhile is kept."""
        self._asked += 1
        self._session.send_json({"id": self._asked, "method": method, "params": params})
        while (said := self._session.receive_json(timeout=30)).get("id") != self._asked:
            if said["method"] in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.complaints.append(said["params"])
        assert "error" not in said, said
        return said["result"]

    def ask(self, expression: str) -> Any:
        """Return what a JavaScript expression says."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True, userGesture=True)["result"].get(
            "value"
        )

    def picture(self) -> bytes:
        """Return the page as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])


@contextmanager
def browsing(address: str, camera: Iterable[Image], folder: Path) -> Iterator[Page]:
    """Open a page in a browser whose camera shows some frames again and again, or skip the test without a browser."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("needs Chromium")
    film = folder / "camera.mjpeg"
    film.write_bytes(b"".join(encoded(".jpg", frame[..., ::-1]) for frame in camera))
    switches = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--remote-debugging-port=0",
        "--window-size=1140,900",
    ]
    fake = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    command = [program, *switches, *fake, f"--use-file-for-fake-video-capture={film}", f"--user-data-dir={folder}"]
    with (folder / "browser.log").open("wb") as log:
        browser = subprocess.Popen([*command, "about:blank"], stdout=log, stderr=log)
    try:
        port = _wait_for(folder / "DevToolsActivePort").split()[0]
        tabs = httpx.get(f"http://127.0.0.1:{port}/json", timeout=30).json()
        tab = next(tab for tab in tabs if tab["type"] == "page")["webSocketDebuggerUrl"].replace("ws:", "http:")
        session: WebSocketSession
        with connect_ws(tab, max_message_size_bytes=2**24, keepalive_ping_interval_seconds=None) as session:
            page = Page(session)
            page.call("Page.navigate", url=address)
            yield page
    finally:
        browser.terminate()
        browser.wait(30)


def _wait_for(file: Path) -> str:
    end = time.monotonic() + 60
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < end, (file.parent / "browser.log").read_text()[-2000:]
        time.sleep(0.1)
    return file.read_text()
