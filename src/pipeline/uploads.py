"""Reading what is uploaded, within limits.

BentoML's own file fields would fetch an address that a stranger sends, and take a body of any size.
"""

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import BinaryIO, TypeVar

from anyio.to_thread import run_sync
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

MEGABYTE = 1_000_000
MAX_IMAGE_BYTES = 20 * MEGABYTE
MAX_JSON_BYTES = MAX_IMAGE_BYTES * 4 // 3  # as base64, four characters are three bytes
MAX_BATCH_BYTES = 100 * MEGABYTE
MAX_BATCH_IMAGES = 64
MAX_VIDEO_BYTES = 100 * MEGABYTE
PART_BYTES = MEGABYTE
FRAME_BYTES = MEGABYTE  # what a multipart or JSON body may have around its files

Image = TypeVar("Image", bytes, str)


async def read_image(request: Request) -> bytes:
    """Return the one uploaded image: the multipart field `image`, or the raw body whatever type it declares.

    A body that is declared as JSON may be one: see `pipeline.bodies`.

    Raises:
        HTTPException: 413 if the body is too large, 422 if the field is missing or there are several.
    """
    request = _limited(request, MAX_JSON_BYTES if is_json(request) else MAX_IMAGE_BYTES)
    if not _is_multipart(request):
        return await request.body()  # curl declares --data-binary as a form, so the declared type says nothing
    images = await _read_field(request, "image")
    if len(images) > 1:
        raise HTTPException(422, "there are several fields `image`; /predict_batch takes several `images`")
    return images[0]


async def read_images(request: Request) -> list[bytes]:
    """Return the content of all multipart fields `images`; a JSON body has them otherwise.

    Raises:
        HTTPException: 413 if the body is too large or has too many images, 422 if there is none.
    """
    if not _is_multipart(request):
        raise HTTPException(
            422, "send the images as multipart/form-data, each in a field `images`, or as base64 in a JSON body"
        )
    return bounded_batch(await _read_field(_limited(request, MAX_BATCH_BYTES), "images"))


def bounded_batch(images: list[Image]) -> list[Image]:
    """Return the images of a batch; raises HTTPException 413 if there are too many."""
    if len(images) > MAX_BATCH_IMAGES:
        raise HTTPException(413, f"there are {len(images)} images; at most {MAX_BATCH_IMAGES} can be sent at once")
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
        HTTPException: 413 if the body is too large, 422 if the field is missing or there are several.
    """
    request = _limited(request, MAX_VIDEO_BYTES)
    with tempfile.TemporaryFile() as file:
        if _is_multipart(request):
            async with request.form(max_part_size=MAX_VIDEO_BYTES) as form:
                video, *others = _parts(form, "video")
                if others:
                    raise HTTPException(422, "there are several fields `video`; send one after the other")
                if isinstance(video, UploadFile):
                    await run_sync(shutil.copyfileobj, video.file, file, PART_BYTES)
                else:
                    file.write(video.encode())
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
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


async def _read_field(request: Request, name: str) -> list[bytes]:
    """Return the content of every part called `name`; text is content too, and no address to go to."""
    async with request.form(max_part_size=MAX_BATCH_BYTES) as form:
        parts = _parts(form, name)
        return [await part.read() if isinstance(part, UploadFile) else part.encode() for part in parts]


def _parts(form: FormData, name: str) -> list[UploadFile | str]:
    parts = form.getlist(name)
    if not parts:
        others = ", ".join(sorted({key[:40] for key in form}))
        raise HTTPException(422, f"the field `{name}` is missing" + (f"; there is: {others}" if others else ""))
    return parts


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
        received += len(message.get("body", b""))
        if received > most:
            raise too_large(limit)
        return message

    return Request(request.scope, receive)
