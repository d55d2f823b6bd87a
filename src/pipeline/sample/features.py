"""The features of a face: eyes, brows, nose and mouth."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.sample.colour import Colour, mix, shade
from pipeline.sample.expression import Expression
from pipeline.sample.head import MOUTH_Y
from pipeline.sample.pen import Pen, Points, band, ellipse, smooth
from pipeline.sample.person import Person

Curve = NDArray[np.float64]

TONGUE: Colour = (176, 84, 84)


def draw_eye(pen: Pen, person: Person, expression: Expression, side: int) -> None:
    """Draw an eye with its lids; `side` is -1 for the viewer's left, 1 for the right."""
    x, y, half = side * 0.42 * person.eye_gap, -0.14, 0.215 * person.eye_size
    upper = max(0.012, 0.115 * person.eye_size * (1 + 0.62 * expression.lid_upper))
    lower = max(0.012, 0.06 * (1 + 0.5 * expression.lid_upper) * (1 - 0.7 * expression.lid_lower))
    steps = np.linspace(-1, 1, 15)
    arch = 1 - np.abs(steps) ** 2.2
    lid = np.column_stack([x + half * steps, y - upper * arch])
    under = np.column_stack([x + half * steps, y + lower * arch])
    almond = np.concatenate([lid, under[::-1]])
    radius = 0.105 * person.eye_size
    white = shade((236, 232, 228), 0.72 + 0.25 * sum(person.skin) / (3 * 255))
    look = x + 0.03 * pen.pose.yaw
    pen.within(
        almond,
        [
            (almond, white),
            (lid + (0, -0.01), shade(white, 0.7)),
            (ellipse(look, y - 0.02, radius, radius), person.iris),
            (ellipse(look, y - 0.02, radius * 0.5, radius * 0.5), (16, 12, 12)),
            (ellipse(look - 0.03, y - 0.06, 0.022, 0.022), (250, 250, 250)),
        ],
    )
    pen.line(under, shade(person.skin, 0.6), 0.018)
    pen.line(lid, (38, 28, 26), 0.04)
    crease = lid + np.column_stack([0.02 * side * arch, -0.06 * arch - 0.01])
    pen.line(crease[2:-2], shade(person.skin, 0.62), 0.02)


def draw_brow(pen: Pen, person: Person, expression: Expression, side: int) -> None:
    """Draw an eyebrow; `side` as in `draw_eye`."""
    inner, outer = 0.15 * expression.brow_inner, 0.15 * expression.brow_outer
    base = -0.43 - person.brow_height
    knit = 0.07 * expression.brow_knit
    points = np.array(
        [
            (0.17 - 0.8 * knit, base + knit - inner),
            (0.38, base - 0.06 + 0.5 * knit - 0.55 * inner - 0.5 * outer),
            (0.58, base - 0.06 - 0.1 * inner - outer),
            (0.75, base + 0.03 - outer),
        ]
    )
    middle = smooth(points)
    thick = 0.055 * person.brow_width * np.linspace(1, 0.3, len(middle))[:, None] * (0, 1)
    brow = np.concatenate([middle - thick, (middle + thick)[::-1]]) * (side, 1)
    pen.fill(brow, mix(person.hair, person.skin, 0.15))


def draw_nostrils(pen: Pen, person: Person, expression: Expression) -> None:
    """Draw the lower end of the nose."""
    wide = person.nose_width * (1 + 0.12 * max(0.0, expression.nose_wrinkle))
    y = 0.47 * person.nose_length - 0.05 * max(0.0, expression.nose_wrinkle)
    shadow = shade(person.skin, 0.62)
    for side in (-1, 1):
        pen.fill(ellipse(side * 0.085 * wide, y, 0.045, 0.022), shade(person.skin, 0.35))
        wing = np.array([(0.15, y - 0.13), (0.2, y - 0.04), (0.17, y + 0.02), (0.12, y + 0.01)])
        pen.line(wing * (side * wide, 1), shadow, 0.025)
    pen.line(np.array([(-0.07, y + 0.01), (0, y + 0.03), (0.07, y + 0.01)]), shadow, 0.025)


