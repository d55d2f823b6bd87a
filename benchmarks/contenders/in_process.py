"""The best that the machine can: decode, resize, the network in batches, in one process: `in_process.py MODEL FOLDER`.

The next batch is decoded while the network is at work. For each line of its input, `BATCH COUNT`, it prints the seconds
that so many pictures took, and those of the processor.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.predictor import Predictor

predictor = Predictor(Path(sys.argv[1]), name="raw", version="1")
pictures = [file.read_bytes() for file in sorted(Path(sys.argv[2]).iterdir())]


def read(numbers: range) -> NDArray[np.uint8]:
    """Decode and resize a batch."""
    return predictor.stack([predictor.faces(pictures[n % len(pictures)], detect=False)[0] for n in numbers])


with ThreadPoolExecutor(1) as thread:
    for line in sys.stdin:
        size, number = map(int, line.split())
        began, busy = time.perf_counter(), time.process_time()
        batches = [range(start, min(start + size, number)) for start in range(0, number, size)]
        ahead = thread.submit(read, batches[0])
        for following in [*batches[1:], None]:
            faces = ahead.result()
            if following:
                ahead = thread.submit(read, following)
            predictor.probabilities(faces)
        print(time.perf_counter() - began, time.process_time() - busy, flush=True)
