"""What kind of video a file is, by its content, and whether it is whole: MP4 and WebM, whose parts tell their sizes.

FFmpeg reads a stump as far as it goes and says nothing, so that half a video would get the answer of a whole one.
"""

import os
from typing import BinaryIO

FTYP = b"ftyp"
STILLS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis", b"crx ")  # pictures, in MP4's boxes
EBML, DOC_TYPES = b"\x1a\x45\xdf\xa3", (b"webm", b"matroska")  # Chrome calls WebM with H.264 the latter
HEAD_BYTES = 64

SEGMENT, CLUSTER, UNKNOWN = 0x18538067, 0x1F43B675, -1
# Of a segment: seek head, info, tracks, cues, tags, chapters, attachments. Of a cluster: time, block, group, previous
# size, position, encrypted block, silent tracks. Of both: void, checksum.
ELEMENTS = frozenset(
    {0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1254C367, 0x1043A770, 0x1941A469}
    | {0xE7, 0xA3, 0xA0, 0xAB, 0xA7, 0xAF, 0x5854}
    | {0xEC, 0xBF}
)
MAX_PARTS = 200_000  # an hour of frames and sound has no more; each costs a step


def kind_of(head: bytes) -> str | None:
    """Return `mp4` or `webm`, or None, by the first `HEAD_BYTES` of a file; QuickTime counts as MP4, Matroska as WebM.

    A picture in MP4's boxes (HEIC, AVIF) is no video.
    """
    if head[4:8] == FTYP:
        return None if head[8:12] in STILLS else "mp4"
    if head.startswith(EBML) and any(name in head for name in DOC_TYPES):
        return "webm"
    return None


def is_whole(file: BinaryIO, kind: str) -> bool:
    """Tell whether a file has all the parts that it announces, none of them broken; the place in it is moved.

    What browsers record has parts of unknown size, and is whole where its last frame is.
    """
    size = file.seek(0, os.SEEK_END)
    try:
        return _mp4_is_whole(file, size) if kind == "mp4" else _webm_is_whole(file, size)
    except EOFError:
        return False


def _mp4_is_whole(file: BinaryIO, size: int) -> bool:
    found, at = set[bytes](), 0
    for _ in range(MAX_PARTS):
        if at == size:
            return b"moov" in found and not found.isdisjoint({b"mdat", b"moof"})
        file.seek(at)
        header = _read(file, 8)
        length, name = int.from_bytes(header[:4]), header[4:]
        if length == 1:
            length = int.from_bytes(_read(file, 8))
        elif length == 0 and name == b"mdat":  # to the end
            length = size - at
        if length < 8 or at + length > size:
            return False
        found.add(name)
        at += length
    return False


def _webm_is_whole(file: BinaryIO, size: int) -> bool:
    file.seek(len(EBML))
    at, clusters = _size(file) + file.tell(), 0
    for _ in range(MAX_PARTS):
        if at == size:
            return clusters > 0
        file.seek(at)
        element, length = _number(file, keep_marker=True), _size(file)
        at = file.tell()
        clusters += element == CLUSTER
        if length != UNKNOWN and at + length > size:
            return False
        if element in (SEGMENT, CLUSTER):
            continue  # its parts follow
        if element not in ELEMENTS or length == UNKNOWN:
            return False
        at += length
    return False


def _size(file: BinaryIO) -> int:
    """Read an element's size; all ones mean that its writer did not know it yet."""
    start = file.tell()
    value = _number(file)
    return UNKNOWN if value == (1 << 7 * (file.tell() - start)) - 1 else value


def _number(file: BinaryIO, *, keep_marker: bool = False) -> int:
    """Read an EBML number, whose first bit that is set tells its length (RFC 8794)."""
    first = _read(file, 1)[0]
    length = 9 - first.bit_length()
    if length > 8:
        raise EOFError
    value = int.from_bytes(bytes([first]) + _read(file, length - 1))
    return value if keep_marker else value & ((1 << 7 * length) - 1)


def _read(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise EOFError
    return data
