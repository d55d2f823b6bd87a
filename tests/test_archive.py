import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.sources.archive import bring, check_source
from pipeline.sources.raw import Raw

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


def as_tar(path: Path, mode: str = "w:gz", *more: tarfile.TarInfo) -> Path:
    with tarfile.open(path, mode) as archive:
        folder = tarfile.TarInfo("./train")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in FILES.items():
            member = tarfile.TarInfo(f"./{name}")  # as `tar -C folder .` writes them
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in more:
            archive.addfile(member)
    return path


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def brought(source: Path, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    raw = Raw(bring(source, folder, "faces"))
    return {entry.path: b"".join(raw.blocks(entry)) for entry in raw.entries()}


def refusal(source: Path, tmp_path: Path) -> str:
    (tmp_path / "out").mkdir(exist_ok=True)
    with pytest.raises(PipelineError) as error:
        bring(source, tmp_path / "out", "faces")
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("kind", ["folder", "zip", "tar.gz", "tar.xz", "tar", "zip under another name"])
def test_the_same_files_read_the_same_however_they_are_packed(kind: str, tmp_path: Path) -> None:
    path = {
        "folder": lambda: as_folder(tmp_path / "files"),
        "zip": lambda: as_zip(tmp_path / "files.zip"),
        "tar.gz": lambda: as_tar(tmp_path / "files.tar.gz"),
        "tar.xz": lambda: as_tar(tmp_path / "files.tar.xz", "w:xz"),
        "tar": lambda: as_tar(tmp_path / "files.tar", "w"),
        "zip under another name": lambda: as_zip(tmp_path / "files.csv"),
    }[kind]()
    assert brought(path, tmp_path / "raw") == FILES
    raw = Raw(next((tmp_path / "raw").iterdir()))
    assert {entry.path: raw.read(entry) for entry in raw.entries()} == FILES


def test_csv_is_copied_alone(tmp_path: Path) -> None:
    (tmp_path / "Faces.CSV").write_text("emotion,pixels\n")
    (tmp_path / "beside.csv").write_text("not asked for")
    assert brought(tmp_path / "Faces.CSV", tmp_path / "raw") == {"Faces.CSV": b"emotion,pixels\n"}


def test_same_folder_gives_the_same_zip_on_any_day(tmp_path: Path) -> None:
    source, files = as_folder(tmp_path / "files"), []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        files.append(bring(source, tmp_path / name, "faces").read_bytes())
        os.utime(source / "labels.csv", (0, 0))
    assert files[0] == files[1]


def test_links_in_a_folder_are_followed_but_not_in_a_circle(tmp_path: Path) -> None:
    source = as_folder(tmp_path / "files")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "c.jpg").write_bytes(b"linked")
    (source / "train" / "sad").symlink_to(tmp_path / "elsewhere")
    (source / "test" / "2.png").symlink_to(source / "test" / "1.png")
    (source / "test" / "round").symlink_to(source)
    expected = {**FILES, "train/sad/c.jpg": b"linked", "test/2.png": b"one"}
    assert brought(source, tmp_path / "raw") == expected


def test_links_in_a_tar_are_followed(tmp_path: Path) -> None:
    links = link("test/2.png", "1.png"), link("test/3.png", "./test/1.png", tarfile.LNKTYPE)
    expected = {**FILES, "test/2.png": b"one", "test/3.png": b"one"}
    assert brought(as_tar(tmp_path / "a.tar", "w", *links), tmp_path / "raw") == expected


def test_links_that_lead_nowhere_are_refused_by_name(tmp_path: Path) -> None:
    source = as_folder(tmp_path / "files")
    (source / "lost.jpg").symlink_to("gone.jpg")
    assert "lost.jpg is a link to gone.jpg, where nothing is" in refusal(source, tmp_path)
    tar = as_tar(tmp_path / "a.tar", "w", link("lost.jpg", "gone.jpg"))
    assert "holds the link 'lost.jpg', whose file is not in it" in refusal(tar, tmp_path)


@pytest.mark.parametrize(
    "name", ["ü-ß-日本-😀.jpg", "a" * 200 + "/" + "b" * 200 + ".jpg", "with space & 'quotes'\n.jpg"]
)
def test_unicode_long_and_odd_names_are_kept(name: str, tmp_path: Path) -> None:
    (tmp_path / "files" / name).parent.mkdir(parents=True)
    (tmp_path / "files" / name).write_bytes(b"one")
    assert brought(tmp_path / "files", tmp_path / "raw") == {name: b"one"}


def test_name_that_is_no_unicode_is_read_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "files") + b"/caf\xe9.jpg")).write_bytes(b"one")
    assert brought(tmp_path / "files", tmp_path / "raw") == {"caf?.jpg": b"one"}


