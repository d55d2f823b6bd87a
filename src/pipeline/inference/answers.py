"""What is kept of an answer: which model gave it, when, and what it says of each face. Never a pixel."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.appearance import measure
from pipeline.vision.faces import Face
from pipeline.vision.transforms import Image


class Look(NamedTuple):
    """A face as it was found: its sides in pixels and the detector's score, NaN where nobody looked for it.

    `brightness` and `sharpness` are those of its pixels as the network sees them (see `pipeline.inference.appearance`).
    """

    width: float
    height: float
    score: float
    brightness: float
    sharpness: float

    @staticmethod
    def at(face: Face, pixels: Image, detected: bool) -> "Look":
        """Return how a face looks that `Predictor.faces` gave; `detected` says whether it was looked for."""
        return Look(*face.box[2:], face.score if detected else math.nan, *measure(pixels))


@dataclass(frozen=True)
class Answered:
    """The n faces of one picture: when, by which model, how they look, and what `Predictor.outputs` (n, 7 + k) said."""

    time: datetime
    name: str
    version: str
    looks: Sequence[Look]
    outputs: NDArray[np.float32]


def now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)
