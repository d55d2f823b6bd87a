"""Fetching YuNet once, from a server on this machine that gives the right bytes, or fails in one of the usual ways."""

import hashlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pipeline.errors import PipelineError
from pipeline.vision import yunet_file
from pipeline.vision.yunet_file import MODEL_ZOO, Pinned, find_yunet

CONTENT = bytes(range(256)) * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Zoo(BaseHTTPRequestHandler):
    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/gone":
            self.send_error(404)
        elif self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/whole")
            self.end_headers()
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write({"/whole": CONTENT, "/wrong": CONTENT[::-1], "/breaks-off": CONTENT[:1000]}[self.path])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def zoo() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Zoo)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(yunet_file.platformdirs, "user_cache_path", lambda name: tmp_path / name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    Zoo.asked.clear()
    return tmp_path


@pytest.mark.parametrize("path", ["/whole", "/moved"])
def test_it_is_fetched_once(zoo: str, path: str) -> None:
    files = [find_yunet("fetch", Pinned(zoo + path, SHA256)) for _ in range(2)]
    assert files[0] == files[1]
    assert files[0] is not None
    assert files[0].read_bytes() == CONTENT
    assert Zoo.asked.count(path) == 1


def test_a_damaged_file_in_the_cache_is_fetched_again(zoo: str) -> None:
    file = find_yunet("fetch", Pinned(f"{zoo}/whole", SHA256))
    assert file is not None
    file.write_bytes(b"damaged")
    assert find_yunet("fetch", Pinned(f"{zoo}/whole", SHA256)) == file
    assert file.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "words"),
    [("/wrong", "is not YuNet's file: its SHA-256 is"), ("/breaks-off", "does not give"), ("/gone", "404")],
)
def test_what_is_not_the_whole_right_file_is_not_kept(zoo: str, path: str, words: str, cache: Path) -> None:
    with pytest.raises(PipelineError, match=words) as error:
        find_yunet("fetch", Pinned(zoo + path, SHA256))
    assert f"faces.yunet: {'what ' * (path == '/wrong')}{zoo}{path}" in str(error.value)
    assert "fetch it by hand" in str(error.value)
    assert "\n" not in str(error.value)
    assert [file for file in cache.rglob("*") if file.is_file()] == []


def test_without_a_network_the_sentence_says_what_to_do(cache: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Zoo)  # for a port at which nobody listens any more
    server.server_close()
    with pytest.raises(PipelineError, match="does not give the file .*set it to null for the Haar cascade"):
        find_yunet("fetch", Pinned(f"http://127.0.0.1:{server.server_port}/whole", SHA256))
    assert list(cache.iterdir()) == []


def test_a_cache_that_can_not_be_written_is_named(zoo: str, cache: Path) -> None:
    (cache / yunet_file.CACHE).write_text("a file where the folder should be")
    with pytest.raises(PipelineError, match=f"{yunet_file.CACHE}.* can not be written"):
        find_yunet("fetch", Pinned(f"{zoo}/whole", SHA256))


def test_a_path_or_nothing_is_taken_as_it_is() -> None:
    assert find_yunet(Path("here.onnx")) == Path("here.onnx")
    assert find_yunet(None) is None


def test_what_is_pinned_is_a_commit_and_not_a_branch() -> None:
    assert "/opencv/opencv_zoo/raw/" in MODEL_ZOO.address
    assert len(MODEL_ZOO.address.split("/raw/")[1].split("/")[0]) == 40
    assert len(MODEL_ZOO.sha256) == 64
