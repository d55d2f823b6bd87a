"""What `download` left, one zip or one CSV file, read by many processes at once: each is told where its files lie."""

import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

import fsspec

from pipeline.errors import PipelineError
from pipeline.files import reached

MANIFEST = "manifest.json"
BLOCK = 1 << 20  # bytes of a table that are read at once
LOCAL_HEADER, NAME_LENGTHS = 30, 26  # of a file inside a zip, APPNOTE.TXT 4.3.7
ENCRYPTED = 0x1
NO_CHECKSUM = -1  # of a table that lies in no zip
# What zipfile and zlib raise over a damaged file, as found by fuzzing.
DAMAGE = (OSError, EOFError, zipfile.BadZipFile, zlib.error, ValueError, IndexError, RuntimeError, struct.error)


class Entry(NamedTuple):
    """A file inside a raw file: its path, and where its bytes lie, so that a worker need not look it up."""

    path: str
    offset: int
    packed_bytes: int
    bytes: int
    method: int
    crc: int


class Raw:
    """A zip or a CSV file at a path or an address that fsspec reads (`s3://...`); pickles as that address."""

    def __init__(self, address: str | Path) -> None:
        """Name the file; it is opened when it is first read."""
        self.address = str(address)
        self.name = PurePosixPath(self.address).name
        self._stream: IO[bytes] | None = None

    def __reduce__(self) -> tuple[type["Raw"], tuple[str]]:
        """Leave the open file behind: two processes that share one would share its position too."""
        return Raw, (self.address,)

    def entries(self) -> list[Entry]:
        """Return the files, sorted by path.

        Raises:
            PipelineError: if this is neither a zip nor a CSV file, is cut off or encrypted, holds a path twice, or one
                that leads out of it.
        """
        try:
            stream = self._open()
            if zipfile.is_zipfile(stream):
                return self._listed(zipfile.ZipFile(stream))
            stream.seek(0)
            if stream.read(4) == b"PK\x03\x04":
                raise PipelineError(f"{self.address} is cut off: the table of contents at its end is missing")
            if self.name.lower().endswith(".csv"):
                size = stream.seek(0, 2)
                return [Entry(self.name, 0, size, size, zipfile.ZIP_STORED, NO_CHECKSUM)]
        except DAMAGE as error:
            raise PipelineError(f"{self.address} can not be read: {error}") from error
        raise PipelineError(f"{self.address} is no folder, zip, tar or CSV file")

    def read(self, entry: Entry) -> bytes:
        """Return the content of a file of a zip.

        Raises:
            PipelineError: if it is damaged.
        """
        try:
            stream = self._open()
            stream.seek(entry.offset)
            name, extra = struct.unpack_from("<HH", stream.read(LOCAL_HEADER), NAME_LENGTHS)
            stream.seek(entry.offset + LOCAL_HEADER + name + extra)
            content = stream.read(entry.packed_bytes)
            if entry.method == zipfile.ZIP_DEFLATED:
                # One byte more than announced is enough to see that a few kilobytes would become gigabytes.
                content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, entry.bytes + 1)
        except DAMAGE as error:
            raise PipelineError(f"{self.address} is damaged at {entry.path}: {error}") from error
        if len(content) != entry.bytes or zlib.crc32(content) != entry.crc:
            raise PipelineError(f"{self.address} is damaged at {entry.path}: its checksum does not fit")
        return content

    def blocks(self, entry: Entry) -> Iterator[bytes]:
        """Give the content of a file piece by piece.

        Raises:
            PipelineError: if it is damaged.
        """
        stream = self._open()
        try:
            if entry.crc == NO_CHECKSUM:
                stream.seek(0)
                yield from iter(lambda: stream.read(BLOCK), b"")
                return
            archive = zipfile.ZipFile(stream)
            (info,) = (info for info in archive.infolist() if info.header_offset == entry.offset)
            with archive.open(info) as file:
                yield from iter(lambda: file.read(BLOCK), b"")
        except DAMAGE as error:
            raise PipelineError(f"{self.address} is damaged at {entry.path}: {error}") from error

    def close(self) -> None:
        """Let go of the file."""
        if self._stream:
            self._stream.close()
            self._stream = None

    def _open(self) -> IO[bytes]:
        if self._stream is None:
            self._stream = open_at(self.address)
        return self._stream

    def _listed(self, archive: zipfile.ZipFile) -> list[Entry]:
        entries = {}
        for info in archive.infolist():
            if info.filename.endswith("/"):
                continue
            path = tidy(info.filename, self.address)
            if info.flag_bits & ENCRYPTED:
                raise PipelineError(f"{self.address} is encrypted at {path}; unpack it, and give the folder")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise PipelineError(f"{self.address} is neither stored nor deflated at {path}; pack it anew")
            if path in entries:
                raise PipelineError(f"{self.address} holds {path} more than once; pack it anew")
            entries[path] = Entry(
                path, info.header_offset, info.compress_size, info.file_size, info.compress_type, info.CRC
            )
        return sorted(entries.values())


def open_raw(folder: str | Path) -> tuple[Raw, dict[str, Any]]:
    """Return what the stage `download` left in a folder, or under an address, and its manifest.

    Raises:
        PipelineError: if the download is not complete.
    """
    try:
        with open_at(f"{folder}/{MANIFEST}") as stream:
            manifest = json.load(stream)
        name = manifest["file"]["name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        dataset = PurePosixPath(str(folder)).name
        raise PipelineError(f"{folder} has no whole download; run `dvc repro download@{dataset}`") from error
    return Raw(f"{folder}/{name}"), manifest


def open_at(address: str) -> IO[bytes]:
    """Open a path, or an address that fsspec reads; raises OSError, or PipelineError if the address is out of reach."""
    if "://" not in address:
        return Path(address).open("rb", buffering=0)
    with reached(address):
        return fsspec.open(address).open()


def tidy(path: str, holder: str) -> str:
    """Return the path of a file inside an archive with forward slashes and no `./` in front.

    Raises:
        PipelineError: if it leads out of the archive.
    """
    tidied = path.replace("\\", "/").encode("utf-8", "replace").decode().removeprefix("./")
    if tidied.startswith("/") or (".." in tidied and ".." in tidied.split("/")):
        raise PipelineError(f"{holder} holds {path!r}, a path that leads out of it; pack it anew")
    return tidied
