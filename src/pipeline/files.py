"""Writing files so that none is ever seen half-written, and telling files apart by content."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def written_whole(file: Path) -> Iterator[Path]:
    """Give a temporary path beside `file` that takes its place at the end, and vanishes if an error comes first."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def write_json(file: Path, content: Any) -> None:
    """Write JSON that reads well in a diff, whole or not at all."""
    with written_whole(file) as partial:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(file: Path) -> Any:
    """Read a JSON file."""
    return json.loads(file.read_text(encoding="utf-8"))


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file's content as 64 hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
