"""Cutting a raw file into parts: so many pictures that a process is worth it, so few that memory is bounded."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.errors import PipelineError
from pipeline.sources.raw import Entry, Raw

PICTURES, BYTES = 512, 2 << 20  # in a part, at most
WHOLE_PICTURES = 16  # at most, where faces are searched for: that takes long
LONGEST_LINE = 1 << 20


@dataclass(frozen=True)
class Files:
    """Some of the files of a zip."""

    entries: tuple[Entry, ...]

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.entries)


@dataclass(frozen=True)
class Lines:
    """Some lines of a table, as they stand there: its header, and the number of the first of them."""

    header: tuple[str, ...]
    first: int
    lines: tuple[bytes, ...]

    def __len__(self) -> int:
        """Return the number of lines."""
        return len(self.lines)


Part = Files | Lines


def cut_files(entries: list[Entry], *, whole: bool = False) -> list[Files]:
    """Cut files into parts, in the order given; smaller ones if they are whole pictures, not faces."""
    most = WHOLE_PICTURES if whole else PICTURES
    parts: list[Files] = []
    some: list[Entry] = []
    size = 0
    for entry in entries:
        if some and (len(some) == most or size + entry.bytes > BYTES):
            parts.append(Files(tuple(some)))
            some, size = [], 0
        some.append(entry)
        size += entry.bytes
    return [*parts, Files(tuple(some))] if some else parts


def cut_table(raw: Raw, table: Entry) -> Iterator[Lines]:
    """Cut a table into parts: its first line is the header, the others are left as they are.

    Raises:
        PipelineError: if the file is damaged, or a line is so long that this can be no table.
    """
    header, first, rest = None, 1, b""
    for block in raw.blocks(table):
        *lines, rest = (rest + block).split(b"\n")
        if len(rest) > LONGEST_LINE:
            raise PipelineError(f"{table.path}: line {first + len(lines)} has more than {LONGEST_LINE:,} bytes")
        if header is None and lines:
            header, *lines = lines
            first += 1
        if lines:
            yield Lines(_names(header), first, tuple(lines))
            first += len(lines)
    if header is None:
        header, rest = rest, b""
    yield Lines(_names(header), first, (rest,) if rest else ())


def _names(header: bytes | None) -> tuple[str, ...]:
    line = (header or b"").decode("utf-8-sig", errors="replace").replace("\0", "").strip("\r\n")
    try:
        return tuple(name.strip() for name in next(csv.reader([line]), []))
    except csv.Error:
        return (line[:200],)
