"""Small videos, sound and broken: used by several test files."""

import struct
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import BinaryIO

import cv2
import numpy as np
from toys import picture

from pipeline.vision.transforms import Image

CODECS = {".mp4": "mp4v", ".webm": "VP80"}
# Three seconds of a canvas, as Chromium's MediaRecorder made them: no duration, and parts of unknown size.
RECORDINGS = sorted((Path(__file__).parent / "recordings").iterdir())


def film(frames: Iterable[Image], kind: str = ".mp4", fps: float = 10) -> bytes:
    """Return a video of RGB frames (height, width, 3)."""
    writer = None
    with TemporaryDirectory() as folder:
        file = Path(folder) / f"film{kind}"
        for frame in frames:
            size = (frame.shape[1], frame.shape[0])
            writer = writer or cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*CODECS[kind]), fps, size)
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        assert writer is not None
        writer.release()
        return file.read_bytes()


def opened(video: bytes) -> BinaryIO:
    """Return a video as an open file of the system."""
    file = TemporaryFile()  # noqa: SIM115
    file.write(video)
    return file


def shades(count: int, size: tuple[int, int] = (64, 48)) -> list[Image]:
    """Return frames of (width, height), each of one grey that is five lighter than the one before."""
    return [np.full((size[1], size[0], 3), 5 * number % 256, np.uint8) for number in range(count)]


def portraits(count: int) -> list[Image]:
    """Return frames that drift from one picture to another."""
    first, last = (picture(96, 96, seed=seed) for seed in (1, 2))
    shares = np.linspace(0, 1, count)
    return [cv2.addWeighted(first, 1 - share, last, share, 0).astype(np.uint8) for share in shares]


def zeroed(video: bytes, start: float, end: float) -> bytes:
    """Return a video in which a stretch, told as shares of the bytes, is lost."""
    first, last = int(start * len(video)), int(end * len(video))
    return video[:first] + bytes(last - first) + video[last:]


def claiming(video: bytes, seconds: int) -> bytes:
    """Return an MP4 or WebM by `film` whose header claims another duration."""
    if b"mvhd" in video:
        at = video.index(b"mvhd") + 4 + 12
        (scale,) = struct.unpack(">I", video[at : at + 4])
        return video[: at + 4] + struct.pack(">I", seconds * scale) + video[at + 8 :]
    at = video.index(b"\x44\x89\x88") + 3
    return video[:at] + struct.pack(">d", seconds * 1000.0) + video[at + 8 :]


def stretched(video: bytes, times: int) -> bytes:
    """Return an MP4 by `film` whose frames really come that much later each."""
    video = video.replace(b"edts", b"free")  # which shows the first seconds alone
    at = video.index(b"stts") + 4 + 12
    (step,) = struct.unpack(">I", video[at : at + 4])
    return video[:at] + struct.pack(">I", step * times) + video[at + 4 :]


def turned(video: bytes) -> bytes:
    """Return an MP4 by `film` that says that it is to be turned by 90 degrees, as phones do."""
    upright, turned = ((0x10000, 0, 0, 0, 0x10000), (0, 0x10000, 0, -0x10000, 0))
    head, tail = video[: video.index(b"tkhd")], video[video.index(b"tkhd") :]
    return head + tail.replace(struct.pack(">5i", *upright), struct.pack(">5i", *turned), 1)


def silent(video: bytes) -> bytes:
    """Return a video by `film` whose only track claims to be sound."""
    return video.replace(b"vide", b"soun").replace(b"\x83\x81\x01", b"\x83\x81\x02")
