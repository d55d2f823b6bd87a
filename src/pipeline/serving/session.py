"""One live session: the faces before a camera, followed from frame to frame and smoothed over time."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.options import LiveOptions
from pipeline.inference.predictor import describe_face
from pipeline.vision.faces import Face
from pipeline.vision.tracks import Tracker

NO_FACE = "no face was found in this frame"


class Seen(NamedTuple):
    """What was seen on an image: n faces, their probabilities (n, 7), and the name and version of who says so."""

    model: dict[str, str]
    faces: list[Face]
    probabilities: NDArray[np.float32]


class Session:
    """Knows the people that are seen now, and those who may come back; nothing of frames that are answered."""

    def __init__(self, options: LiveOptions) -> None:
        """Start with nobody."""
        self._options = options
        self._tracker = Tracker(options.smoothing)
        self._model: dict[str, str] = {}

    def answer(self, time: float, seen: Seen) -> dict[str, Any]:
        """Answer for a frame that came at a time in seconds, after those before; it is ready for JSON.

        Tracks outlive the model, but no answer of one model has a share of what another said before.
        """
        if seen.model != self._model:
            self._tracker.start_smoothing_anew(time)
            self._model = seen.model
        tracks = self._tracker.add(time, seen.faces, seen.probabilities)
        answer: dict[str, Any] = {
            "faces": [
                {"track": track.number, **describe_face(face, track.readings[-1].smoothed, self._options.top)}
                for face, track in zip(seen.faces, tracks, strict=True)
            ],
            "model": seen.model,
        }
        self._tracker.forget(time)
        return answer if seen.faces else {**answer, "note": NO_FACE}
