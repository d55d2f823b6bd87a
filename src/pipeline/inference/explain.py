"""Pictures of why a label was answered: which places of a face spoke for it."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.inference.options import Form
from pipeline.labels import LABELS
from pipeline.vision.faces import Face, corners
from pipeline.vision.transforms import Image, decode, encode

LONGEST = 1600  # side of an overlay in pixels: a PNG of a larger photograph takes seconds to write
FINE = 224  # side in pixels to which a map is smoothed
STRONGEST, BRIGHTEST = 0.6, 210  # opacity and colour, of 255, of the place that spoke most: the face stays visible
OUTLINE = (255, 255, 255)


class NoFaceError(Exception):
    """There is no face on the picture, and so nothing to explain."""


class UnexplainableError(Exception):
    """The model that is served does not tell what its answers rest on."""


@dataclass(frozen=True)
class Explanation:
    """Why a network answers a label for a face.

    `places` is float32 (height, width), over the face: what each place adds to the label's logit, negative where it
    speaks against it. `whole` says that the face is the picture itself, and was not cut out.
    """

    face: Face
    whole: bool
    label: str
    probability: float
    places: NDArray[np.float32]
    model: dict[str, str]

    def facts(self) -> dict[str, Any]:
        """Return label, probability, box and model; ready for JSON."""
        return {
            "label": self.label,
            "probability": self.probability,
            "box": list(self.face.box),
            "model": self.model,
        }

    def as_json(self) -> dict[str, Any]:
        """Return the facts and the map's numbers, as rows from top to bottom."""
        return {**self.facts(), "map": self.places.tolist()}

    def as_png(self, image: bytes, form: Form) -> bytes:
        """Return a picture of the explanation: over the encoded image that the face is from, or the map alone."""
        if form == "map":
            grey = np.round(255 * heat(self.places)).astype(np.uint8)
            return encode(np.repeat(grey[..., None], 3, axis=2))
        return encode(overlay(decode(image), self.face, self.places, whole=self.whole))


def explain(  # noqa: PLR0913  # they are what an explanation is made of
    face: Face,
    whole: bool,
    row: NDArray[np.float32],
    maps: NDArray[np.float32],
    label: str | None,
    model: dict[str, str],
) -> Explanation:
    """Choose from what a network says of a face.

    Args:
        face: where it is.
        whole: whether it is the picture itself.
        row: its probabilities (7,).
        maps: its class maps (7, height, width).
        label: the one to explain; by default the likeliest.
        model: name and version.
    """
    number = int(row.argmax()) if label is None else LABELS.index(label)
    return Explanation(face, whole, LABELS[number], float(row[number]), maps[number], model)


def heat(places: NDArray[np.float32], side: int = FINE) -> NDArray[np.float32]:
    """Return a map (height, width) as a smooth picture of what speaks for the label.

    Args:
        places: what each place adds to the logit; what speaks against it becomes 0 (Selvaraju et al. 2017).
        side: of the result in pixels.

    Returns:
        float32 (side, side) in 0..1, where 1 is the place that speaks most; all 0 if none does. So two pictures can
        not be compared by their brightness.
    """
    positive = np.maximum(places, 0)
    strongest = positive.max()
    if strongest <= 0:
        return np.zeros((side, side), np.float32)
    fine = cv2.resize(positive / strongest, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.clip(fine, 0, 1).astype(np.float32)


def overlay(picture: Image, face: Face, places: NDArray[np.float32], *, whole: bool = False) -> Image:
    """Lay a map over the place in a picture that its face was cut from, turned as the face is.

    Args:
        picture: uint8 (height, width, 3), RGB.
        face: as it was found.
        places: its map (height, width).
        whole: the picture itself was taken for a face.

    Returns:
        uint8 RGB, the picture shrunk to a side of at most `LONGEST` pixels: bright where a place spoke for the
        label, unchanged where it did not. An outline shows what the network saw.
    """
    height, width = picture.shape[:2]
    scale = min(1.0, LONGEST / max(height, width))
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    drawn = cv2.resize(picture, shape, interpolation=cv2.INTER_AREA) if scale < 1 else picture.copy()
    square = np.array([(0, 0), (width, 0), (width, height), (0, height)]) - 0.5 if whole else corners(face)
    seen = (square + 0.5) * (shape[0] / width, shape[1] / height) - 0.5
    map_corners = np.array([(0, 0), (FINE, 0), (FINE, FINE)], np.float32) - 0.5
    turn = cv2.getAffineTransform(map_corners, seen[:3].astype(np.float32))
    warmth = cv2.warpAffine(heat(places), turn, shape)  # 0 outside
    colours = cv2.applyColorMap(np.round(BRIGHTEST * warmth).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    opacity = STRONGEST * warmth[..., None]
    mixed = np.round((1 - opacity) * drawn + opacity * colours).astype(np.uint8)
    if not whole:
        line = max(1, max(shape) // 400)
        cv2.polylines(mixed, [np.round(seen).astype(np.int32)], True, OUTLINE, line, cv2.LINE_AA)
    return mixed
