"""How long models take for a face."""

import statistics
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.predictor import Predictor

WARM_UP, TIMED = 3, 20  # rounds


def measure_milliseconds(predictors: Sequence[Predictor], face: NDArray[np.uint8]) -> list[float]:
    """Return what each of some exported models takes for one face (1, side, side, 3) on this machine's CPU.

    It is a median of rounds in which they take turns, so that what else the machine does meets all of them.
    """
    rounds = []
    for _ in range(WARM_UP + TIMED):
        seconds = []
        for predictor in predictors:
            began = time.perf_counter()
            predictor.probabilities(face)
            seconds.append(time.perf_counter() - began)
        rounds.append(seconds)
    return [1000 * statistics.median(own) for own in zip(*rounds[WARM_UP:], strict=True)]