def test_what_is_neither_file_nor_folder_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for source in (tmp_path / "pipe", Path("/dev/zero")):
        assert "no folder, zip, tar or CSV file" in refusal(source, tmp_path)


def test_file_of_more_than_two_gigabytes_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zipfile.ZIP64_LIMIT", 3000)
    assert brought(as_folder(tmp_path / "files"), tmp_path / "raw") == FILES


@pytest.mark.parametrize("archive", ["faces.zip", "faces.tar.gz"])
def test_folder_that_holds_only_an_archive_is_refused_with_the_path_to_give(archive: str, tmp_path: Path) -> None:
    folder = tmp_path / "Downloads"
    folder.mkdir()
    (as_zip if archive.endswith("zip") else as_tar)(folder / archive)
    (folder / ".DS_Store").write_bytes(b"from a Mac")
    assert refusal(folder, tmp_path) == f"{folder} holds only an archive; give the path of that, {folder / archive}"


def test_folder_without_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "faces" / "train").mkdir(parents=True)
    assert refusal(tmp_path / "faces", tmp_path) == f"{tmp_path / 'faces'} holds no file"


def test_missing_path_is_named(tmp_path: Path) -> None:
    assert "there is nothing at" in refusal(tmp_path / "nix.zip", tmp_path)


@pytest.mark.parametrize("content", [b"", b"a text that somebody named so\n"])
def test_what_is_no_archive_is_told_by_content_not_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "faces.zip").write_bytes(content)
    assert "no folder, zip, tar or CSV file" in refusal(tmp_path / "faces.zip", tmp_path)


def test_zip_that_is_cut_off_is_refused_before_it_is_copied(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "a.zip")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(PipelineError, match="is cut off: the table of contents at its end is missing"):
        check_source(path)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("share", [0.3, 0.5])  # the end of a plain one is empty
def test_tar_that_is_cut_off_is_refused(mode: str, share: float, tmp_path: Path) -> None:
    path = as_tar(tmp_path / "a.tar", mode)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert "a.tar" in refusal(path, tmp_path)


def test_tar_that_ends_between_two_files_is_refused(tmp_path: Path) -> None:
    path = as_tar(tmp_path / "a.tar", "w")
    with tarfile.open(path) as tar:
        start = tar.getmembers()[-1].offset
    path.write_bytes(path.read_bytes()[:start])
    assert "is damaged or cut off" in refusal(path, tmp_path)


def test_tar_with_a_broken_header_in_the_middle_is_refused(tmp_path: Path) -> None:
    path = as_tar(tmp_path / "a.tar", "w")
    with tarfile.open(path) as tar:
        start = tar.getmembers()[-1].offset
    content = bytearray(path.read_bytes())
    content[start + 148] ^= 0xFF  # its checksum
    path.write_bytes(content)
    assert "is damaged or cut off" in refusal(path, tmp_path)


def twice(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jpg", b"one")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.jpg", b"other")
    return path


def twice_in_tar(path: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        for content in (b"one", b"other"):
            member = tarfile.TarInfo("a.jpg")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def leading_out(name: str) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, b"one")
        return path

    return write


def encrypted(path: Path) -> Path:
    as_zip(path)
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1  # the flag in the table of contents
    path.write_bytes(content)
    return path


def packed_by_bzip2(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.jpg", NOISE)
    return path


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (twice, "holds a.jpg more than once"),
        (twice_in_tar, "a.jpg is there more than once"),
        (leading_out("../../etc/a.jpg"), "a path that leads out of it"),
        (leading_out("/etc/a.jpg"), "a path that leads out of it"),
        (leading_out("..\\a.jpg"), "a path that leads out of it"),
        (encrypted, "is encrypted at labels.csv"),
        (packed_by_bzip2, "neither stored nor deflated at a.jpg"),
    ],
)
def test_bad_archives_are_refused_in_a_sentence(write: Callable[[Path], Path], said: str, tmp_path: Path) -> None:
    assert said in refusal(write(tmp_path / "a.zip"), tmp_path)


def test_windows_paths_are_read_as_paths(tmp_path: Path) -> None:
    path = leading_out("train\\happy\\a.jpg")(tmp_path / "a.zip")
    assert brought(path, tmp_path / "raw") == {"train/happy/a.jpg": b"one"}


def test_folder_that_may_not_be_read_is_named(unprivileged: Path) -> None:
    (unprivileged / "faces").mkdir(mode=0)
    with pytest.raises(PipelineError, match="faces can not be read: Permission denied"):
        check_source(unprivileged / "faces")
    (unprivileged / "faces").chmod(0o777)
