"""Reading videos in another process: the same frames and errors, and no crash of its own."""

import os
import signal
from pathlib import Path

import numpy as np
import psutil
import pytest
from films import film, opened, portraits, shades
from toys import encoded

from pipeline.vision.reader import read
from pipeline.vision.video import UnsupportedVideoError, VideoError, VideoTooLargeError, sample

CRASHES = sorted((Path(__file__).parent / "crashes").iterdir())


def started(before: list[psutil.Process]) -> list[psutil.Process]:
    """Return the processes that were started since: others of this process belong to other tests, as servers do."""
    return [process for process in psutil.Process().children() if process not in before]


def test_frames_are_those_of_the_video() -> None:
    before = psutil.Process().children()
    with opened(film(portraits(30))) as file:
        expected, found = list(sample(file, 5)), list(read(file, 5))
    assert len(found) == len(expected) == 15
    for frame, wanted in zip(found, expected, strict=True):
        assert frame.time == wanted.time
        np.testing.assert_array_equal(frame.pixels, wanted.pixels)
    assert not started(before)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (VideoError, b""),
        (VideoError, film(shades(9))[:-1]),
        (UnsupportedVideoError, encoded(".jpg")),
        (VideoTooLargeError, film(shades(1, (4208, 2400)))),
    ],
)
def test_errors_are_those_of_the_video(kind: type[VideoError], content: bytes) -> None:
    with opened(content) as file:
        with pytest.raises(VideoError) as expected:
            list(sample(file, 2))
        with pytest.raises(VideoError) as told:
            list(read(file, 2))
    assert type(told.value) is type(expected.value) is kind
    assert str(told.value) == str(expected.value)


@pytest.mark.parametrize("file", CRASHES, ids=lambda file: file.stem)
def test_a_video_that_crashes_the_decoder_is_a_broken_one(file: Path) -> None:
    """Found by changing bytes of sound ones at random."""
    with file.open("rb") as content, pytest.raises(VideoError):
        list(read(content, 2))


def test_a_process_that_is_killed_is_told_and_leaves_none_behind() -> None:
    before = psutil.Process().children()
    with opened(film(shades(200, (640, 480)))) as file:
        frames = read(file, 10)
        next(frames)
        (process,) = started(before)
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(VideoError, match="damaged"):
            list(frames)
    assert not started(before)


def test_a_video_that_is_let_go_of_ends_its_process() -> None:
    before = psutil.Process().children()
    with opened(film(shades(200, (640, 480)))) as file:
        frames = read(file, 10)
        next(frames)
        assert started(before)
        frames.close()
    assert not started(before)
