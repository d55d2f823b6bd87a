"""Reading one field of a multipart form (RFC 7578): its parts are bytes, whatever they claim to be.

Starlette's reader decodes text by the charset that a stranger names, and some take minutes for a megabyte while nothing
else is answered; it keeps what nobody asked for, and of a form that is cut off it gives the parts before.
"""

from collections.abc import AsyncIterator, Callable
from typing import BinaryIO, Generic, TypeVar

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException

MAX_PARTS = 256  # of any name
TOLD = 5  # names in an error

File = TypeVar("File", bound=BinaryIO)


async def read_field(body: AsyncIterator[bytes], form: str, name: str, open_part: Callable[[], File]) -> list[File]:
    """Return the files into which the content of every part called `name` was written; other parts are passed over.

    Args:
        body: of the request, in pieces.
        form: its content type, which has the boundary.
        name: of the field.
        open_part: opens the file for a part; what it raises ends the reading.

    Raises:
        HTTPException: 400 if the form is broken or cut off, 413 if it has too many parts, 422 if none has that name.
    """
    boundary = parse_options_header(form)[1].get(b"boundary")
    if not boundary:
        raise HTTPException(400, "the multipart form declares no boundary")
    reader = _Reader(name.encode(), open_part)
    try:
        parser = MultipartParser(boundary, reader.callbacks())  # type: ignore[arg-type]
        async for data in body:
            parser.write(data)
    except FormParserError as error:
        raise HTTPException(400, "the multipart form is broken, or its boundary is not the declared one") from error
    if not reader.ended:
        raise HTTPException(400, "the multipart form is cut off")
    if not reader.files:
        others = ", ".join(sorted(reader.others)[:TOLD])
        raise HTTPException(422, f"the field `{name}` is missing" + (f"; there is: {others}" if others else ""))
    return reader.files


class _Reader(Generic[File]):
    """What the parser tells of one form."""

    def __init__(self, name: bytes, open_part: Callable[[], File]) -> None:
        self.files: list[File] = []
        self.others: set[str] = set()
        self.ended = False
        self._name, self._open_part = name, open_part
        self._parts = 0
        self._header = self._value = self._disposition = b""
        self._file: File | None = None

    def callbacks(self) -> dict[str, Callable[..., None]]:
        """Return what the parser calls, by the names that it knows."""
        return {name: getattr(self, name) for name in dir(self) if name.startswith("on_")}

    def on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise HTTPException(413, f"the form has more than {MAX_PARTS} parts")
        self._disposition, self._file = b"", None

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def on_headers_finished(self) -> None:
        name = parse_options_header(self._disposition)[1].get(b"name")
        if name is None:
            raise HTTPException(400, "a part of the multipart form has no name")
        if name == self._name:
            self._file = self._open_part()
            self.files.append(self._file)
        else:
            self.others.add(name.decode(errors="replace")[:40])

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])

    def on_end(self) -> None:
        self.ended = True
