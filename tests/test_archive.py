import io
import tarfile
import zipfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from pipeline.archive import open_archive, open_raw
from pipeline.errors import PipelineError
from pipeline.files import write_json

NOISE = np.random.default_rng(0).bytes(4000)  # does not compress, so half of an archive ends inside of it
FILES = {"train/happy/b.jpg": NOISE, "train/happy/a.jpg": b"", "test/1.png": b"one", "labels.csv": b"image,label\n"}


def as_folder(path: Path) -> Path:
    for name, content in FILES.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    (path / "empty").mkdir()
    return path


def as_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train/", "")  # a folder's own entry is no file
        for name, content in FILES.items():
            archive.writestr(name, content)
    return path


def as_tar(path: Path, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        folder = tarfile.TarInfo("./train")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in FILES.items():
            member = tarfile.TarInfo(f"./{name}")  # as `tar -C folder .` writes them
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def read_all(path: Path) -> list[tuple[str, bytes]]:
    with closing(open_archive(path)) as archive:
        return [(name, archive.read(name)) for name in archive.paths()]


@pytest.mark.parametrize("kind", ["folder", "zip", "tar.gz", "tar", "zip under another name"])
def test_the_same_files_read_the_same_however_they_are_packed(kind: str, tmp_path: Path) -> None:
    path = {
        "folder": lambda: as_folder(tmp_path / "files"),
        "zip": lambda: as_zip(tmp_path / "files.zip"),
        "tar.gz": lambda: as_tar(tmp_path / "files.tar.gz"),
        "tar": lambda: as_tar(tmp_path / "files.tar", "w"),
        "zip under another name": lambda: as_zip(tmp_path / "files.csv"),
    }[kind]()
    assert read_all(path) == sorted(FILES.items())


def test_csv_is_a_single_file(tmp_path: Path) -> None:
    (tmp_path / "Faces.CSV").write_text("emotion,pixels\n")
    (tmp_path / "beside.csv").write_text("not asked for")
    assert read_all(tmp_path / "Faces.CSV") == [("Faces.CSV", b"emotion,pixels\n")]


def refusal(path: Path) -> str:
    with pytest.raises(PipelineError) as error:
        open_archive(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    return str(error.value)


def test_missing_path_is_named(tmp_path: Path) -> None:
    assert "there is nothing at" in refusal(tmp_path / "nix.zip")


@pytest.mark.parametrize("content", [b"", b"a text that somebody named so\n"])
def test_what_is_no_archive_is_told_by_content_not_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "faces.zip").write_bytes(content)
    assert "no folder, zip, tar or CSV file" in refusal(tmp_path / "faces.zip")


def test_archives_cut_in_half_are_refused(tmp_path: Path) -> None:
    for path in (as_zip(tmp_path / "a.zip"), as_tar(tmp_path / "a.tar.gz"), as_tar(tmp_path / "a.tar", "w")):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 if path.suffix != ".tar" else 3000])
        refusal(path)


def test_raw_folder_opens_the_file_of_its_manifest(tmp_path: Path) -> None:
    as_zip(tmp_path / "fer2013.zip")
    manifest = {"dataset": "fer2013", "drawn": False, "file": {"name": "fer2013.zip"}}
    write_json(tmp_path / "manifest.json", manifest)
    archive, found = open_raw(tmp_path)
    with closing(archive):
        assert archive.paths() == sorted(FILES)
    assert found == manifest


def test_raw_folder_without_a_manifest_is_no_whole_download(tmp_path: Path) -> None:
    as_zip(tmp_path / "fer2013.zip")
    with pytest.raises(PipelineError, match=f"{tmp_path} has no whole download; run `dvc repro download@"):
        open_raw(tmp_path)
