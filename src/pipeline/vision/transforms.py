"""The one path from an encoded image to the pixels a network sees, shared by training, evaluation and serving.

Scaling to ImageNet statistics is the network's own first step (`pipeline.networks.network`), so it cannot differ
either.
"""

import struct

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from pipeline.vision.headers import exif_orientation, read_header

Image = NDArray[np.uint8]

MAX_PIXELS = 50_000_000
AT_ONCE = 128 * 128  # pixels, or bytes
DAMAGED = "the image is damaged or cut off"


class ImageError(ValueError):
    """Bytes of an image that is empty, cut off or broken."""


class UnsupportedImageError(ImageError):
    """Bytes that are no image of a kind this project reads."""


class ImageTooLargeError(ImageError):
    """An image with more than `MAX_PIXELS` pixels."""


def decode(data: bytes) -> Image:
    """Decode an encoded image to RGB.

    A JPEG has no checksum: bytes changed within its scan give other pixels and no error, in every reader. What was cut
    off is an error, unless somebody closed the stump with an end marker.

    Args:
        data: the bytes of a JPEG, PNG, WebP or BMP file that does not move; grey images get three equal channels,
            16 bits become eight, and transparent pixels lie over white.

    Returns:
        uint8 array (height, width, 3), RGB, EXIF rotation applied.

    Raises:
        UnsupportedImageError: if the bytes are none of the four formats, or an animation.
        ImageTooLargeError: if the header announces more than `MAX_PIXELS` pixels; nothing was decoded then.
        ImageError: if the bytes are empty, cut off or broken, a JPEG has more scans than any writer makes, or a PNG has
            more compressed notes beside its pixels (`pipeline.vision.headers`).
    """
    if not data:
        raise ImageError("the image is empty (0 bytes)")
    try:
        header = read_header(data)
    except (struct.error, ValueError) as error:
        raise ImageError(DAMAGED) from error
    if header is None:
        # OpenCV reads many more, some by way of a temporary file: each is one more parser open to strangers' bytes.
        raise UnsupportedImageError("the bytes are no still image that can be read (JPEG, PNG, WebP and BMP can)")
    if header.width * header.height > MAX_PIXELS:
        # A few kilobytes can announce gigabytes, so this is asked before the pixels are unpacked.
        raise ImageTooLargeError(f"the image has more than {MAX_PIXELS // 1_000_000} million pixels")
    encoded = np.frombuffer(data, np.uint8)
    try:
        pixels = _decode_over_white(encoded) if header.alpha else cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise ImageError(DAMAGED) from error
    if pixels is None:
        raise ImageError(DAMAGED)
    return pixels.astype(np.uint8, copy=False)


def decodes_at_once(data: bytes) -> bool:
    """Return whether `decode` takes less time than it takes to let a thread do it, about a tenth of a millisecond."""
    if len(data) > AT_ONCE:
        return False
    try:
        header = read_header(data)
    except (struct.error, ValueError):
        return True  # it is refused as quickly
    return header is None or header.width * header.height <= AT_ONCE


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


def _decode_over_white(encoded: Image) -> MatLike | None:
    """Decode an image with transparent pixels as a page shows it.

    Without this the network would see colours that nobody sees: any picture can lie hidden under transparent pixels
    (Xia and Chen 2025, "AlphaDog: No-Box Camouflage Attacks via Alpha Channel Oversight", NDSS).
    """
    image, kinds, metadata = cv2.imdecodeWithMetadata(encoded, flags=cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim < 3 or image.shape[2] < 4:
        return cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
    if image.dtype == np.uint16:
        image = cv2.convertScaleAbs(image, alpha=1 / 257)
    colour, alpha = cv2.cvtColor(image, cv2.COLOR_BGRA2RGB), cv2.cvtColor(image[..., 3], cv2.COLOR_GRAY2RGB)
    shown = cv2.bitwise_not(cv2.multiply(cv2.bitwise_not(colour), alpha, scale=1 / 255))
    exif = [block.tobytes() for kind, block in zip(kinds, metadata, strict=True) if kind == cv2.IMAGE_METADATA_EXIF]
    return _turn(shown, exif_orientation(exif[0]) if exif else 1)


def _turn(image: MatLike, orientation: int) -> MatLike:
    """Turn an image upright that EXIF says is mirrored or turned."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)
