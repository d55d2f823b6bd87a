"""The two detectors of faces: YuNet, which needs a file, and the Haar cascade, which needs none."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError, did_you_mean
from pipeline.vision.faces import Detector, Face, Point, crop, locate
from pipeline.vision.transforms import Image, resize

LONGEST_SIDES = (320, 640)
# YuNet's cells are 32 pixels wide. Of a picture of one cell, OpenCV 4 at times reads memory that was never written, and
# finds faces at infinity with a score of 1.
SHORTEST_SIDE = 64
EYES = slice(4, 8)  # of a row of YuNet's: x and y of the eye that stands left in the picture, then of the other


class Haar:
    """The frontal-face cascade that ships inside OpenCV 4 (Viola and Jones 2001): needs no file and no network.

    It leaves faces upright as they are. OpenCV's cascade of eyes could level them, but sees both eyes in only three of
    four faces that this one finds.
    """

    name = "haar"

    def __init__(self) -> None:
        folder = Path(cv2.__file__).parent / "data"
        self._cascade = cv2.CascadeClassifier(str(folder / "haarcascade_frontalface_default.xml"))

    def __call__(self, image: Image) -> list[Face]:
        """Return the faces of an RGB uint8 array, the largest first."""
        scale = min(1.0, LONGEST_SIDES[-1] / max(image.shape[:2]))
        grey = cv2.equalizeHist(cv2.cvtColor(_shrink(image, scale), cv2.COLOR_RGB2GRAY))
        boxes, _, weights = self._cascade.detectMultiScale3(
            grey, scaleFactor=1.1, minNeighbors=5, minSize=(24, 24), outputRejectLevels=True
        )
        # The last stage's weight is an open-ended margin; a logistic brings it to 0..1 without changing its order.
        scores = 1 / (1 + np.exp(-np.asarray(weights, np.float64).reshape(-1)))
        return _largest_first([_face(box, 1 / scale, score) for box, score in zip(boxes, scores, strict=True)])


class YuNet:
    """YuNet (Wu, Peng and Yu 2023) through OpenCV, from its ONNX file; it knows a face's eyes.

    It loses faces that fill a large picture, so the picture is searched at 320 pixels first and at 640 only when
    that finds none.

    It takes the eyes of small and of tilted faces for more level than they are, so they are read again from the face's
    own crop. In portraits that were turned by 20 degrees, the tilt of faces of 80 pixels was wrong by 9 degrees before
    and by 2 after that; in faces of 270 pixels that were turned by 30 degrees, by 9 and by 2 (medians).
    """

    UPRIGHT, ALIGNED = "yunet", "yunet, aligned by the eyes"
    NAMES = (UPRIGHT, ALIGNED)

    def __init__(self, model: Path, *, aligned: bool = True, minimum_score: float = 0.7) -> None:
        """Open the file.

        Args:
            model: YuNet's ONNX file.
            aligned: whether to tell where the eyes are, by which faces are then aligned.
            minimum_score: confidence below which nothing counts as a face.

        Raises:
            PipelineError: if the file is not there, or is no such model.
        """
        if not model.is_file():
            near = did_you_mean(str(model), ["fetch"])
            raise PipelineError(f"faces.yunet: there is no file {model}{near}; set it to null for the Haar cascade")
        try:
            self._network = cv2.FaceDetectorYN.create(str(model), "", (320, 320), minimum_score)
        except cv2.error as error:
            raise PipelineError(f"faces.yunet: {model} is no YuNet model in ONNX format") from error
        self._aligned = aligned
        self.name = self.ALIGNED if aligned else self.UPRIGHT

    def __call__(self, image: Image) -> list[Face]:
        """Return the faces of an RGB uint8 array, the largest first."""
        for longest in LONGEST_SIDES:
            scale = min(1.0, longest / max(image.shape[:2]))
            rows = self._detect(_shrink(image, scale))
            if len(rows):
                faces = _largest_first([self._face(row, 1 / scale) for row in rows])
                return [self._look_closer(image, face) for face in faces] if self._aligned else faces
        return []

    def _detect(self, image: Image) -> NDArray[np.float32]:
        """Return a row (x, y, width, height, five points, score) for each face of an RGB picture."""
        below, beside = (max(0, SHORTEST_SIDE - side) for side in image.shape[:2])
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        bgr = cv2.copyMakeBorder(bgr, 0, below, 0, beside, cv2.BORDER_REPLICATE)
        self._network.setInputSize((bgr.shape[1], bgr.shape[0]))
        _, rows = self._network.detect(bgr)
        return np.empty((0, 15), np.float32) if rows is None else rows.astype(np.float32, copy=False)

    def _face(self, row: NDArray[np.float32], scale: float) -> Face:
        face = _face(row[:4], scale, row[-1])
        return replace(face, eyes=_points(row[EYES].reshape(2, 2) * scale)) if self._aligned else face

    def _look_closer(self, image: Image, face: Face) -> Face:
        """Read the eyes from the face's own crop, which is turned by what the whole picture told about them."""
        view = crop(image, face)
        rows = self._detect(resize(view, LONGEST_SIDES[0]))
        if not len(rows):
            return face
        largest = max(rows, key=lambda row: row[2] * row[3])
        eyes = largest[EYES].reshape(2, 2) * len(view) / LONGEST_SIDES[0]
        return replace(face, eyes=_points(locate(face, eyes)))


def load_detector(yunet: Path | None = None, trained_with: str | None = None) -> Detector:
    """Return YuNet from its ONNX file, or the Haar cascade where none is given.

    Args:
        yunet: the file.
        trained_with: the name of the detector that found a model's faces, if one did: YuNet aligns no faces for a
            model that learned from faces as they were.

    Raises:
        PipelineError: if the file is not there, or is no such model.
    """
    return YuNet(yunet, aligned=trained_with in (None, YuNet.ALIGNED)) if yunet else Haar()


def _shrink(image: Image, scale: float) -> Image:
    if scale == 1.0:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _face(box: Iterable[float], scale: float, score: float) -> Face:
    x, y, width, height = (round(float(value) * scale) for value in box)
    return Face((x, y, width, height), float(score))


def _points(eyes: NDArray[np.floating]) -> tuple[Point, Point]:
    (left, top), (right, bottom) = eyes.tolist()
    return (left, top), (right, bottom)


def _largest_first(faces: list[Face]) -> list[Face]:
    return sorted(faces, key=lambda face: -face.box[2] * face.box[3])
