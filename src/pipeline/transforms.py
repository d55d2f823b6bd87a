"""The one path from an encoded image to the pixels a network sees, shared by training, evaluation and serving.

Scaling to ImageNet statistics is the network's own first step (`pipeline.networks`), so it cannot differ either.
"""

import struct
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

MAX_PIXELS = 50_000_000
JPEG, PNG, BMP, RIFF, WEBP = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF", b"WEBP"


class ImageError(ValueError):
    """Bytes of an image that is empty, cut off or broken."""


class UnsupportedImageError(ImageError):
    """Bytes that are no image of a kind this project reads."""


class ImageTooLargeError(ImageError):
    """An image with more than `MAX_PIXELS` pixels."""


def decode(data: bytes) -> Image:
    """Decode an encoded image to RGB.

    Args:
        data: the bytes of a JPEG, PNG, WebP or BMP file; grey images get three equal channels.

    Returns:
        uint8 array (height, width, 3), RGB, EXIF rotation applied.

    Raises:
        UnsupportedImageError: if the bytes are none of the four formats.
        ImageTooLargeError: if the header announces more than `MAX_PIXELS` pixels; nothing was decoded then.
        ImageError: if the bytes are empty, cut off or broken.
    """
    if not data:
        raise ImageError("the image is empty (0 bytes)")
    if not (data.startswith((JPEG, PNG, BMP)) or (data.startswith(RIFF) and data[8:12] == WEBP)):
        # OpenCV reads many more, some by way of a temporary file: each is one more parser open to strangers' bytes.
        raise UnsupportedImageError("the bytes are no image that can be read (JPEG, PNG, WebP and BMP can)")
    try:
        width, height = _announced_size(data)
        if width * height > MAX_PIXELS:
            # A few kilobytes can announce gigabytes, so this is asked before the pixels are unpacked.
            raise ImageTooLargeError(f"the image has more than {MAX_PIXELS // 1_000_000} million pixels")
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except (cv2.error, struct.error) as error:
        raise ImageError("the image is damaged or cut off") from error
    if pixels is None:
        raise ImageError("the image is damaged or cut off")
    return pixels.astype(np.uint8, copy=False)


def is_image(data: object) -> bool:
    """Return whether `decode` takes a value."""
    try:
        return isinstance(data, bytes) and decode(data) is not None
    except ImageError:
        return False


def encode(image: Image) -> bytes:
    """Encode an RGB uint8 array (height, width, 3) as PNG, which loses nothing."""
    _, buffer = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return buffer.tobytes()


def resize(image: Image, size: int) -> Image:
    """Bring a face to the network's input size.

    Args:
        image: uint8 array (height, width, 3).
        size: side of the square result in pixels.

    Returns:
        uint8 array (size, size, 3); area interpolation where the face shrinks, bilinear where it grows.
    """
    if image.shape[:2] == (size, size):
        return image
    shrinks = image.shape[0] * image.shape[1] > size * size
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=interpolation).astype(np.uint8, copy=False)


def _announced_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) as an image's header has them."""
    if data.startswith(PNG):
        width, height = struct.unpack_from(">II", data, 16)
    elif data.startswith(BMP):
        width, height = struct.unpack_from("<ii" if data[14:15] != b"\x0c" else "<HH", data, 18)
    elif data.startswith(RIFF):
        width, height = _webp_size(data)
    else:
        width, height = _jpeg_size(data)
    return abs(width), abs(height)


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        low_width, high_width, low_height, high_height = struct.unpack_from("<HBHB", data, 24)
        return low_width + (high_width << 16) + 1, low_height + (high_height << 16) + 1
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _jpeg_size(data: bytes) -> tuple[int, int]:
    width = height = 0
    for marker, start in _jpeg_segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, start + 3)
        # Older OpenCV fills the missing part of a JPEG with grey and says nothing. The end marker need not be last:
        # phones append a second picture or a film. A thumbnail's own one stands before the scan.
        elif marker == 0xDA and data.find(b"\xff\xd9", start) > 0:
            return width, height
    raise ImageError("the JPEG is damaged or cut off")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield each segment's marker and the offset of its length, up to the first scan; skips bytes as libjpeg does."""
    at, marker = 2, 0
    while marker != 0xDA:
        at = data.find(b"\xff", at)
        while at >= 0 and data[at : at + 1] == b"\xff":
            at += 1
        if not 0 < at < len(data):
            return
        marker = data[at]
        at += 1
        if marker > 0x01 and not 0xD0 <= marker <= 0xD8:  # those have no length
            yield marker, at
            at += struct.unpack_from(">H", data, at)[0]
