"""Bringing a source here, a folder, a zip, a tar or a CSV file, as one file that many processes can read at once.

A zip and a CSV file are copied as they are. Folders and tars become a zip, file by file, with nothing unpacked: DVC
hashes and links one file at once, and unlike a compressed tar it can be read at any place.
"""

import errno
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from lzma import LZMAError
from pathlib import Path
from typing import IO, Self

from tqdm import tqdm

from pipeline.errors import PipelineError, did_you_mean
from pipeline.params import NO_PATHS
from pipeline.sources.raw import MANIFEST, Raw, tidy

EPOCH = (1980, 1, 1, 0, 0, 0)  # so that the same files give the same archive on any day
AT_ONCE = 1 << 20  # bytes copied
DAMAGED = (EOFError, tarfile.TarError, zlib.error, LZMAError, ValueError, OverflowError)


def check_source(source: Path) -> None:
    """Raise PipelineError if there is nothing at a path, or no folder, zip, tar or CSV file that can be read."""
    try:
        if not source.exists():
            raise PipelineError(f"there is nothing at {source}{did_you_mean(str(source), NO_PATHS)}")
        if source.is_dir():
            _check_folder(source)
        elif not source.is_file():  # a device would be read for ever
            raise PipelineError(f"{source} is no folder, zip, tar or CSV file")
        elif not _is_tar(source):
            with closing(Raw(source)) as raw:
                raw.entries()
    except OSError as error:
        raise PipelineError(f"{error.filename or source} can not be read: {error.strerror}") from error


def _check_folder(folder: Path) -> None:
    seen = (path for path in _walk(folder, frozenset()) if not path.name.startswith("."))
    files = list(islice(seen, 2))
    if not files:
        raise PipelineError(f"{folder} holds no file")
    if len(files) == 1 and (zipfile.is_zipfile(files[0]) or _is_tar(files[0])):  # where a browser downloaded to
        raise PipelineError(f"{folder} holds only an archive; give the path of that, {files[0]}")


def bring(source: Path, folder: Path, name: str) -> Path:
    """Copy or pack a source into a folder.

    Args:
        source: a folder, a zip, a tar (compressed or not) or a CSV file, told apart by content.
        folder: where to.
        name: of the dataset, for the progress bar and for the zip where one is made.

    Returns:
        the one file that was written.

    Raises:
        PipelineError: if the source is none of these, is damaged, or can not be read; if it does not fit on the disk.
    """
    check_source(source)
    _check_space(folder, source)
    if source.is_dir():
        return pack(folder / f"{name}.zip", _files_of_folder(source), f"pack {name}")
    if _is_tar(source):
        with _damage_named(source):
            return pack(folder / f"{name}.zip", _files_of_tar(source), f"pack {name}")
    return Path(shutil.copyfile(source, folder / (f"{name}.zip" if source.name == MANIFEST else source.name)))


def pack(archive: Path, files: Iterable[tuple[str, IO[bytes]]], title: str) -> Path:
    """Write files into a stored zip, in the order given; raises PipelineError if two have the same path."""
    packed = set()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as target:
        for path, content in tqdm(files, desc=title, unit=" files", mininterval=1, disable=None):
            if path in packed:
                raise PipelineError(f"{title}: {path} is there more than once; leave only one")
            packed.add(path)
            info = zipfile.ZipInfo(path, EPOCH)
            info.file_size = content.seek(0, os.SEEK_END)  # by which zipfile knows whether it needs 64 bits
            content.seek(0)
            with content, target.open(info, "w") as entry:
                shutil.copyfileobj(content, entry, AT_ONCE)
    return archive


def _files_of_folder(root: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Give the files of a folder, sorted by path; links are followed, but never in a circle."""
    for path in sorted(_walk(root, frozenset())):
        yield tidy(path.relative_to(root).as_posix(), str(root)), path.open("rb")


def _walk(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    here = folder.resolve()
    if here in above:
        return
    for entry in os.scandir(folder):
        path = Path(entry.path)
        if entry.is_dir():
            yield from _walk(path, above | {here})
        elif entry.is_file():
            yield path
        elif entry.is_symlink():
            raise PipelineError(f"{path} is a link to {path.readlink()}, where nothing is")


def _files_of_tar(file: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Give the files of a tar in its own order: one pass, where a compressed one would be unpacked anew for each."""
    with tarfile.open(file, tarinfo=_Member) as tar:
        for member in tar:
            if member.isfile() or member.issym() or member.islnk():
                try:
                    content = tar.extractfile(member)
                except KeyError as error:
                    raise PipelineError(f"{file} holds the link {member.name!r}, whose file is not in it") from error
                assert content is not None  # it is a file, or a link to one
                yield tidy(member.name, str(file)), content


class _Member(tarfile.TarInfo):
    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        """Read the next header; where tarfile would take a broken one for the end, the archive is damaged."""
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise EOFError(str(error)) from error


def _is_tar(source: Path) -> bool:
    with _damage_named(source):
        return not zipfile.is_zipfile(source) and tarfile.is_tarfile(source)


@contextmanager
def _damage_named(file: Path) -> Iterator[None]:
    try:
        yield
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's, not the file's
        raise PipelineError(f"{file} is damaged or cut off: {' '.join(str(error).split())[:200]}") from error


def _check_space(folder: Path, source: Path) -> None:
    files = _walk(source, frozenset()) if source.is_dir() else [source]
    needed, free = sum(file.stat().st_size for file in files), shutil.disk_usage(folder).free
    if needed > free:
        why = f"it takes {needed / 1e9:.1f} GB, and {folder.parent} has {free / 1e9:.1f} GB left"
        raise OSError(errno.ENOSPC, why, str(source))
