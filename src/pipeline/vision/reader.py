"""Reading a video in a process of its own: FFmpeg crashes on some broken ones, and must not take the service along.

A process that crashes, hangs or takes too much memory costs one answer. What FFmpeg has to say is not kept.
"""

import json
import math
import os
import resource
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from pipeline.vision.transforms import Image
from pipeline.vision.video import DAMAGED, Frame, UnsupportedVideoError, VideoError, VideoTooLargeError, sample

ERRORS = {kind.__name__: kind for kind in (UnsupportedVideoError, VideoTooLargeError, VideoError)}
MAX_MEMORY, MAX_CPU_SECONDS = 4 << 30, 120  # of address space, of which most is never used; of one core's time
PACKAGES = Path(__file__).parents[2]


def read(file: BinaryIO, fps: float) -> Generator[Frame, None, None]:
    """Give the frames of `pipeline.vision.video.sample`, or raise what it raises; also where decoding crashes.

    Args:
        file: MP4 or WebM, a file of the system; the process has it as its input.
        fps: how many frames a second.
    """
    file.flush()  # what lies in a buffer here, another process does not see
    path = os.pathsep.join([str(PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(fps)],
        stdin=file,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert process.stdout is not None
    try:
        while told := _receive(process.stdout):
            if "error" in told:
                raise ERRORS[told["error"]](told["message"])
            if "end" in told:
                return
            yield Frame(told["time"], _pixels(process.stdout, told["shape"]) if told["shape"] else None)
        raise VideoError(DAMAGED)
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def _receive(stream: IO[bytes]) -> dict[str, Any]:
    """Return the next message, or nothing where the process has ended without its last one."""
    line = stream.readline()
    return json.loads(line) if line.endswith(b"\n") else {}


def _pixels(stream: IO[bytes], shape: list[int]) -> Image:
    data = stream.read(math.prod(shape))
    if len(data) < math.prod(shape):
        raise VideoError(DAMAGED)
    return np.frombuffer(data, np.uint8).reshape(shape)


def _send(stream: BinaryIO, **message: Any) -> None:
    stream.write(json.dumps(message).encode() + b"\n")


def main(video: BinaryIO, answers: BinaryIO, fps: float) -> None:
    """Write the frames of a video, each as a line of JSON and its pixels; at last `end` or `error`."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_SECONDS, MAX_CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        for frame in sample(video, fps):
            _send(answers, time=frame.time, shape=None if frame.pixels is None else frame.pixels.shape)
            if frame.pixels is not None:
                answers.write(frame.pixels.data)
            answers.flush()
        _send(answers, end=True)
    except VideoError as error:
        _send(answers, error=type(error).__name__, message=str(error))
    answers.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer, float(sys.argv[1]))
