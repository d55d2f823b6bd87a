"""Reading what is uploaded, within limits.

BentoML's own file fields would fetch an address that a stranger sends, and take a body of any size.
"""

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import BytesIO
from typing import BinaryIO, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from pipeline.serving.forms import File, read_field

MEGABYTE = 1_000_000
MAX_IMAGE_BYTES = 20 * MEGABYTE
MAX_JSON_BYTES = MAX_IMAGE_BYTES * 4 // 3  # as base64, four characters are three bytes
MAX_BATCH_BYTES = 100 * MEGABYTE
MAX_BATCH_IMAGES = 64
TOO_MANY = f"at most {MAX_BATCH_IMAGES} images can be sent at once"
MAX_VIDEO_BYTES = 100 * MEGABYTE
FRAME_BYTES = MEGABYTE  # what a multipart or JSON body may have around its files

Image = TypeVar("Image", bytes, str)


async def read_image(request: Request) -> bytes:
    """Return the one uploaded image: the multipart field `image`, or the raw body whatever type it declares.

    A body that is declared as JSON may be one: see `pipeline.serving.bodies`.

    Raises:
        HTTPException: 400 if the body is broken or cut off, 413 if it is too large, 422 if the field is missing or
            there are several.
    """
    request = _limited(request, MAX_JSON_BYTES if is_json(request) else MAX_IMAGE_BYTES)
    if not _is_multipart(request):
        return await request.body()  # curl declares --data-binary as a form, so the declared type says nothing
    several = HTTPException(422, "there are several fields `image`; /predict_batch takes several `images`")
    (image,) = await _read_field(request, "image", 1, several)
    return image


async def read_images(request: Request) -> list[bytes]:
    """Return the content of all multipart fields `images`; a JSON body has them otherwise.

    Raises:
        HTTPException: 400 if the body is broken or cut off, 413 if it is too large or has too many images, 422 if
            there is none.
    """
    if not _is_multipart(request):
        raise HTTPException(
            422, "send the images as multipart/form-data, each in a field `images`, or as base64 in a JSON body"
        )
    too_many = HTTPException(413, TOO_MANY)
    return await _read_field(_limited(request, MAX_BATCH_BYTES), "images", MAX_BATCH_IMAGES, too_many)


def bounded_batch(images: list[Image]) -> list[Image]:
    """Return the images of a batch; raises HTTPException 413 if there are too many."""
    if len(images) > MAX_BATCH_IMAGES:
        raise HTTPException(413, TOO_MANY)
    return images


async def read_json(request: Request) -> bytes:
    """Return a JSON body; raises HTTPException 413 if it is too large."""
    return await _limited(request, MAX_JSON_BYTES).body()


def is_json(request: Request) -> bool:
    """Return whether a body is declared to be JSON, as none is by mistake."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"


@asynccontextmanager
async def read_video(request: Request) -> AsyncIterator[BinaryIO]:
    """Give the one uploaded video as an open file: the multipart field `video`, or the raw body whatever its type.

    The file has no name, so that it is gone when it is closed, and also when the process dies.

    Raises:
        HTTPException: 400 if the body is broken or cut off, 413 if it is too large, 422 if the field is missing or
            there are several.
    """
    request = _limited(request, MAX_VIDEO_BYTES)
    with tempfile.TemporaryFile() as file:
        if _is_multipart(request):
            several = HTTPException(422, "there are several fields `video`; send one after the other")
            await read_field(request.stream(), _type(request), "video", _up_to(1, lambda: file, several))
        else:
            async for part in request.stream():
                file.write(part)
        if file.tell() > MAX_VIDEO_BYTES:
            raise too_large(MAX_VIDEO_BYTES)
        yield file


def too_large(limit: int) -> HTTPException:
    """Return the error for an upload of more than `limit` bytes."""
    return HTTPException(413, f"the upload has more than {limit // MEGABYTE} MB")


def _is_multipart(request: Request) -> bool:
    return _type(request).lower().startswith("multipart/form-data")


def _type(request: Request) -> str:
    return request.headers.get("content-type", "")


async def _read_field(request: Request, name: str, most: int, beyond: HTTPException) -> list[bytes]:
    """Return the content of every part called `name`; text is content too, and no address to go to."""
    files = await read_field(request.stream(), _type(request), name, _up_to(most, BytesIO, beyond))
    return [file.getvalue() for file in files]


def _up_to(most: int, open_part: Callable[[], File], beyond: HTTPException) -> Callable[[], File]:
    """Return a function that opens so many parts, and then raises an error."""
    left = iter(range(most))

    def open_next() -> File:
        if next(left, None) is None:
            raise beyond
        return open_part()

    return open_next


def _limited(request: Request, limit: int) -> Request:
    """Return the request with a body that ends in an error beyond `limit`; counted, as a chunked one declares none."""
    most = limit + FRAME_BYTES
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most:
        raise too_large(limit)
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise HTTPException(400, "the body is cut off")  # nobody is there to read it; but the log shall be short
        received += len(message.get("body", b""))
        if received > most:
            raise too_large(limit)
        return message

    return Request(request.scope, receive)
