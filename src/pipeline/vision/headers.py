"""What an encoded image announces, read from its first bytes before any pixel is unpacked.

It must be what the decoder will see: whoever reads the size elsewhere than the decoder does can be told a small one.
"""

import re
import struct
from typing import NamedTuple

JPEG, PNG, BMP, RIFF, WEBP = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF", b"WEBP"

# JPEG: markers that a length follows, as libjpeg looks for them; those that start a frame; those of progressive frames.
MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
START_OF_SCAN, END = b"\xff\xda", b"\xff\xd9"
MAX_SCANS = 64  # writers use up to about twenty

# PNG: notes that the decoder unpacks, to a thousand times their size; a profile or a text has some kilobytes.
COMPRESSED_PNG = frozenset({b"zTXt", b"iCCP"})
MAX_COMPRESSED = 1 << 20
ANIMATED_PNG = frozenset({b"acTL", b"fcTL", b"fdAT"})
ANIMATED_WEBP, ALPHA_WEBP = 0x02, 0x10

ORIENTATION = 0x0112


class Header(NamedTuple):
    """An image's size before any rotation, and whether some of its pixels may be transparent."""

    width: int
    height: int
    alpha: bool


def read_header(data: bytes) -> Header | None:
    """Return what the bytes of a JPEG, PNG, WebP or BMP file announce, or nothing if they are none or an animation.

    Raises:
        ValueError, struct.error: if the header is broken or cut off, a JPEG has no end or too many scans, or a PNG
            too many compressed notes.
    """
    if data.startswith(JPEG):
        return _jpeg(data)
    if data.startswith(PNG):
        return _png(data)
    if data.startswith(BMP):
        return _bmp(data)
    if data.startswith(RIFF) and data[8:12] == WEBP:
        return _webp(data)
    return None


def exif_orientation(exif: bytes) -> int:
    """Return the orientation (1 to 8, 1 is upright) that EXIF data holds, 1 where it holds none that can be read."""
    order = "<" if exif.startswith(b"II") else ">"
    try:
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, start)
        for at in range(start + 2, start + 2 + 12 * entries, 12):
            tag, value = struct.unpack_from(order + "H6xH", exif, at)
            if tag == ORIENTATION and 1 <= value <= 8:
                return value
    except struct.error:
        pass  # a damaged note beside a sound picture
    return 1


def _jpeg(data: bytes) -> Header:
    width = height = components = frame = 0
    at = 2
    while found := MARKER.search(data, at):
        marker, at = data[found.start(1)], found.end()
        if marker in FRAMES:
            frame = marker
            height, width, components = struct.unpack_from(">HHB", data, at + 3)
        elif marker == START_OF_SCAN[1]:
            break
        at += struct.unpack_from(">H", data, at)[0]
    else:
        raise ValueError("no scan")
    # A download that broke off and was padded with zeros decodes to its end. The end marker need not be last: phones
    # append a second picture or a film. A thumbnail's own one stands before the scan.
    if data.rfind(END, at) < 0:
        raise ValueError("no end marker")
    # The decoder goes over the whole picture for each scan, and a scan can be ten bytes: a megabyte would take minutes.
    (in_this_scan,) = struct.unpack_from("B", data, at + 2)
    if (frame in PROGRESSIVE or in_this_scan < components) and data.count(START_OF_SCAN, at) > MAX_SCANS:
        raise ValueError("too many scans")
    return Header(width, height, alpha=False)


def _png(data: bytes) -> Header | None:
    width, height, colour = struct.unpack_from(">IIxB", data, 16)
    alpha, at, name, compressed = colour in (4, 6), len(PNG), b"", 0
    if data[12:16] != b"IHDR":
        raise ValueError("the first chunk is not the header")
    while name != b"IEND":  # OpenCV makes room for as many bytes as a chunk says it has, before it looks for them
        length, name = struct.unpack_from(">I4s", data, at)
        if name in ANIMATED_PNG:  # where its chunks are out of order, OpenCV gives memory that nobody wrote
            return None
        alpha |= name == b"tRNS"
        if name in COMPRESSED_PNG or (name == b"iTXt" and _is_compressed(data, at + 8)):
            compressed += length
        at += length + 12
    if length:
        raise ValueError("the last chunk is not empty")
    if compressed > MAX_COMPRESSED:
        raise ValueError("too much is told beside the picture")
    return Header(width, height, alpha)


def _is_compressed(data: bytes, text: int) -> bool:
    flag = data.find(b"\0", text) + 1  # behind the keyword
    return data[flag : flag + 1] == b"\1"


def _bmp(data: bytes) -> Header:
    (size,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if size == 12 else "<ii", data, 18)
    return Header(abs(width), abs(height), alpha=False)  # readers do not agree on the fourth byte of a pixel


def _webp(data: bytes) -> Header | None:
    kind = data[12:16]
    if kind == b"VP8X":
        flags, low_width, high_width, low_height, high_height = struct.unpack_from("<B3xHBHB", data, 20)
        width, height = low_width + (high_width << 16) + 1, low_height + (high_height << 16) + 1
        return None if flags & ANIMATED_WEBP else Header(width, height, bool(flags & ALPHA_WEBP))
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1))
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header(width & 0x3FFF, height & 0x3FFF, alpha=False)
    raise ValueError("the first chunk is no picture")  # libwebp takes a bare stream too, with its size elsewhere
