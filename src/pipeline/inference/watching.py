"""From a video to its answer: frames, faces, tracks, and what they come to, by person and for the whole clip."""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.inference.options import VideoOptions
from pipeline.inference.predictor import Predictor
from pipeline.inference.screening import load_rule, screen
from pipeline.labels import LABELS
from pipeline.vision.faces import Face
from pipeline.vision.reader import read
from pipeline.vision.tracks import Reading, Tracker
from pipeline.vision.transforms import Image

LOOK_FRAMES, LOOK_FACES, LOOK_SECONDS = 16, 64, 2.0  # after which what was found is classified
USUAL = VideoOptions()
NO_FACE = "no face was found in the video; send ready crops of one face with ?detect=false"


class Sight(NamedTuple):
    """What was found in a frame: faces, with their pixels as the network wants them."""

    time: float
    found: list[tuple[Face, Image]]


class Watch:
    """Watches one video: `look` and `learn` by turns until there is nothing more to see, then `answer`."""

    def __init__(self, predictor: Predictor, video: BinaryIO, options: VideoOptions) -> None:
        """Take a video, a file that stays open meanwhile; nothing is read yet."""
        self._predictor, self._options = predictor, options
        self._rule = load_rule()
        self._frames = read(video, options.fps)
        self._tracker = Tracker(options.smoothing)
        self._times: list[float] = []
        self._unreadable = self._with_face = 0
        self._size = (0, 0)

    def look(self) -> list[Sight]:
        """Return what was found in the next frames; empty at the end of the video.

        Raises:
            pipeline.vision.video.VideoError: if the video can not be watched.
        """
        sights: list[Sight] = []
        faces, end = 0, time.monotonic() + LOOK_SECONDS
        for frame in self._frames:
            self._times.append(frame.time)
            if frame.pixels is None:
                self._unreadable += 1
                continue
            height, width = frame.pixels.shape[:2]
            self._size = (width, height)
            found = self._predictor.find(frame.pixels, self._options.detect)
            sights.append(Sight(frame.time, found))
            faces += len(found)
            if len(sights) == LOOK_FRAMES or faces >= LOOK_FACES or time.monotonic() > end:
                break
        return sights

    def close(self) -> None:
        """Let go of the video, also before its end."""
        self._frames.close()

    def pixels(self, sights: Sequence[Sight]) -> NDArray[np.uint8]:
        """Return the faces of some frames as one array (n, size, size, 3); n may be 0."""
        return self._predictor.stack([found for sight in sights for found in sight.found])

    def learn(self, sights: Sequence[Sight], probabilities: NDArray[np.float32]) -> None:
        """Take the probabilities (n, 7) of what `pixels` returned for the same frames."""
        start = 0
        for sight in sights:
            end = start + len(sight.found)
            self._with_face += bool(sight.found)
            self._tracker.add(sight.time, [face for face, _ in sight.found], probabilities[start:end])
            start = end

    def answer(self) -> dict[str, Any]:
        """Build the answer; it is ready for JSON."""
        readings = [reading for track in self._tracker.tracks for reading in track.readings]
        read = len(self._times) - self._unreadable
        answer: dict[str, Any] = {
            "frames": {
                "sampled": len(self._times),
                "with_face": self._with_face,
                "unreadable": self._unreadable,
                "share_with_face": self._with_face / read if read else 0.0,
            },
            "seconds": round(self._times[-1], 3),
            "width": self._size[0],
            "height": self._size[1],
            "overall": self._sum_up(readings, self._with_face, read),
            "tracks": [
                {
                    "track": track.number,
                    "first": round(track.readings[0].time, 3),
                    "last": round(track.readings[-1].time, 3),
                    **self._sum_up(track.readings, len(track.readings), read),
                    "timeline": [_describe(reading) for reading in track.readings],
                }
                for track in self._tracker.tracks
            ],
            "model": self._predictor.model,
        }
        if not readings:
            answer["note"] = NO_FACE
        return answer

    def _sum_up(self, readings: Sequence[Reading], with_face: int, frames: int) -> dict[str, Any]:
        """Say what readings come to: the majority of their smoothed labels, and the mean of their probabilities."""
        labels = [LABELS[int(reading.smoothed.argmax())] for reading in readings]
        summed: dict[str, Any] = {"faces": len(labels), "vote": None, "mean": None, "distribution": None}
        if readings:
            mean = dict(zip(LABELS, _mean(readings), strict=True))
            counts = Counter(labels)
            voted = max(counts, key=lambda label: (counts[label], mean[label]))
            likeliest = max(mean, key=lambda label: mean[label])
            summed["vote"] = {"emotion": voted, "share": counts[voted] / len(labels)}
            summed["mean"] = {"emotion": likeliest, "confidence": mean[likeliest], "probabilities": mean}
            summed["distribution"] = {label: counts[label] / len(labels) for label in LABELS}
        return {**summed, "screening": screen(labels, with_face, frames, self._rule)}


def watch(predictor: Predictor, video: BinaryIO, options: VideoOptions = USUAL) -> dict[str, Any]:
    """Go the whole way from a video to its answer, without a service; see `Watch` for what it raises."""
    with closing(Watch(predictor, video, options)) as watching:
        while sights := watching.look():
            watching.learn(sights, predictor.probabilities(watching.pixels(sights), options.tta))
        return watching.answer()


def _mean(readings: Sequence[Reading]) -> list[float]:
    rows = np.stack([reading.probabilities for reading in readings]).astype(np.float64)
    return [*rows.mean(axis=0).tolist()]


def _describe(reading: Reading) -> dict[str, Any]:
    best = int(reading.smoothed.argmax())
    return {
        "time": round(reading.time, 3),
        "box": list(reading.face.box),
        "score": reading.face.score,
        "emotion": LABELS[best],
        "confidence": float(reading.smoothed[best]),
    }
