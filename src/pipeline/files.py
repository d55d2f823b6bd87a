"""Writing files so that none is ever seen half-written, and telling files apart by content."""

import errno
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError

S3_ADVICE = (
    "; s3:// needs `pip install -c constraints.txt -e '.[ray]'`, and AWS credentials where AWS's own tools look, as in "
    "the variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


@contextmanager
def written_whole(file: str | Path) -> Iterator[Path]:
    """Give a temporary path that takes the place of `file` at the end, and vanishes if an error comes first.

    It is this process's own: two that write the same file do not meet, and the later one's stays. It may become a
    folder as well. What a killed process left of the same file is cleared away. An address (`s3://...`) is written
    from here.

    Raises:
        PipelineError: if the disk is full, or the place may not be written to.
    """
    if "://" in str(file):
        with _uploaded(str(file)) as partial:
            yield partial
        return
    file = Path(file)
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PipelineError(f"{file} can not be written: {error.filename}: {error.strerror}") from error
    try:
        for rest in file.parent.glob(f".{glob.escape(file.name)}.*.partial"):
            if not _is_running(rest.suffixes[-2]):
                _remove(rest)
        yield partial
        if partial.is_dir():
            _remove(file)  # a folder takes the place of an empty one only
        partial.replace(file)
    except OSError as error:
        if (error.errno in NO_ROOM and not error.filename) or str(partial) in str(error):  # not another file's
            raise PipelineError(f"{file} can not be written: {os.strerror(error.errno or 0)}") from error
        raise
    finally:
        with suppress(OSError):
            _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _uploaded(address: str) -> Iterator[Path]:
    import fsspec

    with tempfile.TemporaryDirectory() as folder:
        partial = Path(folder) / "file"
        yield partial
        with reached(address):
            system, path = fsspec.core.url_to_fs(address)
            system.put_file(str(partial), path)


@contextmanager
def reached(address: str) -> Iterator[None]:
    """Say in a sentence why an address can not be reached: a package or credentials that are missing, the network."""
    try:
        yield
    except Exception as error:  # each backend raises its own kinds, and need not be installed
        why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise PipelineError(f"{address} can not be reached ({why}){S3_ADVICE * address.startswith('s3://')}") from error


def _is_running(process: str) -> bool:
    try:
        os.kill(int(process.removeprefix(".")), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def write_json(file: Path, content: Any) -> None:
    """Write JSON that reads well in a diff, whole or not at all."""
    with written_whole(file) as partial:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(file: Path) -> Any:
    """Read a JSON file."""
    return json.loads(file.read_text(encoding="utf-8"))


def read_output(file: Path, stage: str) -> Any:
    """Read JSON that a stage wrote; raises PipelineError with the command that makes it again if it can not be read."""
    try:
        return read_json(file)
    except (OSError, ValueError) as error:
        raise PipelineError(f"{file} is missing or damaged ({error}); run `dvc repro {stage}`") from error


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file's content as 64 hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
