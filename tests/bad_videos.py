"""Videos that are wrong in their boxes: used to show that a service stands them."""

import struct
from collections.abc import Iterator


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + name + content


def boxes(video: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Give the name, the start and the end of each box of an MP4 between two places."""
    while start < end:
        (length,) = struct.unpack_from(">I", video, start)
        yield video[start + 4 : start + 8], start, start + length
        start += length


def of_many_tracks(video: bytes, count: int) -> bytes:
    """Return an MP4 by `film` whose only track stands in it so many times."""
    _, start, end = next(found for found in boxes(video, 0, len(video)) if found[0] == b"moov")
    _, first, last = next(found for found in boxes(video, start + 8, end) if found[0] == b"trak")
    return video[:start] + box(b"moov", video[start + 8 : last] + video[first:last] * (count - 1) + video[last:end])


def of_no_frames(video: bytes) -> bytes:
    """Return an MP4 by `film` whose table of frames is empty."""
    at = video.index(b"stsz") + 12
    return video[:at] + bytes(4) + video[at + 4 :]


def of_endless_frames(video: bytes) -> bytes:
    """Return an MP4 by `film` whose table announces two thousand million frames."""
    at = video.index(b"stsz") + 12
    return video[:at] + struct.pack(">I", 2**31 - 1) + video[at + 4 :]


def of_size(video: bytes, width: int, height: int) -> bytes:
    """Return an MP4 by `film` that announces frames of another size; its codec still says the true one."""
    at = video.index(b"mp4v", video.index(b"stsd")) + 28
    return video[:at] + struct.pack(">HH", width, height) + video[at + 4 :]
