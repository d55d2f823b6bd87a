"""What a face in a picture is and how it is cut out, in the data and in the service alike."""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.vision.transforms import Image

MARGIN = 0.1
# YuNet's eyes err by 2 degrees in the median and 5 in nine of ten faces: turning by less would blur and level nothing.
LEVEL = 3
# Of faces that lean by 45 degrees YuNet finds half, and fewer beyond: a steeper line is no line through two eyes.
STEEPEST = 45
# As a share of the face: from the side the eyes are so near that a pixel is degrees. In portraits it is 0.27 and more.
NEAREST_EYES = 0.15
CANDIDATE = 0.5  # side of a face that may be the one that is meant, as a share of the largest

Point = tuple[float, float]


@dataclass(frozen=True)
class Face:
    """A face in a picture, as a detector found it.

    `box` is upright: (x, y, width, height) in pixels. `score` is the detector's confidence in 0..1. `eyes` are the
    points (x, y) of the eye that stands left in an upright picture and of the right one; None where they are not known.
    """

    box: tuple[int, int, int, int]
    score: float
    eyes: tuple[Point, Point] | None = None

    @property
    def tilt(self) -> float:
        """Degrees by which the face leans clockwise: 0, or `LEVEL` to `STEEPEST` either way.

        It is 0 where the eyes are not known, stand level as well as can be told, or can not be believed: too near to
        each other, or on a line that is steeper than a detector finds faces.
        """
        if self.eyes is None:
            return 0.0
        (left, top), (right, bottom) = self.eyes
        across, down = right - left, bottom - top
        tilt = math.degrees(math.atan2(down, across))
        near = math.hypot(across, down) < NEAREST_EYES * max(self.box[2:])
        return 0.0 if near or not LEVEL <= abs(tilt) <= STEEPEST else tilt


class Detector(Protocol):
    """Finds faces; `name` goes into the data and the exported model, so that both use the same one."""

    name: str

    def __call__(self, image: Image) -> list[Face]:
        """Return the faces of an RGB uint8 array (height, width, 3), the largest first."""
        ...


class Choice(NamedTuple):
    """The face that stands for a picture, cut out, and how many faces could have been meant, itself included."""

    pixels: Image
    face: Face
    candidates: int


def choose_face(image: Image, detector: Detector) -> Choice | None:
    """Cut out of a picture the face that its one label is about: the largest.

    Args:
        image: uint8 array (height, width, 3), RGB.
        detector: finds the faces.

    Returns:
        the choice, or None where there is no face. Faces with at least half the side of the largest are candidates
        too; smaller ones are people in the background or false alarms.
    """
    found = detector(image)
    if not found:
        return None
    largest = found[0]
    candidates = sum(max(face.box[2:]) >= CANDIDATE * max(largest.box[2:]) for face in found)
    return Choice(crop(image, largest), largest, candidates)


def crop(image: Image, face: Face) -> Image:
    """Cut a square around a face out of a picture, turned about the face's centre so that its eyes stand level.

    Args:
        image: uint8 array (height, width, 3).
        face: its box may reach over the picture's edge. Without a tilt the pixels are the picture's own; with one
            they are interpolated, once.

    Returns:
        uint8 array (side, side, 3), `MARGIN` wider than the box on each side; what lies outside the picture repeats
        its edge.
    """
    left, top, side = _square(face)
    if not face.tilt:
        return _cut(image, left, top, side)
    # What the turned square can reach, and no more: OpenCV turns no picture with a side of 32,767 pixels or more.
    left, top, reach = left - side // 2, top - side // 2, 2 * side
    turn = _turn(face)
    turn[:, 2] += turn[:, :2] @ (left, top)
    turned = cv2.warpAffine(_cut(image, left, top, reach), turn, (side, side), flags=cv2.INTER_CUBIC)
    return turned.astype(np.uint8, copy=False)


def locate(face: Face, points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return where points (n, 2) of a face's `crop` lie in the picture, as (x, y) in pixels."""
    back = cv2.invertAffineTransform(_turn(face))
    return points @ back[:, :2].T + back[:, 2]


def corners(face: Face) -> NDArray[np.float64]:
    """Return where the corners of a face's `crop` lie in the picture, (4, 2), clockwise from the left upper one."""
    *_, side = _square(face)
    return locate(face, side * np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) - 0.5)


def _square(face: Face) -> tuple[int, int, int]:
    """Return left, top and side of the square around a face, in the picture's pixels."""
    x, y, width, height = face.box
    side = max(1, round(max(width, height) * (1 + 2 * MARGIN)))
    return round(x + (width - side) / 2), round(y + (height - side) / 2), side


def _turn(face: Face) -> NDArray[np.float64]:
    """Return the affine map (2, 3) from a picture to the turned square around a face."""
    left, top, side = _square(face)
    middle = (side - 1) / 2
    turn = cv2.getRotationMatrix2D((left + middle, top + middle), face.tilt, 1).astype(np.float64)
    turn[:, 2] -= (left, top)
    return turn


def _cut(image: Image, left: int, top: int, side: int) -> Image:
    height, width = image.shape[:2]
    if 0 <= top <= height - side and 0 <= left <= width - side:
        return image[top : top + side, left : left + side]
    rows = np.clip(np.arange(top, top + side), 0, height - 1)
    columns = np.clip(np.arange(left, left + side), 0, width - 1)
    return image[np.ix_(rows, columns)]
