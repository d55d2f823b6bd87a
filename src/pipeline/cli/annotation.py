"""Drawing on a picture what was seen on it: a box a face, with its expression and how sure that is."""

from typing import Any

import cv2

from pipeline.vision.transforms import Image

COLOUR, INK = (26, 127, 75), (255, 255, 255)  # of the box, and of the words on it
FONT = cv2.FONT_HERSHEY_SIMPLEX
WIDEST = 400  # a box at a scale of 1, in pixels; words and lines grow and shrink with it


def annotate(picture: Image, faces: list[dict[str, Any]]) -> Image:
    """Return a copy of a picture (height, width, 3) with the faces of an answer drawn on it."""
    drawn = picture.copy()
    for face in faces:
        x, y, width, height = (round(value) for value in face["box"])
        scale = min(max(width / WIDEST, 0.4), 3)
        line = max(1, round(3 * scale))
        cv2.rectangle(drawn, (x, y), (x + width, y + height), COLOUR, line)
        words = f"{face['emotion']} {face['confidence']:.2f}"
        (long, high), below = cv2.getTextSize(words, FONT, scale, line)
        top = max(y, high + below + 2 * line)  # words stay on the picture
        cv2.rectangle(drawn, (x, top - high - below - 2 * line), (x + long, top), COLOUR, cv2.FILLED)
        cv2.putText(drawn, words, (x, top - below), FONT, scale, INK, line, cv2.LINE_AA)
    return drawn
