"""Files changed at random, as Hypothesis makes them: bits, sizes, pieces and cuts, some with checksums put right."""

import struct
import zlib
from collections.abc import Callable, Sequence

from hypothesis import strategies as st

from pipeline.vision.headers import PNG, RIFF

NUMBERS = (0, 1, 2, 12, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10001, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
IMAGE_WORDS = (b"\xff\xd8\xff", b"\xff\xd9", b"\xff\xda", b"\xff\xc0", b"\xff\xc2", b"\xff\xdd", b"\xff\xe1", PNG)
IMAGE_WORDS += (b"IHDR", b"IDAT", b"IEND", b"PLTE", b"tRNS", b"eXIf", b"iCCP", b"acTL", b"fcTL", b"fdAT", b"\0\0\0\0")
IMAGE_WORDS += (
    b"VP8 ",
    b"VP8L",
    b"VP8X",
    b"ALPH",
    b"ANIM",
    b"ANMF",
    b"EXIF",
    b"RIFF",
    b"WEBP",
    b"BM",
    b"\x9d\x01\x2a",
    b"/",
)


def mutated(files: Sequence[bytes], words: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Return what makes inputs: a file with some places changed, some of them with their checksums put right.

    Args:
        files: to start from.
        words: that mean something in their format.
    """
    place = st.integers(0, 0xFFFFFF)
    number = st.sampled_from(NUMBERS) | st.integers(0, 0xFFFF)
    packed = st.builds(struct.pack, st.sampled_from(["<H", ">H", "<I", ">I"]), number.map(lambda n: n & 0xFFFF))
    packed |= st.builds(struct.pack, st.sampled_from(["<I", ">I"]), number)
    piece = packed | st.sampled_from(words) | st.binary(min_size=1, max_size=8)
    length = st.integers(1, 64)
    small = st.one_of(
        st.builds(_flip, place, st.integers(0, 7)),
        st.builds(_overwrite, place, piece),
        st.builds(_overwrite, st.integers(0, 40), piece),  # sizes stand at the start
    )
    large = st.one_of(
        st.builds(_insert, place, piece),
        st.builds(_copy, place, place, length),
        st.builds(_remove, place, length),
        st.builds(_graft, place, place, st.sampled_from(files)),
        st.builds(_cut, place),
    )
    changes = st.lists(small | small | large, min_size=1, max_size=4)
    start = st.sampled_from(files)
    rubbish = st.builds(bytes.__add__, st.sampled_from([file[:30] for file in files]), st.binary(max_size=300))
    return st.builds(_apply, start | start | start | rubbish, changes, st.booleans())


Change = Callable[[bytes], bytes]


def _apply(data: bytes, changes: Sequence[Change], seal: bool) -> bytes:
    for change in changes:
        data = change(data)
    return _sealed(data) if seal else data


def _flip(place: int, bit: int) -> Change:
    return lambda data: _put(data, place, bytes([data[place % len(data)] ^ 1 << bit])) if data else data


def _overwrite(place: int, piece: bytes) -> Change:
    return lambda data: _put(data, place, piece)


def _put(data: bytes, place: int, piece: bytes) -> bytes:
    at = place % (len(data) + 1)
    return data[:at] + piece + data[at + len(piece) :]


def _insert(place: int, piece: bytes) -> Change:
    return lambda data: data[: place % (len(data) + 1)] + piece + data[place % (len(data) + 1) :]


def _copy(source: int, target: int, length: int) -> Change:
    return lambda data: _insert(target, data[source % (len(data) + 1) :][:length])(data)


def _remove(place: int, length: int) -> Change:
    return lambda data: data[: place % (len(data) + 1)] + data[place % (len(data) + 1) + length :]


def _graft(place: int, other_place: int, other: bytes) -> Change:
    return lambda data: data[: place % (len(data) + 1)] + other[other_place % (len(other) + 1) :]


def _cut(place: int) -> Change:
    return lambda data: data[: place % (len(data) + 1)]


def _sealed(data: bytes) -> bytes:
    """Put a PNG's checksums and a WebP's length right, so that what was changed reaches the code behind them."""
    if data.startswith(RIFF):
        return _put(data, 4, struct.pack("<I", max(len(data) - 8, 0)))
    at = len(PNG)
    while data.startswith(PNG) and at + 12 <= len(data):
        end = at + 8 + struct.unpack_from(">I", data, at)[0]
        if end + 4 > len(data):
            break
        data = _put(data, end, struct.pack(">I", zlib.crc32(data[at + 4 : end])))
        at = end + 4
    return data
