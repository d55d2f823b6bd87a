"""Whatever comes, a running service refuses it in a sentence, tells nothing of its inside, and answers the next one.

Each table is of one kind of harm: what is sent, and the status that it gets.
"""

import gzip
import http.client
import json
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
import PIL.Image
import psutil
import pytest
from bad_videos import of_endless_frames, of_many_tracks, of_no_frames, of_size
from films import RECORDINGS, claiming, film, portraits, shades, silent, stretched, zeroed
from image_kinds import ANIMATIONS, COLOUR, HEIGHT, KINDS, WIDTH, png_chunk, saved
from once import kill_all
from serving import check, field, free_port, refuse, serve, wait_until_ready, write_champion
from toys import encoded, png_bomb

from pipeline.serving.forms import MAX_PARTS
from pipeline.serving.uploads import MAX_BATCH_IMAGES, MAX_VIDEO_BYTES
from pipeline.vision.transforms import Image, decode

JPEG, PNG = encoded(".jpg"), encoded(".png")
FILM, WEBM = film(portraits(30)), film(portraits(30), ".webm")
CRASH = Path(__file__).parent / "crashes" / "ffmpeg_of_opencv_4_14.mp4"
WAIT = 60.0  # seconds in which everything here is refused, also by a machine that is busy


def answer_a_good_one(client: httpx.Client) -> None:
    answer = client.post("/predict?detect=false", content=JPEG)
    assert answer.status_code == 200
    check(answer.json())


def chunks(megabytes: int) -> Iterator[bytes]:
    yield from (JPEG, *[bytes(1_000_000)] * megabytes)


def large(side: int) -> bytes:
    image: Image = np.zeros((side, side, 3), np.uint8)
    return encoded(".png", image)


def webp(chunk: bytes, content: bytes) -> bytes:
    data = b"WEBP" + chunk + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", len(data)) + data


GIF = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00"
    + bytes(3)
    + b"\xff\xff\xff,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
TEXT_BOMB = png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100_000_000), 9)) * 20  # 2 MB of 2 GB