def draw_mouth(pen: Pen, person: Person, expression: Expression) -> None:
    """Draw the lips and, where they part, teeth and tongue."""
    jaw, teeth, press = _opening(expression)
    x, line, outer_top, inner_top, inner_bottom, outer_bottom = _mouth(person, expression)
    lips = mix(person.skin, (170, 70, 74), 0.45)
    pen.fill(band(x, outer_top, inner_top), shade(lips, 0.82))
    pen.fill(band(x, inner_bottom, outer_bottom), lips)
    if (inner_bottom - inner_top).max() > 0.03:
        opening = band(x, inner_top, inner_bottom)
        tongue = ellipse(0, inner_bottom.max() + 0.02, x[-1] * 0.6, 0.12 * jaw + 0.01)
        inside: list[tuple[Points, Colour]] = [(opening, (44, 18, 20)), (tongue, TONGUE)]
        if teeth + jaw > 0.1:
            inside.append((band(x, inner_top, np.minimum(inner_bottom, inner_top + 0.11)), (232, 226, 214)))
        pen.within(opening, inside)
    else:
        pen.line(np.column_stack([x, line]), shade(lips, 0.42), 0.03 + 0.015 * press)
    for end in (0, -1):
        pen.fill(ellipse(x[end], line[end], 0.03, 0.02), shade(person.skin, 0.5))


class _Mouth(NamedTuple):
    """Heights y (n,) of the lips' edges over x (n,), in face units; `line` is where closed lips meet."""

    x: Curve
    line: Curve
    outer_top: Curve
    inner_top: Curve
    inner_bottom: Curve
    outer_bottom: Curve


def _mouth(person: Person, expression: Expression) -> _Mouth:
    jaw, teeth, press = _opening(expression)
    raised = max(0.0, expression.upper_lip)
    steps = np.linspace(-1, 1, 25)
    half = 0.36 * person.mouth_size * (1 + 0.25 * expression.stretch + 0.12 * expression.corners)
    # A smile lifts the corners and lowers the middle; one lifted corner is contempt.
    bow = -0.17 * expression.corners * (steps**2 - 0.45) - 0.17 * expression.smirk * np.clip(steps, 0, 1) ** 1.5
    line = MOUTH_Y + bow
    square = 1 - np.abs(steps) ** (2 + 2 * max(0.0, expression.stretch))
    hump = 1 - 0.8 * np.abs(np.abs(steps) - 0.22) - 0.25 * (np.abs(steps) < 0.1)
    inner_top = line - square * (0.09 * raised + 0.04 * teeth + 0.03 * jaw)
    # A dropped jaw makes the opening an oval; otherwise it stays pointed at the corners.
    circle = np.sqrt(1 - steps**2)
    oval = square + min(1.0, jaw) * (circle - square)
    inner_bottom = line + oval * (0.4 * jaw + 0.12 * teeth * (1 - 0.4 * raised))
    full = 0.085 * person.lip_fullness * (1 - 0.75 * press)
    outer_top = inner_top - full * hump * circle - 0.002
    outer_bottom = inner_bottom + 1.25 * full * circle + 0.002
    return _Mouth(half * steps, line, outer_top, inner_top, inner_bottom, outer_bottom)


def _opening(expression: Expression) -> tuple[float, float, float]:
    """Return how far the jaw has dropped, the teeth have parted and the lips are pressed together (0..1)."""
    # Lips part only above a threshold, so that a mouth at rest is closed.
    jaw, teeth = max(0.0, expression.jaw - 0.05), max(0.0, expression.teeth - 0.15)
    return jaw, teeth, float(np.clip(expression.press, 0, 1))
