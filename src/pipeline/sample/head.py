"""The head: its outline, and the light, shadows and folds on its skin."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.sample.expression import Expression
from pipeline.sample.pen import Pen, Points, Pose, smooth
from pipeline.sample.person import Person

MOUTH_Y = 0.78
RELIEF_SIZE, RELIEF_REACH = 120, 1.6


def draw_head(pen: Pen, person: Person, expression: Expression) -> None:
    """Fill the head with skin and put light and shadow on it."""
    # Shadows on skin are warmer than the skin in the light.
    relief = _relief(person, expression, pen.pose)[..., None] ** np.array([0.85, 1.0, 1.1], np.float32)
    tones = np.clip(relief * np.array(person.skin, np.float32), 0, 255).astype(np.uint8)
    pen.cover(outline(person, expression.jaw), tones, RELIEF_REACH)


def outline(person: Person, jaw: float) -> Points:
    """Return the head's outline; a dropped jaw (0..1) makes it longer."""
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    cosine, sine = np.cos(angles), np.sin(angles)
    power = np.where(sine > 0, person.jaw, 0.85)
    height = np.where(sine > 0, 1.3 * person.chin + 0.2 * max(0.0, jaw), 1.38)
    return np.column_stack([np.sign(cosine) * np.abs(cosine) ** power, height * sine])


def _relief(person: Person, expression: Expression, pose: Pose) -> NDArray[np.float32]:
    """Return the brightness (0.2 .. 1.3) of the skin on a square that reaches from -RELIEF_REACH to RELIEF_REACH."""
    axis = np.linspace(-RELIEF_REACH, RELIEF_REACH, RELIEF_SIZE)
    smile, drop = max(0.0, expression.corners), max(0.0, expression.jaw)
    nose = 0.4 * person.nose_length
    chin = MOUTH_Y + 0.3 + 0.15 * drop
    spots: list[tuple[float, ...]] = [  # strength, x, y, width, height
        (0.10, 0, -0.8, 0.5, 0.25),
        (0.14, 0, 0.0, 0.09, 0.3),
        (0.14, 0, nose, 0.10 * person.nose_width, 0.09),
        (-0.18, 0, nose + 0.15, 0.2 * person.nose_width, 0.04),
        (-0.16, 0, chin - 0.1, 0.22, 0.05),
        (0.07, 0, chin + 0.12, 0.2, 0.12),
        (-0.22 * person.beard, 0, 1.05, 0.75, 0.32),
        (-0.16 * person.beard, 0, 0.6, 0.35, 0.05),
    ]
    for side in (-1, 1):
        spots += [
            (-0.24, side * 0.42, -0.19, 0.25, 0.13),
            (-0.11, side * 0.19, 0.12, 0.06, 0.25),
            (0.10 + 0.1 * smile, side * 0.55, 0.28 - 0.06 * smile, 0.24, 0.17),
            (-0.06, side * 0.62, 0.75, 0.2, 0.25),
        ]
    centres = pose.turn(np.array([spot[1:3] for spot in spots]))
    light_x, light_y = pose.light
    relief = 0.98 + 0.16 * (light_x * axis[None] + light_y * axis[:, None])
    relief = relief - 0.2 * (axis[None] ** 2 + (axis[:, None] / 1.3) ** 2) ** 2
    strength, size = np.array(spots)[:, 0], np.array(spots)[:, 3:]
    # Each spot is a bell: the product of one over x and one over y.
    bells = np.exp(-(((axis[:, None, None] - centres) / size) ** 2))
    relief = relief + (strength * bells[..., 1]) @ bells[..., 0].T
    return np.clip(relief - _folds(person, expression, pose), 0.2, 1.3).astype(np.float32)


def _folds(person: Person, expression: Expression, pose: Pose) -> NDArray[np.float32]:
    """Return how much the folds of the skin darken it, on the same square as `_relief`."""
    folds = np.zeros((RELIEF_SIZE, RELIEF_SIZE), np.float32)
    smile, raised = max(0.0, expression.corners), max(0.0, expression.upper_lip, expression.nose_wrinkle)
    knit, wrinkle = max(0.0, expression.brow_knit), max(0.0, expression.nose_wrinkle)
    brows_up = max(0.0, (expression.brow_inner + expression.brow_outer) / 2)
    lines = []
    for side in (-1, 1):
        cheek = [(0.2, 0.36), (0.4 + 0.06 * smile, 0.52 - 0.06 * raised), (0.5 + 0.08 * smile, 0.8)]
        lines.append((0.1 * person.wrinkles + 0.2 * max(smile, raised), cheek, side))
        lines.append((0.4 * knit, [(0.07, -0.5), (0.06, -0.4), (0.08, -0.26)], side))
        for y in (-0.14, -0.02, 0.1):
            lines.append((0.28 * wrinkle, [(0.02, y - 0.02), (0.1, y), (0.17, y + 0.07)], side))
        for y in (-0.95, -0.8, -0.68):
            lines.append((0.3 * brows_up * (0.6 + person.wrinkles), [(0, y), (0.25, y - 0.03), (0.5, y + 0.02)], side))
        lines.append((0.08 + 0.2 * person.wrinkles, [(0.25, 0.03), (0.4, 0.09), (0.55, 0.04)], side))
    for strength, points, side in lines:
        if strength < 0.03:
            continue
        bent = pose.turn(smooth(np.array(points) * (side, 1)))
        pixels = np.round((bent + RELIEF_REACH) * RELIEF_SIZE / (2 * RELIEF_REACH) * 16).astype(np.int32)
        cv2.polylines(folds, [pixels], False, min(strength, 0.7), 2, cv2.LINE_8, 4)
    return cv2.GaussianBlur(folds, (0, 0), 1.2).astype(np.float32)