IMAGES: dict[str, tuple[int, dict[str, Any]]] = {
    "empty body": (400, {"content": b""}),
    "empty field": (400, field("image", b"")),
    "JPEG cut in half": (400, {"content": JPEG[: len(JPEG) // 2]}),
    "JPEG without its last byte": (400, {"content": JPEG[:-1]}),
    "JPEG cut after its header": (400, {"content": JPEG[:40]}),
    "JPEG of three bytes": (400, {"content": JPEG[:3]}),
    "JPEG without pixels": (400, {"content": b"\xff\xd8\xff\xd9"}),
    "JPEG that points behind its end": (400, {"content": b"\xff\xd8\xff\xe0\xff\xff" + bytes(10)}),
    "JPEG packed by gzip": (415, {"content": gzip.compress(JPEG), "headers": {"content-encoding": "gzip"}}),
    "PNG cut in half": (400, {"content": PNG[: len(PNG) // 2]}),
    "PNG without its end": (400, {"content": PNG[:-12]}),
    "PNG of its signature": (400, {"content": PNG[:8]}),
    "PNG with a flipped byte": (400, {"content": PNG[:200] + bytes([PNG[200] ^ 255]) + PNG[201:]}),
    "PNG of no pixels": (400, {"content": png_bomb(0, 0)}),
    "PNG whose text unpacks to gigabytes": (400, {"content": PNG[:33] + TEXT_BOMB + PNG[33:]}),
    "WebP cut in half": (400, {"content": encoded(".webp")[:100]}),
    "WebP of its signature": (400, {"content": b"RIFF\x00\x00\x00\x00WEBP"}),
    "BMP cut in half": (400, {"content": encoded(".bmp")[:1000]}),
    "text": (415, {"content": b"hello"}),
    "text called .jpg": (415, field("image", b"hello")),
    "zeros": (415, {"content": bytes(1000)}),
    "GIF": (415, {"content": GIF}),
    "GIF called .png": (415, field("image", GIF, "face.png")),
    "TIFF": (415, {"content": encoded(".tiff")}),
    "Radiance HDR": (415, {"content": encoded(".hdr")}),
    "JPEG 2000": (415, {"content": saved(COLOUR, "JPEG2000")}),
    "AVIF": (415, {"content": saved(COLOUR, "AVIF")}),
    "HEIC": (415, {"content": b"\x00\x00\x00\x18ftypheic" + bytes(100)}),
    "SVG": (415, {"content": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"}),
    "HTML": (415, {"content": b"<html><script>alert(1)</script>"}),
    "PDF": (415, {"content": b"%PDF-1.7"}),
    "ZIP": (415, {"content": b"PK\x03\x04" + bytes(100)}),
    "ELF": (415, {"content": b"\x7fELF" + bytes(100)}),
    "pickle": (415, {"content": b"\x80\x04.", "headers": {"content-type": "application/vnd.bentoml+pickle"}}),
    "JSON that is not declared": (415, {"content": b'{"image": "http://127.0.0.1/x.jpg"}'}),
    "MP4": (415, {"content": FILM}),
    "WAV, which is RIFF too": (415, {"content": b"RIFF\x24\x00\x00\x00WAVEfmt "}),
    "null text field": (415, {"files": {"image": (None, b"\x00")}}),
    **{kind: (415, {"content": content}) for kind, content in ANIMATIONS.items()},
    "many pixels": (413, {"content": png_bomb(50_000, 50_000)}),
    "very many pixels": (413, {"content": png_bomb(2**31 - 1, 2**31 - 1)}),
    "many real pixels": (413, {"content": large(7_200)}),
    "many pixels of WebP": (413, {"content": webp(b"VP8X", bytes(4) + b"\xff" * 6 + bytes(100))}),
    "many pixels of lossless WebP": (413, {"content": webp(b"VP8L", b"\x2f" + b"\xff" * 3 + b"\x0f" + bytes(100))}),
    "many bytes": (413, {"content": bytes(25_000_000)}),
    "many bytes in a field": (413, field("image", bytes(25_000_000))),
    "slightly too many bytes": (413, {"content": JPEG + bytes(20_000_001)}),
    "many bytes without a length": (413, {"content": chunks(40)}),
    "wrong field": (422, field("picture", JPEG)),
    "field of the batch": (422, field("images", JPEG)),
    "two images": (422, {"files": [("image", ("a", JPEG)), ("image", ("b", JPEG))]}),
    **{
        f"detect={value!r}": (422, {"content": JPEG, "params": {"detect": value}})
        for value in ("perhaps", "", "\0", "false;drop", "no" * 5000, ["false", "maybe"])
    },
}


@pytest.mark.parametrize("name", IMAGES)
def test_bad_image_gets_its_status_and_harms_nobody(name: str, client: httpx.Client) -> None:
    status, sent = IMAGES[name]
    refuse(client.post("/predict", **sent, timeout=WAIT), status)
    answer_a_good_one(client)


@pytest.mark.parametrize("name", KINDS)
def test_image_of_every_kind_is_answered(name: str, client: httpx.Client) -> None:
    answer = client.post("/predict?detect=false", content=KINDS[name])
    assert answer.status_code == 200
    check(answer.json())
    assert answer.json()["faces"][0]["box"] == [0, 0, WIDTH, HEIGHT]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_image_is_turned_as_its_exif_says(orientation: int, client: httpx.Client) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    content = saved(COLOUR, "JPEG", exif=exif)
    height, width = decode(content).shape[:2]
    assert (width, height) == ((HEIGHT, WIDTH) if orientation >= 5 else (WIDTH, HEIGHT))
    assert client.post("/predict?detect=false", content=content).json()["faces"][0]["box"] == [0, 0, width, height]


VIDEOS: dict[str, tuple[int, dict[str, Any]]] = {
    "empty body": (400, {"content": b""}),
    "empty field": (400, field("video", b"")),
    "MP4 cut in half": (400, {"content": FILM[: len(FILM) // 2]}),
    "WebM cut in half": (400, {"content": WEBM[: len(WEBM) // 2]}),
    "recording cut off": (400, {"content": RECORDINGS[0].read_bytes()[:-1]}),
    "MP4 of its signature": (400, {"content": b"\x00\x00\x00\x18ftypmp42"}),
    "WebM of its header": (400, {"content": WEBM[: WEBM.index(b"\x1f\x43\xb6\x75")]}),
    "WebM with a hole": (400, {"content": zeroed(WEBM, 0.4, 0.6)}),
    "sound alone": (400, {"content": silent(FILM)}),
    "no frames": (400, {"content": of_no_frames(FILM)}),
    "two thousand million frames": (400, {"content": of_endless_frames(FILM)}),
    "five thousand tracks": (400, {"content": of_many_tracks(FILM, 5_000)}),
    "MP4 that crashes the decoder": (400, {"content": CRASH.read_bytes()}),
    "JPEG": (415, {"content": JPEG}),
    "AVIF, in the boxes of MP4": (415, {"content": saved(COLOUR, "AVIF")}),
    "text called .mp4": (415, field("video", b"hello", "film.mp4")),
    "text field": (415, {"files": {"video": (None, b"hello")}}),
    "playlist of a local file": (415, {"content": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"}),
    "ten real hours": (413, {"content": stretched(FILM, 12_000)}),
    "many frames to look at": (413, {"content": film(shades(310, (16, 16))), "params": {"fps": 10}}),
    "large frames": (413, {"content": film(shades(1, (4208, 2400)))}),
    "many bytes": (413, {"content": FILM + bytes(MAX_VIDEO_BYTES)}),
    "many bytes without a length": (413, {"content": chunks(MAX_VIDEO_BYTES // 1_000_000 + 20)}),
    "wrong field": (422, field("image", FILM)),
    "two videos": (422, {"files": [("video", ("a", FILM)), ("video", ("b", FILM))]}),
    **{
        f"{name}={value}": (422, {"content": FILM, "params": {name: value}})
        for name, values in {
            "fps": ["fast", 0, 1000, "nan", "inf", "1" * 5000],
            "smoothing": [-1, "1e9", "0x1"],
            "detect": ["perhaps"],
        }.items()
        for value in values
    },
}


@pytest.mark.parametrize("name", VIDEOS)
def test_bad_video_gets_its_status_and_harms_nobody(name: str, client: httpx.Client) -> None:
    status, sent = VIDEOS[name]
    refuse(client.post("/predict_video", **sent, timeout=WAIT), status)
    answer_a_good_one(client)


@pytest.mark.parametrize("claim", [claiming(FILM, 36_000), of_size(FILM, 65_535, 65_535), of_many_tracks(FILM, 50)])
def test_what_a_header_claims_changes_nothing(claim: bytes, client: httpx.Client) -> None:
    answers = [client.post("/predict_video?detect=false", content=content).json() for content in (FILM, claim)]
    assert answers[0] == answers[1]


HEAD = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n'
PART, END = HEAD + b"\r\n" + JPEG + b"\r\n", b"--b--\r\n"
NESTED = b'\r\n--c\r\nContent-Disposition: file; filename="x"\r\n\r\n' + JPEG + b"\r\n--c--\r\n"
DECLARED = "multipart/form-data; boundary=b"
# What it takes Python minutes to decode, where the charset is believed.
PUNYCODE, IDNA = b"b" * 400_000 + b"-" + b"ba" * 200_000, "é.".encode() * 1_000_000


def part(content: bytes, disposition: bytes = b'form-data; name="image"') -> bytes:
    return b"--b\r\nContent-Disposition: " + disposition + b"\r\n\r\n" + content + b"\r\n"


FORMS: dict[str, tuple[int, bytes, str]] = {
    "no boundary": (400, PART + END, "multipart/form-data"),
    "empty boundary": (400, PART + END, "multipart/form-data; boundary="),
    "another boundary": (400, PART + END, "multipart/form-data; boundary=c"),
    "long boundary": (400, PART + END, "multipart/form-data; boundary=" + "b" * 5000),
    "nothing": (400, b"", DECLARED),
    "cut off in its end": (400, PART + END[:3], DECLARED),
    "cut off in a part": (400, PART[:-100], DECLARED),
    "cut off in a header": (400, HEAD[:-30], DECLARED),
    "cut off between two parts": (400, PART, DECLARED),
    "bytes before its first part": (400, b"hello\r\n" + PART + END, DECLARED),
    "part without a name": (400, part(JPEG, b"form-data") + END, DECLARED),
    "part without a header": (400, b"--b\r\n\r\n" + JPEG + b"\r\n" + END, DECLARED),
    "header without a colon": (400, PART.replace(b"Disposition: ", b"Disposition") + END, DECLARED),
    "header name of strange bytes": (400, PART.replace(b"Content", b"C\xff\0") + END, DECLARED),
    "very long header name": (400, PART.replace(b"Content", b"X" * 100_000) + END, DECLARED),
    "very long file name": (400, PART.replace(b'"x"', b'"' + b"x" * 100_000 + b'"') + END, DECLARED),
    "ten thousand headers": (400, PART.replace(HEAD, HEAD + b"A: 1\r\n" * 10_000) + END, DECLARED),
    "parts in a part": (
        415,
        PART.replace(JPEG, NESTED).replace(b"\r\n\r\n", b"\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n", 1)
        + END,
        DECLARED,
    ),
    "another kind of form": (415, PART + END, "multipart/mixed; boundary=b"),
    "fields of a page": (415, b"image=http%3A%2F%2F127.0.0.1", "application/x-www-form-urlencoded"),
    "text in punycode": (415, part(PUNYCODE) + END, DECLARED + "; charset=punycode"),
    "text in IDNA": (415, part(IDNA) + END, DECLARED + "; charset=idna"),
    "no parts": (422, END, DECLARED),
    "null byte in the field": (422, PART.replace(b'"image"', b'"image\0"') + END, DECLARED),
    "field in another charset": (422, PART.replace(b'"image"', b'"im\xe4ge"') + END, DECLARED),
    "ten thousand files": (422, PART.replace(JPEG, b"") * 10_000 + END, DECLARED),
    "ten thousand other parts": (413, part(b"x", b'form-data; name="x"') * 10_000 + END, DECLARED),
}


@pytest.mark.parametrize("name", FORMS)
def test_bad_form_gets_its_status_and_harms_nobody(name: str, client: httpx.Client) -> None:
    status, body, declared = FORMS[name]
    refuse(client.post("/predict", content=body, headers={"content-type": declared}, timeout=WAIT), status)
    answer_a_good_one(client)


@pytest.mark.parametrize(
    "name",
    [b"../../../etc/passwd", b"C:\\Windows\\x", b"x\0.jpg", b"\xff\xfe", b"| rm ~", b"http://127.0.0.1/x", b""],
)
def test_the_name_of_a_file_means_nothing(name: bytes, client: httpx.Client, temporary: Path) -> None:
    before = sorted(temporary.rglob("*"))
    body = PART.replace(b'"x"', b'"' + name + b'"') + END
    check(client.post("/predict?detect=false", content=body, headers={"content-type": DECLARED}).json())
    assert sorted(temporary.rglob("*")) == before


def test_a_picture_in_a_text_field_is_the_same_picture(client: httpx.Client) -> None:
    for charset in ("", "; charset=utf-16", "; charset=nonsense"):
        sent = {"content": part(JPEG) + END, "headers": {"content-type": DECLARED + charset}}
        answer = client.post("/predict?detect=false", **sent)
        assert answer.json() == client.post("/predict?detect=false", content=JPEG).json()


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        (422, {"content": JPEG}),
        (422, field("image", JPEG)),
        (413, {"files": [("images", JPEG)] * (MAX_BATCH_IMAGES + 1)}),
        (413, {"files": [("images", b"")] * 10_000}),
        (413, {"files": [("images", JPEG), *[("x", b"")] * MAX_PARTS]}),
        (413, {"files": [("images", bytes(20_000_000))] * 6}),
        (400, {"content": part(JPEG, b'form-data; name="images"'), "headers": {"content-type": DECLARED}}),
    ],
    ids=[
        "raw body",
        "wrong field",
        "too many",
        "10,000",
        "too many others",
        "too many bytes",
        "cut off after its first",
    ],
)
def test_bad_batch_gets_its_status(status: int, sent: dict[str, Any], client: httpx.Client) -> None:
    refuse(client.post("/predict_batch", **sent, timeout=WAIT), status)
    answer_a_good_one(client)


@pytest.mark.parametrize("way", ["field", "file", "body", "form body", "batch", "video", "JSON", "parameter"])
def test_no_address_is_ever_fetched(way: str, client: httpx.Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.3)
        address = f"http://127.0.0.1:{trap.getsockname()[1]}/face.jpg"
        content = address.encode()
        path, status, sent = {
            "field": ("/predict", 415, {"files": {"image": (None, content)}}),
            "file": ("/predict", 415, field("image", content)),
            "body": ("/predict", 415, {"content": content}),
            "form body": ("/predict", 415, {"data": {"image": address}}),
            "batch": ("/predict_batch", 200, {"files": [("images", (None, content)), ("images", ("x", content))]}),
            "video": ("/predict_video", 415, {"files": {"video": (None, content)}}),
            "JSON": ("/predict", None, {"json": {"image": address}}),
            "parameter": ("/predict", 400, {"params": {"image": address, "url": address}}),
        }[way]
        answer = client.post(path, **sent)
        assert (400 <= answer.status_code < 500) if status is None else answer.status_code == status
        assert way != "batch" or {said["status"] for said in answer.json()["answers"]} == {415}
        with pytest.raises(TimeoutError):
            trap.accept()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/predict", 405),
        ("PUT", "/predict_batch", 405),
        ("DELETE", "/model", 405),
        ("TRACE", "/predict", 405),
        ("GET", "/nothing", 404),
        ("POST", "/classify", 404),
        ("POST", "/predict/", 404),
        ("GET", "/assets/x.js", 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
        ("GET", "/pre%00dict", 404),
        ("GET", "/%ff%fe", 404),
        ("GET", "/" + "x" * 60_000, 404),
    ],
)
def test_other_methods_and_paths_are_refused_in_json(method: str, path: str, status: int, client: httpx.Client) -> None:
    refuse(client.request(method, path), status)


def send(client: httpx.Client, sent: bytes) -> tuple[int, str, bytes]:
    """Send bytes that no HTTP library would, and return the status, the declared type and the body of the answer."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=WAIT) as connection:
        connection.sendall(sent)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.headers.get_content_type(), answer.read()


def request(headers: bytes = b"", body: bytes = b"", version: bytes = b"1.1") -> bytes:
    first = b"POST /predict?detect=false HTTP/" + version
    return first + b"\r\nHost: here\r\nConnection: close\r\n" + headers + b"\r\n" + body


LENGTH = b"Content-Length: %d\r\n" % len(JPEG)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
HTTP: dict[str, tuple[int, bytes]] = {
    "declared type of strange bytes": (200, request(LENGTH + b"Content-Type: \xff\xfe;;=\r\n", JPEG)),
    "HTTP/1.0": (200, request(LENGTH, JPEG, b"1.0")),
    "HTTP/1.0 without a length": (400, request(b"", JPEG, b"1.0")),
    "asked whether to send": (200, request(LENGTH + b"Expect: 100-continue\r\n", JPEG)),
    "boundary of strange bytes": (400, request(LENGTH + b"Content-Type: multipart/form-data; boundary=\xff\r\n", JPEG)),
    "length of terabytes": (413, request(b"Content-Length: 99999999999999\r\n", JPEG)),
    "length of terabytes for a form": (
        413,
        request(b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 99999999999999\r\n", PART),
    ),
}
# Most of these the HTTP server itself refuses, in plain text: there is no request that could be answered.
NO_HTTP: dict[str, bytes] = {
    "both lengths": request(CHUNKED + b"Content-Length: 5\r\n", b"0\r\n\r\n"),
    "method in small letters": request().replace(b"POST", b"post"),
    "negative length": request(b"Content-Length: -5\r\n", JPEG),
    "length that is no number": request(b"Content-Length: many\r\n", JPEG),
    "length of a hundred digits": request(b"Content-Length: " + b"9" * 100 + b"\r\n", JPEG),
    "two lengths": request(LENGTH + b"Content-Length: 3\r\n", JPEG),
    "chunk without a size": request(CHUNKED, b"zz\r\nhello\r\n0\r\n\r\n"),
    "packed chunks": request(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"),
    "no host": b"POST /predict HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "control character in the path": b"GET /pre\x01dict HTTP/1.1\r\nHost: here\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n\r\n",
}


@pytest.mark.parametrize("name", HTTP)
def test_strange_request_gets_its_status(name: str, client: httpx.Client) -> None:
    status, sent = HTTP[name]
    found, kind, body = send(client, sent)
    assert (found, kind) == (status, "application/json")
    assert body  # all of it came
    answer_a_good_one(client)


@pytest.mark.parametrize("name", NO_HTTP)
def test_what_is_no_http_is_refused(name: str, client: httpx.Client) -> None:
    status, _, body = send(client, NO_HTTP[name])
    assert status in (400, 405)
    assert body == b"Invalid HTTP request received." or set(json.loads(body)) == {"error"}
    answer_a_good_one(client)


@pytest.mark.parametrize(
    "sent",
    [
        request(b"Content-Length: %d\r\n" % (len(JPEG) + 5), JPEG),
        request(CHUNKED, b"5\r\nhello\r\n"),
        request(CHUNKED, b"ffffffffffff\r\nhello"),
        request(b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 9999\r\n", PART),
        request(LENGTH, JPEG).replace(b"/predict", b"/predict_video")[:-100],
    ],
    ids=["body that is too short", "chunks without an end", "endless chunk", "form", "video"],
)
def test_who_hangs_up_midway_harms_nobody(sent: bytes, client: httpx.Client) -> None:
    """No answer is possible; the log has a line, and no traceback (see `open_service`)."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=WAIT) as connection:
        connection.sendall(sent)
    answer_a_good_one(client)


def test_good_ones_cost_as_little_after_a_hail_of_bad_ones(client: httpx.Client) -> None:
    def cost() -> float:
        """Return the seconds of CPU that this service takes for an answer; the clock counts other programs, too."""
        start = cpu_of_servers()
        for _ in range(20):
            answer_a_good_one(client)
        return (cpu_of_servers() - start) / 20

    before = cost()
    quick = [sent for _, sent in IMAGES.values() if isinstance(sent.get("content"), bytes)]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda sent: client.post("/predict", **sent), quick))
    assert {answer.status_code for answer in answers} <= {400, 413, 415, 422}
    assert cost() < 5 * before + 0.1  # what was left behind would cost more


def cpu_of_servers() -> float:
    seconds = 0.0
    for server in psutil.Process().children(recursive=True):
        try:
            times = server.cpu_times()
        except psutil.NoSuchProcess:
            continue  # it has just ended
        seconds += times.user + times.system
    return seconds


def opened(temporary: Path) -> list[str]:
    """Return the temporary files that a server has open, or that lie there: one without a name shows as deleted."""
    held = []
    for server in psutil.Process().children(recursive=True):
        try:
            held += [str(link.readlink()) for link in Path(f"/proc/{server.pid}/fd").iterdir() if link.is_symlink()]
        except OSError:
            continue  # it ended, or closed it, meanwhile
    return sorted([file for file in held if str(temporary) in file] + [str(file) for file in left_in(temporary)])


def left_in(temporary: Path) -> list[Path]:
    return [file for file in temporary.rglob("*") if file.is_file()]


def wait_until(met: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not met():
        assert time.monotonic() < end
        time.sleep(0.02)


def half_a_video(client: httpx.Client) -> socket.socket:
    """Begin an upload that does not end."""
    connection = socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=WAIT)
    sent = request(b"Content-Length: 50000000\r\n", FILM + bytes(2_000_000))
    connection.sendall(sent.replace(b"/predict", b"/predict_video"))
    return connection


def test_no_upload_outlives_its_request(client: httpx.Client, temporary: Path) -> None:
    before = opened(temporary)
    for content in (FILM, FILM[:-1], JPEG, b""):
        for sent in ({"content": content}, field("video", content)):
            client.post("/predict_video", **sent)
    client.post("/predict", **field("image", bytes(5_000_000)))
    assert opened(temporary) == before
    with half_a_video(client):
        wait_until(lambda: len(opened(temporary)) > len(before))
        assert all("(deleted)" in file for file in opened(temporary) if file not in before)
    wait_until(lambda: opened(temporary) == before)


@pytest.mark.slow
def test_no_upload_outlives_the_process_that_took_it(folder: Path) -> None:
    """All is killed at once in the midst of an upload: what is left has no byte of it, and the next service starts."""
    champion = write_champion(folder / "killed")
    with TemporaryDirectory() as temporary:
        for _ in range(2):
            port = free_port()
            server = serve(folder / "killed", champion, port, TMPDIR=temporary)
            try:
                with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                    wait_until_ready(client, server, folder / "killed")
                    answer_a_good_one(client)
                    before = opened(Path(temporary))
                    with half_a_video(client):
                        wait_until(lambda before=before: len(opened(Path(temporary))) > len(before))
                        kill_all(server.pid)
            finally:
                if server.poll() is None:
                    kill_all(server.pid)
                server.wait()
            assert not [file for file in left_in(Path(temporary)) if FILM[:200] in file.read_bytes()]
