"""A person on a canvas, head to shoulders, from the front or from behind."""

import numpy as np

from pipeline.sample.colour import shade
from pipeline.sample.expression import Expression
from pipeline.sample.features import draw_brow, draw_eye, draw_mouth, draw_nostrils
from pipeline.sample.head import draw_head, outline
from pipeline.sample.pen import Canvas, Pen, Pose, ellipse, smooth
from pipeline.sample.person import Person

# Where the hair in front of the head ends, from ear to ear, by hairstyle.
HAIRLINES = {
    "cropped": [(-1.02, -0.3), (-0.82, -0.75), (-0.4, -1.0), (0, -1.03), (0.4, -1.0), (0.82, -0.75), (1.02, -0.3)],
    "parted": [(-1.04, 0.0), (-0.88, -0.5), (-0.55, -0.85), (-0.3, -1.2), (0.3, -0.95), (0.85, -0.6), (1.04, -0.05)],
    "fringe": [(-1.05, 0.1), (-0.92, -0.45), (-0.5, -0.64), (0, -0.68), (0.5, -0.64), (0.92, -0.45), (1.05, 0.1)],
    "long": [(-1.08, 0.5), (-0.9, -0.3), (-0.55, -0.85), (0, -1.15), (0.55, -0.85), (0.9, -0.3), (1.08, 0.5)],
    "bun": [(-1.02, -0.2), (-0.85, -0.7), (-0.4, -1.05), (0, -1.12), (0.4, -1.05), (0.85, -0.7), (1.02, -0.2)],
}


def draw_face(canvas: Canvas, person: Person, expression: Expression, pose: Pose) -> None:
    """Draw head, neck and shoulders onto a canvas, in place.

    Args:
        canvas: uint8 array (height, width, 3), RGB; may be smaller than the face, what lies outside is cut off.
        person: who is drawn.
        expression: what the face shows.
        pose: where and how it is drawn.
    """
    pen = Pen(canvas, pose)
    _draw_bust(pen, person)
    draw_head(pen, person, expression)
    for side in (-1, 1):
        draw_eye(pen, person, expression, side)
        draw_brow(pen, person, expression, side)
    draw_nostrils(pen, person, expression)
    draw_mouth(pen, person, expression)
    if person.hairstyle != "bald":
        _draw_hair(pen, person)
    if person.glasses:
        _draw_glasses(pen)


def draw_back(canvas: Canvas, person: Person, pose: Pose) -> None:
    """Draw a person who has turned away, as `draw_face` does but without a face to find."""
    pen = Pen(canvas, pose)
    _draw_bust(pen, person)
    pen.fill(outline(person, 0.0) * 1.03, person.hair)
    for x in np.linspace(-0.8, 0.8, 9):
        pen.line(np.array([(x * 0.4, -1.2), (x, -0.3), (x * 0.9, 0.7)]), shade(person.hair, 0.8), 0.03)


def _draw_bust(pen: Pen, person: Person) -> None:
    """Draw what the head stands before and on: hair behind it, shoulders, neck and ears."""
    if person.hairstyle == "long":
        pen.fill(ellipse(0, 0.15, 1.22, 1.62), shade(person.hair, 0.75))
    if person.hairstyle == "bun":
        pen.fill(ellipse(0, -1.5, 0.42, 0.36), shade(person.hair, 0.8))
    shoulders = [(-0.5, 1.75), (-1.5, 2.05), (-2.3, 2.5), (-3, 9), (3, 9), (2.3, 2.5), (1.5, 2.05), (0.5, 1.75)]
    pen.fill(np.array(shoulders), person.clothes)
    pen.fill(np.array([(-0.52, 0.7), (-0.5, 1.8), (0, 2.15), (0.5, 1.8), (0.52, 0.7)]), shade(person.skin, 0.72))
    for side in (-1, 1):
        pen.fill(ellipse(side * 1.0, 0.1, 0.14, 0.3), shade(person.skin, 0.85))
        fold = np.array([(1.04, -0.05), (1.06, 0.1), (1.0, 0.25)]) * (side, 1)
        pen.line(fold, shade(person.skin, 0.6), 0.03)


def _draw_hair(pen: Pen, person: Person) -> None:
    """Draw the hair in front of the head: everything above the hairline."""
    line = np.array(HAIRLINES[person.hairstyle])
    angles = np.linspace(0, -np.pi, 24)
    crown = np.column_stack([1.09 * np.cos(angles), 1.46 * np.sin(angles) + line[0, 1] * (1 + np.sin(angles))])
    pen.fill(np.concatenate([smooth(line), crown]), person.hair)
    for x in (-0.6, -0.2, 0.25, 0.6):
        pen.line(np.array([(x, -1.2), (x * 0.8, -1.3), (x * 0.5, -1.36)]), shade(person.hair, 1.12), 0.05)


def _draw_glasses(pen: Pen) -> None:
    for side in (-1, 1):
        rim = ellipse(side * 0.43, -0.12, 0.31, 0.25)
        pen.line(np.concatenate([rim, rim[:1]]), (40, 36, 40), 0.035)
        pen.line(np.array([(side * 0.74, -0.15), (side * 1.0, -0.1)]), (40, 36, 40), 0.04)
    pen.line(np.array([(-0.12, -0.14), (0, -0.19), (0.12, -0.14)]), (40, 36, 40), 0.035)
