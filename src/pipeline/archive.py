"""One way to read a folder, a zip, a tar or a single file, without unpacking anything to disk."""

import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any, Protocol

from pipeline.errors import PipelineError
from pipeline.files import read_json

MANIFEST = "manifest.json"


class Archive(Protocol):
    """Files under paths with forward slashes, in sorted order."""

    def paths(self) -> list[str]:
        """Return the paths of all files."""
        ...

    def read(self, path: str) -> bytes:
        """Return the content of one file."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def paths(self) -> list[str]:
        return sorted(file.relative_to(self._root).as_posix() for file in self._root.rglob("*") if file.is_file())

    def read(self, path: str) -> bytes:
        return (self._root / path).read_bytes()

    def close(self) -> None:
        pass


class _SingleFile(_Folder):
    def __init__(self, file: Path) -> None:
        super().__init__(file.parent)
        self._name = file.name

    def paths(self) -> list[str]:
        return [self._name]


class _Zip:
    def __init__(self, file: Path) -> None:
        self._zip = zipfile.ZipFile(file)

    def paths(self) -> list[str]:
        return sorted({entry.filename for entry in self._zip.infolist() if not entry.is_dir()})

    def read(self, path: str) -> bytes:
        try:
            return self._zip.read(path)
        except (OSError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:  # RuntimeError: it is encrypted
            raise PipelineError(f"{self._zip.filename} is damaged at {path}: {error}") from error

    def close(self) -> None:
        self._zip.close()


class _Tar:
    def __init__(self, file: Path) -> None:
        self._tar = tarfile.TarFile.open(file)
        self._members = {member.name.removeprefix("./"): member for member in self._tar if member.isfile()}

    def paths(self) -> list[str]:
        return sorted(self._members)

    def read(self, path: str) -> bytes:
        try:
            stream = self._tar.extractfile(self._members[path])
            assert stream is not None  # only regular files are listed
            return stream.read()
        except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
            raise PipelineError(f"{self._tar.name!s} is damaged at {path}: {error}") from error

    def close(self) -> None:
        self._tar.close()


def open_raw(folder: Path) -> tuple[Archive, dict[str, Any]]:
    """Open what the stage `download` brought, and return it with its manifest.

    Raises:
        PipelineError: if the download is not complete, or damaged.
    """
    try:
        manifest = read_json(folder / MANIFEST)
    except (OSError, ValueError) as error:
        raise PipelineError(f"{folder} has no whole download; run `dvc repro download@{folder.name}`") from error
    return open_archive(folder / manifest["file"]["name"]), manifest


def open_archive(path: Path) -> Archive:
    """Open a folder, a zip, a tar (compressed or not) or a CSV file, told apart by content.

    Raises:
        PipelineError: if there is nothing at the path, it can not be read, or it is none of these.
    """
    try:
        if path.is_dir():
            return _Folder(path)
        if not path.exists():
            raise PipelineError(f"there is nothing at {path}")
        if zipfile.is_zipfile(path):
            return _Zip(path)
        if tarfile.is_tarfile(path):
            return _Tar(path)
    except (OSError, EOFError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise PipelineError(f"{path} can not be read: {error}") from error
    if path.suffix.lower() == ".csv":
        return _SingleFile(path)
    raise PipelineError(f"{path} is no folder, zip, tar or CSV file")
