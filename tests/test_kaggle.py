"""Downloads by the real kagglehub, from a server of our own."""

import base64
import io
import json
import random
import shutil
import socket
import zipfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from kaggle_server import ARCHIVE, DOWNLOAD, LOOK_UP, VERSION, Answer, KaggleServer, running
from kagglehub.clients import CHUNK_SIZE

from pipeline.errors import PipelineError
from pipeline.files import read_json, sha256_of
from pipeline.params import SampleParams
from pipeline.sources import kaggle as source
from pipeline.sources.kaggle import fetch
from pipeline.sources.raw import open_raw
from pipeline.stages.download import download

NOISE = random.Random(0)
FILES = {f"train/happy/Training_{number}.jpg": NOISE.randbytes(CHUNK_SIZE // 2) for number in range(5)}
VARIABLES = ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "NO_PROXY", "no_proxy")


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def damaged(archive: bytes) -> bytes:
    """Flip one bit in the middle."""
    middle = len(archive) // 2
    return archive[:middle] + bytes([archive[middle] ^ 1]) + archive[middle + 1 :]


WHOLE = zipped(FILES)
OTHER = zipped({"train/happy/Training_9.jpg": b"no picture of this dataset", **FILES})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty home folder, with no credentials anywhere and three attempts without a pause."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    (home / ".kaggle").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(home / ".kaggle"))  # kagglehub looked for the home when imported
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setattr("pipeline.sources.kaggle.PAUSES", (0, 0))
    # It looks for who calls it among all modules that are loaded, which are thousands where other tests ran before.
    monkeypatch.setattr("kagglehub.clients.get_user_agent", lambda: "kagglehub")
    return home


@pytest.fixture
def unknown(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KaggleServer]:
    """Return a server that this user has no credentials for."""
    with running(WHOLE) as server:
        monkeypatch.setenv("http_proxy", server.address)
        yield server


@pytest.fixture
def kaggle(unknown: KaggleServer, monkeypatch: pytest.MonkeyPatch) -> KaggleServer:
    """Return a server that this user has credentials for."""
    monkeypatch.setenv("KAGGLE_API_TOKEN", "secret")
    return unknown


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up the first attempt after a second of silence, and no other one, however slow this machine is."""
    usual, limits = source._given_up_after, iter([1])
    monkeypatch.setattr(source, "_given_up_after", lambda seconds: usual(next(limits, seconds)))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "raw" / "fer2013"


def content_of(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def refused(target: Path) -> str:
    """Return the sentence of a download that fails, and leaves nothing."""
    with pytest.raises(PipelineError) as error:
        download("fer2013", "kaggle", target, SampleParams())
    assert list(target.parent.iterdir()) == []
    said = str(error.value)
    assert "\n" not in said
    assert said.startswith("datasets.fer2013.from: kaggle does not give msambare/fer2013: ")
    return said


def test_a_download_gives_the_files_and_the_manifest_and_shows_how_far_it_is(
    kaggle: KaggleServer, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = download("fer2013", "kaggle", target, SampleParams())
    raw, read = open_raw(target)
    assert {entry.path: raw.read(entry) for entry in raw.entries()} == FILES
    assert read == manifest == read_json(target / "manifest.json")
    assert manifest["file"]["sha256"] == sha256_of(target / "fer2013.zip")
    assert not manifest["drawn"]
    assert "100%" in capsys.readouterr().err


def test_what_the_cache_has_is_not_asked_for_again(kaggle: KaggleServer) -> None:
    first = fetch("fer2013")
    kaggle.total_bytes = 10**18  # nor is there need for space
    assert fetch("fer2013") == first
    assert kaggle.count(ARCHIVE) == 1


def test_a_second_run_waits_for_the_first_and_takes_what_it_got(kaggle: KaggleServer) -> None:
    kaggle.plan(ARCHIVE, Answer(pause=0.1))
    with ProcessPoolExecutor(2) as pool:
        first, second = pool.map(fetch, ["fer2013"] * 2)
    assert first == second
    assert content_of(first) == FILES
    assert kaggle.ranges() == [None]


BASIC = "Basic " + base64.b64encode(b"anna:key").decode()


@pytest.mark.parametrize(
    ("variables", "file", "content", "expected"),
    [
        ({"KAGGLE_API_TOKEN": "secret"}, "", "", "Bearer secret"),
        ({}, "access_token", "secret\n", "Bearer secret"),
        ({"KAGGLE_USERNAME": "anna", "KAGGLE_KEY": "key"}, "", "", BASIC),
        ({}, "kaggle.json", json.dumps({"username": "anna", "key": "key"}), BASIC),
    ],
    ids=["token", "access_token", "username-and-key", "kaggle.json"],
)
def test_credentials_are_found_where_kaggles_own_tools_look(
    variables: dict[str, str], file: str, content: str, expected: str,
    unknown: KaggleServer, home: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if file:
        (home / ".kaggle" / file).write_text(content)
    fetch("fer2013")
    assert {asked.authorization for asked in unknown.asked if asked.step != ARCHIVE} == {expected}


def test_a_broken_off_download_goes_on_where_it_stopped(kaggle: KaggleServer, target: Path, tmp_path: Path) -> None:
    download("fer2013", "kaggle", target, SampleParams())
    unbroken = content_of(target)
    shutil.rmtree(tmp_path / "cache")
    kaggle.asked.clear()
    kaggle.plan(ARCHIVE, Answer(most=2 * CHUNK_SIZE))
    download("fer2013", "kaggle", target, SampleParams())
    assert content_of(target) == unbroken
    # The second request is kagglehub's look at the headers; its body is not read.
    assert kaggle.ranges() == [None, None, f"bytes={2 * CHUNK_SIZE}-"]


def test_the_next_run_goes_on_with_what_a_failed_one_got(kaggle: KaggleServer, target: Path) -> None:
    kaggle.plan(ARCHIVE, Answer(most=CHUNK_SIZE))
    kaggle.plan(LOOK_UP, Answer(), Answer(503), Answer(503))
    assert "goes on where it stopped" in refused(target)
    download("fer2013", "kaggle", target, SampleParams())
    assert kaggle.ranges() == [None, None, f"bytes={CHUNK_SIZE}-"]


@pytest.mark.parametrize("hashed", [True, False], ids=["checksum", "no-checksum"])
def test_an_error_page_is_not_taken_for_the_rest(hashed: bool, kaggle: KaggleServer) -> None:
    kaggle.plan(ARCHIVE, Answer(most=CHUNK_SIZE, hashed=hashed), Answer(hashed=hashed), Answer(503, hashed=hashed))
    assert content_of(fetch("fer2013")) == FILES
    assert kaggle.ranges() == [None, None, f"bytes={CHUNK_SIZE}-", None]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("step", [LOOK_UP, DOWNLOAD, ARCHIVE])
def test_a_server_that_never_answers_is_asked_again(step: str, kaggle: KaggleServer) -> None:
    kaggle.plan(step, Answer(most=0, silent=True))
    assert content_of(fetch("fer2013")) == FILES
    assert kaggle.count(step) == 2


@pytest.mark.usefixtures("impatient")
def test_a_download_that_falls_silent_goes_on_where_it_stopped(kaggle: KaggleServer) -> None:
    kaggle.plan(ARCHIVE, Answer(most=CHUNK_SIZE, silent=True))
    assert content_of(fetch("fer2013")) == FILES
    assert kaggle.ranges() == [None, None, f"bytes={CHUNK_SIZE}-"]


def test_a_slow_server_is_waited_for(kaggle: KaggleServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "SILENCE", 2)
    kaggle.plan(ARCHIVE, Answer(pause=0.3))  # 2.4 s in all: longer than the longest silence
    assert content_of(fetch("fer2013")) == FILES
    assert kaggle.count(ARCHIVE) == 1


WRONG = {
    "checksum": Answer(body=damaged(WHOLE)),
    "truncated": Answer(body=WHOLE[:-CHUNK_SIZE]),
    "page": Answer(body=b"<html>Log in first</html>"),
    "page-without-checksum": Answer(body=b"<html>Log in first</html>", hashed=False),
    "truncated-without-checksum": Answer(body=WHOLE[:-CHUNK_SIZE], hashed=False),
    "damaged-without-checksum": Answer(body=damaged(OTHER), hashed=False),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_wrong_bytes_are_thrown_away_and_fetched_again(wrong: Answer, kaggle: KaggleServer) -> None:
    kaggle.plan(ARCHIVE, wrong)
    assert content_of(fetch("fer2013")) == FILES
    assert kaggle.ranges() == [None, None]


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_wrong_bytes_are_never_taken_for_whole(
    wrong: Answer, kaggle: KaggleServer, target: Path, tmp_path: Path
) -> None:
    kaggle.plan(ARCHIVE, wrong, wrong, wrong)
    said = refused(target)
    assert "what comes is damaged" in said
    assert "give the path of your own copy" in said
    assert content_of(tmp_path / "cache") == {}
    assert kaggle.ranges() == [None, None, None]


def test_a_page_in_place_of_the_answer_is_no_version(kaggle: KaggleServer) -> None:
    kaggle.plan(LOOK_UP, Answer(body=b"<html>Welcome to our network</html>"))
    assert fetch("fer2013").name == str(VERSION)
    assert kaggle.count(LOOK_UP) == 2


@pytest.mark.parametrize(
    ("step", "status", "advice"),
    [
        (LOOK_UP, 401, "it does not accept your credentials; make an API token"),
        (LOOK_UP, 403, "accept the licence at https://www.kaggle.com/datasets/msambare/fer2013"),
        (DOWNLOAD, 403, "accept the licence at https://www.kaggle.com/datasets/msambare/fer2013"),
        (LOOK_UP, 404, "there is no such dataset any more; give the path of your own copy"),
        (LOOK_UP, 400, "refused with 400; see https://www.kaggle.com/datasets/msambare/fer2013"),
    ],
)
def test_a_refusal_is_one_sentence_and_not_tried_again(
    step: str, status: int, advice: str, kaggle: KaggleServer, target: Path
) -> None:
    kaggle.plan(step, Answer(status))
    assert advice in refused(target)
    assert kaggle.count(step) == 1


def test_missing_credentials_are_asked_for(unknown: KaggleServer, target: Path) -> None:
    said = refused(target)
    assert "there are no credentials; make an API token at https://www.kaggle.com/settings" in said
    assert unknown.count(LOOK_UP) == 1


def test_a_broken_credentials_file_is_named(unknown: KaggleServer, home: Path, target: Path) -> None:
    (home / ".kaggle" / "kaggle.json").write_text("{")
    said = refused(target)
    assert str(home / ".kaggle" / "kaggle.json") in said
    assert "make an API token" in said
    assert unknown.asked == []


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("step", [LOOK_UP, DOWNLOAD, ARCHIVE])
def test_what_may_pass_is_tried_again(step: str, status: int, kaggle: KaggleServer) -> None:
    kaggle.plan(step, Answer(status), Answer(status))
    assert content_of(fetch("fer2013")) == FILES
    assert kaggle.count(step) == 3


def test_a_server_that_stays_down_is_left_for_later(kaggle: KaggleServer, target: Path) -> None:
    kaggle.plan(LOOK_UP, *[Answer(503)] * 3)
    assert "check the network and try again later" in refused(target)
    assert kaggle.count(LOOK_UP) == 3


def test_a_network_that_is_not_there_is_left_for_later(
    home: Path, target: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as closed:  # bound, but nobody listens: every connection is refused at once
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed.getsockname()[1]}")
        assert "check the network and try again later" in refused(target)
    assert caplog.text.count("trying again in 0 s") == 2


def test_a_dataset_larger_than_the_disk_is_refused_before_it_is_downloaded(
    kaggle: KaggleServer, target: Path, tmp_path: Path
) -> None:
    kaggle.total_bytes = shutil.disk_usage(tmp_path).free // 2 + 10**9
    said = refused(target)
    assert f"and {tmp_path / 'cache'}" in said
    assert "GB left; make room there" in said
    assert [asked.step for asked in kaggle.asked] == [LOOK_UP]
