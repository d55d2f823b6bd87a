import hashlib
import os
import re
import resource
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.files import read_json
from pipeline.params import SampleParams
from pipeline.sample import draw
from pipeline.sources.raw import open_raw
from pipeline.stages.download import download, main

FEW = SampleParams(faces_per_class=10, seed=3)
FILES = {"train/happy/Training_2.jpg": b"two", "train/happy/Training_1.jpg": b"one", "README": b"read me"}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "raw" / "fer2013"


def write_folder(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(FILES[name])
    return folder


def write_zip(file: Path) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    return file


def content_of(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def read_raw(target: Path) -> dict[str, bytes]:
    raw, _ = open_raw(target)
    return {entry.path: b"".join(raw.blocks(entry)) for entry in raw.entries()}


def test_sample_is_what_is_drawn_with_the_chosen_seed(target: Path) -> None:
    manifest = download("fer2013", "sample", target, FEW)
    assert manifest["drawn"]
    assert read_raw(target) == dict(draw("fer2013", 10, seed=3))


def test_manifest_names_the_file_with_its_size_and_hash(target: Path, tmp_path: Path) -> None:
    manifest = download("fer2013", str(write_zip(tmp_path / "mine.zip")), target, FEW)
    content = (target / "mine.zip").read_bytes()
    entry = {"name": "mine.zip", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert manifest == {"dataset": "fer2013", "drawn": False, "file": entry}
    assert read_json(target / "manifest.json") == manifest


def test_zip_and_csv_are_copied_byte_by_byte(target: Path, tmp_path: Path) -> None:
    table = tmp_path / "fer2013.csv"
    table.write_text("emotion,pixels,Usage\n")
    for source in (write_zip(tmp_path / "mine.zip"), table):
        download("fer2013", str(source), target, FEW)
        assert content_of(target).keys() == {source.name, "manifest.json"}  # nothing of the one before
        assert (target / source.name).read_bytes() == source.read_bytes()


def test_folder_is_packed_to_the_same_bytes_whenever_its_files_were_written(target: Path, tmp_path: Path) -> None:
    download("fer2013", str(write_folder(tmp_path / "one", list(FILES))), target, FEW)
    assert read_raw(target) == FILES
    first = content_of(target)
    later = write_folder(tmp_path / "two", list(reversed(FILES)))
    for file in later.rglob("*"):
        os.utime(file, (10**9, 10**9))
    download("fer2013", str(later), target, FEW)
    assert content_of(target) == first
    with zipfile.ZipFile(target / "fer2013.zip") as archive:  # two runs within a second prove nothing about the clock
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def refused(source: str, target: Path) -> str:
    with pytest.raises(PipelineError) as error:
        download("fer2013", source, target, FEW)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("content", [None, "a text"], ids=["missing", "text"])
def test_what_is_no_source_leaves_one_sentence_and_nothing_else(
    content: str | None, target: Path, tmp_path: Path
) -> None:
    source = tmp_path / "mine.zip"
    if content:
        source.write_text(content)
    said = refused(str(source), target)
    assert said.startswith(f"datasets.fer2013.from: {'' if content else 'there is nothing at '}{source}")
    assert "train/<class>/Training_<n>.jpg" in said
    assert list(target.parent.iterdir()) == []


def test_whole_download_outlives_a_failed_one(target: Path, tmp_path: Path) -> None:
    download("fer2013", str(write_zip(tmp_path / "mine.zip")), target, FEW)
    before = content_of(target.parent)
    refused(str(tmp_path / "nix.zip"), target)
    assert content_of(target.parent) == before


def test_rest_of_an_interrupted_download_is_cleared_away(target: Path, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    rest = target.parent / f".fer2013.{gone.pid}.partial"
    rest.mkdir(parents=True)
    (rest / "half.zip").write_bytes(b"half")
    download("fer2013", str(write_zip(tmp_path / "mine.zip")), target, FEW)
    assert content_of(target.parent).keys() == {"fer2013/mine.zip", "fer2013/manifest.json"}


def test_a_source_larger_than_the_disk_is_refused_before_it_is_copied(target: Path, tmp_path: Path) -> None:
    source = write_zip(tmp_path / "mine.zip")
    content = source.read_bytes()
    with source.open("wb") as file:  # a sparse file: the archive stands at its end, as behind a program
        file.seek(shutil.disk_usage(tmp_path).free + 10**9)
        file.write(content)
    said = refused(str(source), target)
    assert "mine.zip can not be copied: it takes" in said
    assert said.endswith("GB left")
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("source", ["raw/fer2013", "raw", "raw/fer2013/train"])
def test_source_that_the_download_would_replace_is_left_alone(source: str, target: Path, tmp_path: Path) -> None:
    write_folder(target, ["train/happy/Training_1.jpg"])
    before = content_of(tmp_path)
    assert "lie one in the other; move the source" in refused(str(tmp_path / source), target)
    assert content_of(tmp_path) == before


def test_what_was_not_downloaded_is_not_replaced(target: Path, tmp_path: Path) -> None:
    write_folder(target, ["README"])
    assert "holds what was not downloaded, and would be lost" in refused(str(write_zip(tmp_path / "a.zip")), target)
    assert content_of(target) == {"README": FILES["README"]}


def test_source_may_bear_the_manifests_name(target: Path, tmp_path: Path) -> None:
    download("fer2013", str(write_zip(tmp_path / "manifest.json")), target, FEW)
    assert read_raw(target) == FILES


def test_full_disk_is_an_error_in_a_sentence_and_leaves_nothing(target: Path, tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "a.jpg").write_bytes(b"one" * 100_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # what a disk with no more room answers
    try:
        said = refused(str(tmp_path / "faces"), target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert said == f"{target} can not be written: File too large"
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("closed", ["faces/sad", "faces/sad/a.jpg"])
def test_what_may_not_be_read_is_named(closed: str, unprivileged: Path) -> None:
    (unprivileged / "faces" / "sad").mkdir(parents=True)
    (unprivileged / "faces" / "sad" / "a.jpg").write_bytes(b"one")
    (unprivileged / closed).chmod(0)
    said = refused(str(unprivileged / "faces"), unprivileged / "raw" / "fer2013")
    assert re.search(f"{unprivileged / closed} can not be (read|copied): Permission denied", said)
    (unprivileged / closed).chmod(0o777)


@pytest.mark.parametrize("target", ["raw/fer2013", "raw/some/where/fer2013"])
def test_folder_that_may_not_be_written_is_named_and_not_the_source(target: str, unprivileged: Path) -> None:
    (unprivileged / "raw").mkdir(mode=0o555)
    said = refused("sample", unprivileged / target)
    assert said.startswith(f"{unprivileged / target} can not be written: ")
    assert said.endswith("Permission denied")


def test_two_downloads_at_once_both_end_with_the_whole_file(target: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from pipeline import sample; from pipeline.params import SampleParams\n"
        "from pipeline.stages.download import download\n"
        "def draw(*how, usual=sample.draw):\n"
        "    for number, drawn in enumerate(usual(*how)):\n"
        "        if number == 10:\n"
        "            print('in the midst of it', flush=True); sys.stdin.read()\n"
        "        yield drawn\n"
        "sample.draw = draw\n"
        "download('fer2013', 'sample', Path(sys.argv[1]), SampleParams(faces_per_class=10))\n"
    )
    command = [sys.executable, "-c", program, target]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline()
        download("fer2013", "sample", target, FEW)
        assert read_raw(target) == dict(draw("fer2013", 10, seed=3))
    assert other.returncode == 0
    assert read_raw(target) == dict(draw("fer2013", 10))
    assert list(target.parent.iterdir()) == [target]


def test_main_takes_the_source_from_params_and_notes_how_it_looked(
    target: Path, tmp_path: Path, write_params: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_zip(tmp_path / "mine.zip")
    write_params({"datasets.fer2013.from": str(source)})
    monkeypatch.chdir(tmp_path)
    main("fer2013", target)
    assert (target / "mine.zip").exists()
    noted = read_json(target.parent / "fer2013.source.json")
    assert (noted["path"], noted["bytes"]) == (str(source), source.stat().st_size)
