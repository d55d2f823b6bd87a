"""Following the faces of a video from frame to frame, and smoothing over time what is read in each.

Boxes that overlap enough in two frames are one person's, the best pairs first: the tracker of Bochinski, Eiselein and
Sikora (2017), "High-Speed Tracking-by-Detection Without Using Image Information", AVSS, which also waits for a face
that is missed for a moment. It looks at no pixels, so two people who cross may change places.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.vision.faces import Face

MIN_OVERLAP = 0.3  # intersection over union
PATIENCE = 2.0  # seconds for which a face may be missed

Box = tuple[int, int, int, int]


class Reading(NamedTuple):
    """What was read in a face at a time in seconds: probabilities (7,) of the frame alone, and smoothed."""

    time: float
    face: Face
    probabilities: NDArray[np.float32]
    smoothed: NDArray[np.float32]


@dataclass
class Track:
    """One person's readings, in order."""

    number: int
    readings: list[Reading] = field(default_factory=list)


class Tracker:
    """Puts the faces of one frame after the other to their tracks."""

    def __init__(self, smoothing: float) -> None:
        """Start without a track.

        Args:
            smoothing: time constant in seconds of the exponential smoothing of probabilities; 0 leaves them alone.
                It is by time and not by frames, so that gaps and other rates change nothing.
        """
        self.tracks: list[Track] = []
        self._smoothing = smoothing
        self._numbers = count(1)
        self._smoothed_since = -math.inf

    def add(self, time: float, faces: Sequence[Face], probabilities: NDArray[np.float32]) -> list[Track]:
        """Take the n faces of a later frame with their probabilities (n, 7); return the track of each."""
        waiting = [track for track in self.tracks if _may_come_back(track, time)]
        tracks = []
        pairs = match([track.readings[-1].face.box for track in waiting], [face.box for face in faces])
        for number, (face, row) in enumerate(zip(faces, probabilities, strict=True)):
            if number in pairs:
                track = waiting[pairs[number]]
            else:
                track = Track(next(self._numbers))
                self.tracks.append(track)
            track.readings.append(Reading(time, face, row, self._smooth(track, time, row)))
            tracks.append(track)
        return tracks

    def forget(self, time: float) -> None:
        """Keep no more than following goes on with: of each face that may come back, the last reading."""
        self.tracks = [track for track in self.tracks if _may_come_back(track, time)]
        for track in self.tracks:
            del track.readings[:-1]

    def start_smoothing_anew(self, time: float) -> None:
        """Smooth with nothing that was read before a time: by another model, say. Tracks go on."""
        self._smoothed_since = time

    def _smooth(self, track: Track, time: float, row: NDArray[np.float32]) -> NDArray[np.float32]:
        if not track.readings or not self._smoothing:
            return row
        last = track.readings[-1]
        if last.time < self._smoothed_since:
            return row
        old = math.exp(-(time - last.time) / self._smoothing)
        return (old * last.smoothed + (1 - old) * row).astype(np.float32)


def _may_come_back(track: Track, time: float) -> bool:
    return time - track.readings[-1].time <= PATIENCE


def match(before: Sequence[Box], now: Sequence[Box]) -> dict[int, int]:
    """Return which of the boxes before each box now belongs to, by their places; one that fits none is left out."""
    overlaps = [(overlap(a, b), i, j) for i, a in enumerate(before) for j, b in enumerate(now)]
    pairs: dict[int, int] = {}
    for share, i, j in sorted(overlaps, key=lambda triple: -triple[0]):
        if share >= MIN_OVERLAP and j not in pairs and i not in pairs.values():
            pairs[j] = i
    return pairs


def overlap(a: Box, b: Box) -> float:
    """Return the intersection over union of two boxes (x, y, width, height)."""
    across = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    down = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if across <= 0 or down <= 0:
        return 0.0
    return across * down / (a[2] * a[3] + b[2] * b[3] - across * down)
