"""Finding the faces of a picture and cutting them out, in the data and in the service alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from pipeline.errors import PipelineError
from pipeline.transforms import Image

MARGIN = 0.1
LONGEST_SIDES = (320, 640)


@dataclass(frozen=True)
class Face:
    """A face in a picture: `box` is (x, y, width, height) in pixels, `score` the detector's confidence in 0..1."""

    box: tuple[int, int, int, int]
    score: float


class Detector(Protocol):
    """Finds faces; `name` goes into the data and the exported model, so that both use the same one."""

    name: str

    def __call__(self, image: Image) -> list[Face]:
        """Return the faces of an RGB uint8 array (height, width, 3), the largest first."""
        ...


class Haar:
    """The frontal-face cascade that ships inside OpenCV 4 (Viola and Jones 2001): needs no file and no network."""

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
    """YuNet (Wu, Peng and Yu 2023) through OpenCV, from its ONNX file.

    It loses faces that fill a large picture, so the picture is searched at 320 pixels first and at 640 only when
    that finds none.
    """

    name = "yunet"

    def __init__(self, model: Path, minimum_score: float = 0.7) -> None:
        """Open the file; raises PipelineError if it is not there, or is no such model."""
        if not model.is_file():
            raise PipelineError(f"faces.yunet: there is no file {model}; set it to null for the Haar cascade")
        try:
            self._network = self._open(model, minimum_score)
        except cv2.error as error:
            raise PipelineError(f"faces.yunet: {model} is no YuNet model in ONNX format") from error

    @staticmethod
    def _open(model: Path, minimum_score: float) -> cv2.FaceDetectorYN:
        return cv2.FaceDetectorYN.create(str(model), "", (320, 320), minimum_score)

    def __call__(self, image: Image) -> list[Face]:
        """Return the faces of an RGB uint8 array, the largest first."""
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR).astype(np.uint8, copy=False)
        for longest in LONGEST_SIDES:
            scale = min(1.0, longest / max(image.shape[:2]))
            small = _shrink(bgr, scale)
            self._network.setInputSize((small.shape[1], small.shape[0]))
            _, rows = self._network.detect(small)
            if rows is not None:
                return _largest_first([_face(row[:4], 1 / scale, row[-1]) for row in rows])
        return []


def load_detector(yunet: Path | None = None) -> Detector:
    """Return YuNet from its ONNX file, or the Haar cascade where none is given."""
    return YuNet(yunet) if yunet else Haar()


def detector_name(yunet: Path | None) -> str:
    """Return the name of the detector that `load_detector` gives for the same argument."""
    return YuNet.name if yunet else Haar.name


def crop(image: Image, box: tuple[int, int, int, int], margin: float = MARGIN) -> Image:
    """Cut a square around a face out of a picture.

    Args:
        image: uint8 array (height, width, 3).
        box: (x, y, width, height) of the face in pixels; may reach over the picture's edge.
        margin: what is added on each side, as a share of the box's longer side.

    Returns:
        uint8 array (side, side, 3); what lies outside the picture repeats its edge.
    """
    x, y, width, height = box
    side = max(1, round(max(width, height) * (1 + 2 * margin)))
    left, top = round(x + (width - side) / 2), round(y + (height - side) / 2)
    rows = np.clip(np.arange(top, top + side), 0, image.shape[0] - 1)
    columns = np.clip(np.arange(left, left + side), 0, image.shape[1] - 1)
    return image[np.ix_(rows, columns)]


def _shrink(image: Image, scale: float) -> Image:
    if scale == 1.0:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _face(box: Sequence[float], scale: float, score: float) -> Face:
    x, y, width, height = (round(float(value) * scale) for value in box)
    return Face((x, y, width, height), float(score))


def _largest_first(faces: list[Face]) -> list[Face]:
    return sorted(faces, key=lambda face: -face.box[2] * face.box[3])
