"""From a video file to some of its frames, evenly spaced in time and one at a time, however long it is.

Headers are not believed: what a browser records has no duration in it, and one can be made that claims ten hours. All
times are those of the frames themselves.
"""

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.vision.containers import HEAD_BYTES, is_whole, kind_of
from pipeline.vision.transforms import Image

MAX_SECONDS = 120
MAX_FRAMES = 8_000  # in the file: two minutes at 60 a second, and a little
MAX_PIXELS = 4096 * 2304  # of a frame
MAX_SAMPLED = 300
DAMAGED = "the video is damaged or cut off"
CLOCK = 1e-3  # seconds by which two times of the same frame may differ


class VideoError(ValueError):
    """A video that is empty, cut off or broken, or has no pictures in it."""


class UnsupportedVideoError(VideoError):
    """Bytes that are no video of a kind this project reads."""


class VideoTooLargeError(VideoError):
    """A video that is too long, or has too large or too many frames."""


class Frame(NamedTuple):
    """A frame, at a time in seconds from the first one's: uint8 RGB (height, width, 3), or None if it is unreadable."""

    time: float
    pixels: Image | None


def is_video(head: bytes) -> bool:
    """Tell whether the first bytes of a file are those of a video that `sample` takes."""
    return kind_of(head[:HEAD_BYTES]) is not None


def sample(file: BinaryIO, fps: float) -> Generator[Frame, None, None]:
    """Decode a video and give some of its frames, in order; at no time is more than one of them held.

    Args:
        file: MP4 (QuickTime too) or WebM, open for reading; it stays open, and is read from several places.
        fps: how many frames a second; where the video has fewer, all of them.

    Returns:
        Frames, turned upright as the file says. One that can not be read is replaced by the next, if that is near.

    Raises:
        UnsupportedVideoError: if the content is no such video.
        VideoTooLargeError: if it has more seconds, frames or pixels than the limits of this module; told from its
            packets, before any is decoded.
        VideoError: if it is empty, cut off or broken, or has no frame that can be read.
    """
    _check(file)
    times = _survey(file)
    read = 0
    for frame in _decode(file, len(times), _plan(times, fps), 0.5 / fps):
        read += frame.pixels is not None
        yield frame
    if not read:
        raise VideoError("no frame of the video can be read")


def _check(file: BinaryIO) -> None:
    file.seek(0)
    head = file.read(HEAD_BYTES)
    if not head:
        raise VideoError("the video is empty (0 bytes)")
    kind = kind_of(head)
    if kind is None:
        raise UnsupportedVideoError("the bytes are no video that can be read (MP4 and WebM can)")
    if not is_whole(file, kind):
        raise VideoError(DAMAGED)


def _survey(file: BinaryIO) -> NDArray[np.float64]:
    """Return the times of all frames in seconds, in the order of their packets, of which none is decoded."""
    times: list[float] = []
    with _opened(file, cv2.CAP_PROP_FORMAT, -1) as capture:
        if capture.get(cv2.CAP_PROP_FRAME_WIDTH) * capture.get(cv2.CAP_PROP_FRAME_HEIGHT) > MAX_PIXELS:
            raise _too_many_pixels()
        for _ in range(2 * MAX_FRAMES):  # beyond the end it takes no time, and after a broken packet it goes on
            times.append(_time(capture) if capture.grab() else np.nan)
    packets = np.array(times)
    (sound,) = np.nonzero(np.isfinite(packets))
    if not len(sound):
        raise VideoError("the video has no frames")
    if sound[-1] >= MAX_FRAMES:
        raise VideoTooLargeError(f"the video has more than {MAX_FRAMES} frames")
    if np.ptp(packets[sound]) > MAX_SECONDS:
        raise VideoTooLargeError(f"the video takes more than {MAX_SECONDS} seconds")
    return np.interp(np.arange(sound[-1] + 1), sound, packets[sound])


def _plan(times: NDArray[np.float64], fps: float) -> list[float]:
    """Choose for every instant the first frame from then on."""
    ordered = np.sort(times)
    instants = np.arange(ordered[0], ordered[-1] + CLOCK, 1 / fps)
    planned = np.unique(ordered[np.searchsorted(ordered, instants - CLOCK)])
    if len(planned) > MAX_SAMPLED:
        raise VideoTooLargeError(
            f"{len(planned)} frames are to be looked at, {fps:g} a second; at most {MAX_SAMPLED} are, so ask for fewer"
        )
    return [*planned.tolist()]


def _decode(file: BinaryIO, packets: int, planned: list[float], near: float) -> Iterator[Frame]:
    """Give the frames at the planned times; one that is missing is replaced by the next, up to `near` seconds on."""
    start, waiting = planned[0], deque(planned)
    with _opened(file) as capture:
        for _ in range(packets):
            if not waiting:
                return
            if not capture.grab():
                continue  # a broken packet; sound ones may follow
            time = _time(capture)
            while waiting and time > waiting[0] + near + CLOCK:
                yield Frame(waiting.popleft() - start, None)
            if waiting and time > waiting[0] - CLOCK and (pixels := _pixels(capture)) is not None:
                waiting.popleft()
                yield Frame(time - start, pixels)
    for time in waiting:
        yield Frame(time - start, None)


def _pixels(capture: cv2.VideoCapture) -> Image | None:
    try:
        found, bgr = capture.retrieve()
    except cv2.error:
        return None
    if not found:
        return None
    if bgr.shape[0] * bgr.shape[1] > MAX_PIXELS:  # a frame can be larger than the header says
        raise _too_many_pixels()
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def _time(capture: cv2.VideoCapture) -> float:
    return capture.get(cv2.CAP_PROP_POS_MSEC) / 1000


@contextmanager
def _opened(file: BinaryIO, *settings: int) -> Iterator[cv2.VideoCapture]:
    """Open a file with FFmpeg, which reads it through Python and so never follows a name; one thread decodes."""
    file.seek(0)
    capture = cv2.VideoCapture(  # type: ignore[call-overload]  # it takes any open file
        file, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1, *settings]
    )
    try:
        if not capture.isOpened():
            raise VideoError("the video is damaged, or has no pictures in it")
        yield capture
    finally:
        capture.release()


def _too_many_pixels() -> VideoTooLargeError:
    return VideoTooLargeError(f"a frame of the video has more than {MAX_PIXELS / 1e6:.1f} million pixels")
