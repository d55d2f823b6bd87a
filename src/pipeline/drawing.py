"""Draws a face with an expression: what the embedded sample data and its tests are made of.

Lengths are in face units: the origin lies on the bridge of the nose, x points to the viewer's right, y down, and 1 is
half the width of the face. Drawing goes straight onto a canvas, which the caller makes larger than needed and shrinks.
"""

from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.transforms import Image

Points = NDArray[np.float64]
Colour = tuple[float, float, float]

SKIN: tuple[Colour, ...] = ((244, 208, 184), (232, 190, 160), (214, 166, 132), (186, 134, 100), (150, 104, 78))
HAIR: tuple[Colour, ...] = ((34, 28, 26), (58, 40, 30), (96, 64, 40), (150, 112, 66), (128, 124, 122))
IRIS: tuple[Colour, ...] = ((66, 44, 30), (92, 64, 38), (72, 96, 112), (78, 98, 66))
HAIRSTYLES = ("bald", "cropped", "parted", "fringe", "long", "bun")
TONGUE: Colour = (176, 84, 84)
MOUTH_Y = 0.78
RELIEF_SIZE, RELIEF_REACH = 120, 1.6


@dataclass(frozen=True)
class Person:
    """What stays the same when a face changes its expression; colours are RGB in 0..255, the rest factors around 1."""

    skin: Colour
    hair: Colour
    iris: Colour
    clothes: Colour
    hairstyle: str
    jaw: float
    chin: float
    eye_size: float
    eye_gap: float
    brow_width: float
    brow_height: float
    nose_width: float
    nose_length: float
    lip_fullness: float
    mouth_size: float
    wrinkles: float
    beard: float
    glasses: bool


@dataclass(frozen=True)
class Expression:
    """Muscle movements after Ekman and Friesen's facial action coding system; 0 is at rest, 1 a full movement.

    The action units: brows up at their inner and outer end (1, 2; below 0 the outer end sinks), drawn together (4),
    upper lids raised (5; below 0 they droop), lower lids tightened (7), nose wrinkled (9), upper lip raised (10),
    corners up or, below 0, down (12, 15), one corner up (14), lips stretched (20), pressed (24), parted teeth (25),
    jaw dropped (26).
    """

    brow_inner: float = 0.0
    brow_outer: float = 0.0
    brow_knit: float = 0.0
    lid_upper: float = 0.0
    lid_lower: float = 0.0
    nose_wrinkle: float = 0.0
    upper_lip: float = 0.0
    corners: float = 0.0
    smirk: float = 0.0
    stretch: float = 0.0
    press: float = 0.0
    teeth: float = 0.0
    jaw: float = 0.0

    def blend(self, other: "Expression", share: float) -> "Expression":
        """Go `share` of the way to another expression: 0 is this one, 1 the other, above 1 exaggerates it."""
        names = [field.name for field in fields(self)]
        return Expression(**{name: (1 - share) * getattr(self, name) + share * getattr(other, name) for name in names})


EXPRESSIONS = {
    "angry": Expression(-0.5, -0.1, 1.0, 0.3, 0.6, 0.25, 0.1, -0.3, 0, -0.1, 0.8, 0.0, 0.0),
    "contempt": Expression(0.0, 0.1, 0.1, -0.15, 0.25, 0.0, 0.1, 0.0, 1.0, 0.0, 0.4, 0.0, 0.0),
    "disgust": Expression(-0.35, -0.2, 0.5, -0.35, 0.7, 1.0, 1.0, -0.4, 0, -0.1, 0.0, 0.3, 0.1),
    "fear": Expression(0.9, 0.3, 0.5, 0.8, 0.1, 0.0, 0.2, -0.3, 0, 0.9, 0.0, 0.6, 0.35),
    "happy": Expression(0.0, 0.05, 0.0, -0.1, 0.5, 0.0, 0.2, 1.0, 0, 0.45, 0.0, 0.7, 0.25),
    "neutral": Expression(),
    "sad": Expression(0.85, -0.45, 0.5, -0.4, 0.1, 0.0, 0.0, -0.9, 0, -0.15, 0.2, 0.0, 0.0),
    "surprise": Expression(0.9, 0.9, 0.0, 0.8, 0.0, 0.0, 0.1, 0.0, 0, -0.5, 0.0, 0.15, 1.0),
}


@dataclass(frozen=True)
class Pose:
    """Where a face stands on the canvas and how it is turned and lit.

    `centre` and `scale` are in pixels (`scale`: half the width of the face), `roll` in degrees; `yaw`, `pitch`, `shear`
    and `light` (where the light comes from, x and y) lie in about -1..1.
    """

    centre: tuple[float, float]
    scale: float
    roll: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0
    shear: float = 0.0
    light: tuple[float, float] = (0.0, -0.5)


def random_person(rng: np.random.Generator) -> Person:
    """Make up an identity."""
    skin = np.clip(np.array(SKIN[rng.integers(len(SKIN))]) * rng.uniform(0.92, 1.05) + rng.normal(0, 4, 3), 40, 250)
    return Person(
        skin=_colour(skin),
        hair=_colour(np.array(HAIR[rng.integers(len(HAIR))]) * rng.uniform(0.8, 1.2)),
        iris=IRIS[rng.integers(len(IRIS))],
        clothes=_colour(rng.uniform(30, 220, 3)),
        hairstyle=HAIRSTYLES[rng.choice(len(HAIRSTYLES), p=(0.08, 0.27, 0.2, 0.15, 0.2, 0.1))],
        jaw=rng.uniform(0.72, 1.0),
        chin=rng.uniform(0.94, 1.06),
        eye_size=rng.uniform(0.9, 1.12),
        eye_gap=rng.uniform(0.93, 1.07),
        brow_width=rng.uniform(0.7, 1.4),
        brow_height=rng.normal(0, 0.03),
        nose_width=rng.uniform(0.85, 1.2),
        nose_length=rng.uniform(0.92, 1.08),
        lip_fullness=rng.uniform(0.7, 1.35),
        mouth_size=rng.uniform(0.9, 1.1),
        wrinkles=rng.uniform(0, 1) ** 2,
        beard=float(rng.uniform(0.3, 1) if rng.random() < 0.18 else 0),
        glasses=bool(rng.random() < 0.1),
    )


def random_expression(label: str, rng: np.random.Generator, spread: float = 0.12) -> Expression:
    """Draw an expression of a class (a key of `EXPRESSIONS`), weak or strong and never quite the same.

    Args:
        label: which class.
        rng: the source of chance.
        spread: standard deviation of every movement; the larger, the more the classes run into each other.
    """
    mean = EXPRESSIONS["neutral"].blend(EXPRESSIONS[label], rng.uniform(0.75, 1.15))
    values = [getattr(mean, field.name) for field in fields(mean)]
    return Expression(*(float(value) for value in rng.normal(values, spread)))


def draw_face(canvas: Image, person: Person, expression: Expression, pose: Pose) -> None:
    """Draw head, neck and shoulders onto a canvas, in place.

    Args:
        canvas: uint8 array (height, width, 3), RGB; may be smaller than the face, what lies outside is cut off.
        person: who is drawn.
        expression: what the face shows.
        pose: where and how it is drawn.
    """
    pen = _Pen(canvas, pose)
    _draw_bust(pen, person)
    _draw_head(pen, person, expression)
    for side in (-1, 1):
        _draw_eye(pen, person, expression, side)
        _draw_brow(pen, person, expression, side)
    _draw_nostrils(pen, person, expression)
    _draw_mouth(pen, person, expression)
    _draw_fringe(pen, person)
    if person.glasses:
        _draw_glasses(pen)


def draw_back(canvas: Image, person: Person, pose: Pose) -> None:
    """Draw a person who has turned away, as `draw_face` does but without a face to find."""
    pen = _Pen(canvas, pose)
    _draw_bust(pen, person)
    pen.fill(_outline(person, 0.0) * 1.03, person.hair)
    for x in np.linspace(-0.8, 0.8, 9):
        pen.line(np.array([(x * 0.4, -1.2), (x, -0.3), (x * 0.9, 0.7)]), _shade(person.hair, 0.8), 0.03)


class _Pen:
    """A canvas seen in face units."""

    def __init__(self, canvas: Image, pose: Pose) -> None:
        self.canvas, self.pose = canvas, pose
        angle = np.deg2rad(pose.roll)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = pose.scale * turn @ np.array([[1.0, 0.15 * pose.shear], [0.0, 1.0]])
        self.matrix = np.column_stack([linear, pose.centre])

    def turn(self, points: Points) -> Points:
        """Shift what lies in the middle of the face, and so nearer to the viewer, by yaw and pitch."""
        near = np.maximum(1 - points**2 / (1, 2.25), 0).prod(1, keepdims=True)
        return points + near * (0.3 * self.pose.yaw, 0.15 * self.pose.pitch)

    def place(self, points: Points) -> NDArray[np.int32]:
        """Bring points (n, 2) in face units to canvas pixels in 1/16 steps, as OpenCV's `shift=4` wants them."""
        pixels = self.turn(points) @ self.matrix[:, :2].T + self.matrix[:, 2]
        return np.round(pixels * 16).astype(np.int32)

    def fill(self, points: Points, colour: Colour) -> None:
        """Fill a polygon (n, 2)."""
        cv2.fillPoly(self.canvas, [self.place(points)], colour, cv2.LINE_AA, 4)

    def line(self, points: Points, colour: Colour, width: float) -> None:
        """Draw a smooth line through points (n, 2)."""
        thickness = max(1, round(width * self.pose.scale))
        cv2.polylines(self.canvas, [self.place(_smooth(points))], False, colour, thickness, cv2.LINE_AA, 4)

    def within(self, window: Points, shapes: list[tuple[Points, Colour]]) -> None:
        """Fill polygons, of which only what lies inside the polygon `window` shows."""
        corners = self.place(window) / 16
        low = np.clip(np.floor(corners.min(0)).astype(int) - 1, 0, None)
        high = np.clip(np.ceil(corners.max(0)).astype(int) + 2, 0, self.canvas.shape[1::-1])
        if (low >= high).any():
            return
        view = self.canvas[low[1] : high[1], low[0] : high[0]]
        shift = (low * 16).astype(np.int32)
        mask, inside = np.zeros(view.shape[:2], np.uint8), view.copy()
        cv2.fillPoly(mask, [self.place(window) - shift], 255, cv2.LINE_AA, 4)
        for points, colour in shapes:
            cv2.fillPoly(inside, [self.place(points) - shift], colour, cv2.LINE_AA, 4)
        weight = mask[..., None] / np.float32(255)
        view[:] = np.round(view + weight * (inside.astype(np.float32) - view))


def _draw_bust(pen: _Pen, person: Person) -> None:
    if person.hairstyle == "long":
        pen.fill(_ellipse(0, 0.15, 1.22, 1.62), _shade(person.hair, 0.75))
    if person.hairstyle == "bun":
        pen.fill(_ellipse(0, -1.5, 0.42, 0.36), _shade(person.hair, 0.8))
    shoulders = [(-0.5, 1.75), (-1.5, 2.05), (-2.3, 2.5), (-3, 9), (3, 9), (2.3, 2.5), (1.5, 2.05), (0.5, 1.75)]
    pen.fill(np.array(shoulders), person.clothes)
    pen.fill(np.array([(-0.52, 0.7), (-0.5, 1.8), (0, 2.15), (0.5, 1.8), (0.52, 0.7)]), _shade(person.skin, 0.72))
    for side in (-1, 1):
        pen.fill(_ellipse(side * 1.0, 0.1, 0.14, 0.3), _shade(person.skin, 0.85))
        pen.line(
            np.array([(side * 1.04, -0.05), (side * 1.06, 0.1), (side * 1.0, 0.25)]), _shade(person.skin, 0.6), 0.03
        )


def _draw_head(pen: _Pen, person: Person, expression: Expression) -> None:
    """Fill the head with skin and put light and shadow on it."""
    head = _outline(person, expression.jaw)
    corners = pen.place(head * 1.02) / 16
    low = np.clip(np.floor(corners.min(0)).astype(int), 0, None)
    high = np.clip(np.ceil(corners.max(0)).astype(int), 0, pen.canvas.shape[1::-1])
    if (low >= high).any():
        return
    view = pen.canvas[low[1] : high[1], low[0] : high[0]]
    step = 2 * RELIEF_REACH / RELIEF_SIZE
    matrix = pen.matrix @ np.array([[step, 0, -RELIEF_REACH], [0, step, -RELIEF_REACH], [0, 0, 1]])
    matrix[:, 2] -= low
    # Shadows on skin are warmer than the skin in the light.
    relief = _relief(pen, person, expression)[..., None] ** np.array([0.85, 1.0, 1.1], np.float32)
    tones = np.clip(relief * np.array(person.skin, np.float32), 0, 255).astype(np.uint8)
    mask = np.zeros(view.shape[:2], np.uint8)
    cv2.fillPoly(mask, [pen.place(head) - (low * 16).astype(np.int32)], 255, cv2.LINE_8, 4)
    cv2.copyTo(cv2.warpAffine(tones, matrix, view.shape[1::-1], borderMode=cv2.BORDER_REPLICATE), mask, view)


def _relief(pen: _Pen, person: Person, expression: Expression) -> NDArray[np.float32]:
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
    centres = pen.turn(np.array([spot[1:3] for spot in spots]))
    light_x, light_y = pen.pose.light
    relief = 0.98 + 0.16 * (light_x * axis[None] + light_y * axis[:, None])
    relief = relief - 0.2 * (axis[None] ** 2 + (axis[:, None] / 1.3) ** 2) ** 2
    for (strength, _, _, width, height), (x, y) in zip(spots, centres, strict=True):
        bell = np.exp(-(((axis[:, None] - y) / height) ** 2)) * np.exp(-(((axis[None] - x) / width) ** 2))
        relief = relief + strength * bell
    return np.clip(relief - _folds(pen, person, expression), 0.2, 1.3).astype(np.float32)


def _folds(pen: _Pen, person: Person, expression: Expression) -> NDArray[np.float32]:
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
        bent = pen.turn(_smooth(np.array(points) * (side, 1)))
        pixels = np.round((bent + RELIEF_REACH) * RELIEF_SIZE / (2 * RELIEF_REACH) * 16).astype(np.int32)
        cv2.polylines(folds, [pixels], False, min(strength, 0.7), 2, cv2.LINE_8, 4)
    return cv2.GaussianBlur(folds, (0, 0), 1.2).astype(np.float32)


def _draw_eye(pen: _Pen, person: Person, expression: Expression, side: int) -> None:
    x, y, half = side * 0.42 * person.eye_gap, -0.14, 0.215 * person.eye_size
    upper = max(0.012, 0.115 * person.eye_size * (1 + 0.62 * expression.lid_upper))
    lower = max(0.012, 0.06 * (1 + 0.5 * expression.lid_upper) * (1 - 0.7 * expression.lid_lower))
    steps = np.linspace(-1, 1, 15)
    arch = 1 - np.abs(steps) ** 2.2
    lid = np.column_stack([x + half * steps, y - upper * arch])
    under = np.column_stack([x + half * steps, y + lower * arch])
    almond = np.concatenate([lid, under[::-1]])
    radius = 0.105 * person.eye_size
    white = _shade((236, 232, 228), 0.72 + 0.25 * sum(person.skin) / (3 * 255))
    look = x + 0.03 * pen.pose.yaw
    pen.within(
        almond,
        [
            (almond, white),
            (lid + (0, -0.01), _shade(white, 0.7)),
            (_ellipse(look, y - 0.02, radius, radius), person.iris),
            (_ellipse(look, y - 0.02, radius * 0.5, radius * 0.5), (16, 12, 12)),
            (_ellipse(look - 0.03, y - 0.06, 0.022, 0.022), (250, 250, 250)),
        ],
    )
    pen.line(under, _shade(person.skin, 0.6), 0.018)
    pen.line(lid, (38, 28, 26), 0.04)
    crease = lid * (1, 1) + np.column_stack([0.02 * side * arch, -0.06 * arch - 0.01])
    pen.line(crease[2:-2], _shade(person.skin, 0.62), 0.02)


def _draw_brow(pen: _Pen, person: Person, expression: Expression, side: int) -> None:
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
    middle = _smooth(points)
    thick = 0.055 * person.brow_width * np.linspace(1, 0.3, len(middle))[:, None] * (0, 1)
    brow = np.concatenate([middle - thick, (middle + thick)[::-1]]) * (side, 1)
    pen.fill(brow, _mix(person.hair, person.skin, 0.15))


def _draw_nostrils(pen: _Pen, person: Person, expression: Expression) -> None:
    wide = person.nose_width * (1 + 0.12 * max(0.0, expression.nose_wrinkle))
    y = 0.47 * person.nose_length - 0.05 * max(0.0, expression.nose_wrinkle)
    shadow = _shade(person.skin, 0.62)
    for side in (-1, 1):
        pen.fill(_ellipse(side * 0.085 * wide, y, 0.045, 0.022), _shade(person.skin, 0.35))
        wing = np.array([(0.15, y - 0.13), (0.2, y - 0.04), (0.17, y + 0.02), (0.12, y + 0.01)])
        pen.line(wing * (side * wide, 1), shadow, 0.025)
    pen.line(np.array([(-0.07, y + 0.01), (0, y + 0.03), (0.07, y + 0.01)]), shadow, 0.025)


def _draw_mouth(pen: _Pen, person: Person, expression: Expression) -> None:
    steps = np.linspace(-1, 1, 25)
    half = 0.36 * person.mouth_size * (1 + 0.25 * expression.stretch + 0.12 * expression.corners)
    jaw, raised = max(0.0, expression.jaw - 0.05), max(0.0, expression.upper_lip)
    # Lips part only above a threshold, so that a mouth at rest is closed.
    teeth, press = max(0.0, expression.teeth - 0.15), float(np.clip(expression.press, 0, 1))
    # A smile lifts the corners and lowers the middle; one lifted corner is contempt.
    bow = -0.17 * expression.corners * (steps**2 - 0.45) - 0.17 * expression.smirk * np.clip(steps, 0, 1) ** 1.5
    lip_line = MOUTH_Y + bow
    square = 1 - np.abs(steps) ** (2 + 2 * max(0.0, expression.stretch))
    hump = 1 - 0.8 * np.abs(np.abs(steps) - 0.22) - 0.25 * (np.abs(steps) < 0.1)
    inner_top = lip_line - square * (0.09 * raised + 0.04 * teeth + 0.03 * jaw)
    # A dropped jaw makes the opening an oval; otherwise it stays pointed at the corners.
    oval = square + min(1.0, jaw) * (np.sqrt(1 - steps**2) - square)
    inner_bottom = lip_line + oval * (0.4 * jaw + 0.12 * teeth * (1 - 0.4 * raised))
    full = 0.085 * person.lip_fullness * (1 - 0.75 * press)
    x = half * steps
    outer_top = inner_top - full * hump * np.sqrt(1 - steps**2) - 0.002
    outer_bottom = inner_bottom + 1.25 * full * np.sqrt(1 - steps**2) + 0.002

    lips = _mix(person.skin, (170, 70, 74), 0.45)
    opening = _closed(x, inner_top, inner_bottom)
    pen.fill(_closed(x, outer_top, inner_top), _shade(lips, 0.82))
    pen.fill(_closed(x, inner_bottom, outer_bottom), lips)
    if (inner_bottom - inner_top).max() > 0.03:
        bite = np.minimum(inner_bottom, inner_top + 0.11)
        inside = [
            (opening, (44, 18, 20)),
            (_ellipse(0, inner_bottom.max() + 0.02, half * 0.6, 0.12 * jaw + 0.01), TONGUE),
        ]
        pen.within(opening, [*inside, (_closed(x, inner_top, bite), (232, 226, 214))] if teeth + jaw > 0.1 else inside)
    else:
        pen.line(np.column_stack([x, lip_line]), _shade(lips, 0.42), 0.03 + 0.015 * press)
    for end in (0, -1):
        pen.fill(_ellipse(x[end], lip_line[end], 0.03, 0.02), _shade(person.skin, 0.5))


def _draw_fringe(pen: _Pen, person: Person) -> None:
    """Draw the hair in front of the head: everything above a hairline."""
    if person.hairstyle == "bald":
        return
    hairlines = {
        "cropped": [(-1.02, -0.3), (-0.82, -0.75), (-0.4, -1.0), (0, -1.03), (0.4, -1.0), (0.82, -0.75), (1.02, -0.3)],
        "parted": [
            (-1.04, 0.0),
            (-0.88, -0.5),
            (-0.55, -0.85),
            (-0.3, -1.2),
            (0.3, -0.95),
            (0.85, -0.6),
            (1.04, -0.05),
        ],
        "fringe": [(-1.05, 0.1), (-0.92, -0.45), (-0.5, -0.64), (0, -0.68), (0.5, -0.64), (0.92, -0.45), (1.05, 0.1)],
        "long": [(-1.08, 0.5), (-0.9, -0.3), (-0.55, -0.85), (0, -1.15), (0.55, -0.85), (0.9, -0.3), (1.08, 0.5)],
        "bun": [(-1.02, -0.2), (-0.85, -0.7), (-0.4, -1.05), (0, -1.12), (0.4, -1.05), (0.85, -0.7), (1.02, -0.2)],
    }
    angles = np.linspace(0, -np.pi, 24)
    line = hairlines[person.hairstyle]
    crown = np.column_stack([1.09 * np.cos(angles), 1.46 * np.sin(angles) + line[0][1] * (1 + np.sin(angles))])
    pen.fill(np.concatenate([_smooth(np.array(line)), crown]), person.hair)
    for x in (-0.6, -0.2, 0.25, 0.6):
        pen.line(np.array([(x, -1.2), (x * 0.8, -1.3), (x * 0.5, -1.36)]), _shade(person.hair, 1.12), 0.05)


def _draw_glasses(pen: _Pen) -> None:
    for side in (-1, 1):
        rim = _ellipse(side * 0.43, -0.12, 0.31, 0.25)
        pen.line(np.concatenate([rim, rim[:1]]), (40, 36, 40), 0.035)
        pen.line(np.array([(side * 0.74, -0.15), (side * 1.0, -0.1)]), (40, 36, 40), 0.04)
    pen.line(np.array([(-0.12, -0.14), (0, -0.19), (0.12, -0.14)]), (40, 36, 40), 0.035)


def _outline(person: Person, jaw: float) -> Points:
    """Return the head's outline; a dropped jaw makes it longer."""
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    cosine, sine = np.cos(angles), np.sin(angles)
    power = np.where(sine > 0, person.jaw, 0.85)
    height = np.where(sine > 0, 1.3 * person.chin + 0.2 * max(0.0, jaw), 1.38)
    return np.column_stack([np.sign(cosine) * np.abs(cosine) ** power, height * sine])


def _ellipse(x: float, y: float, width: float, height: float) -> Points:
    angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    return np.column_stack([x + width * np.cos(angles), y + height * np.sin(angles)])


def _closed(x: NDArray[np.float64], top: NDArray[np.float64], bottom: NDArray[np.float64]) -> Points:
    return np.concatenate([np.column_stack([x, top]), np.column_stack([x, bottom])[::-1]])


def _smooth(points: Points) -> Points:
    """Run a quadratic B-spline through the middles of a line, from its first point to its last."""
    for _ in range(3):  # Chaikin's corner cutting
        cut = np.empty((2 * len(points), 2))
        cut[1:-1:2] = 0.75 * points[:-1] + 0.25 * points[1:]
        cut[2::2] = 0.25 * points[:-1] + 0.75 * points[1:]
        cut[0], cut[-1] = points[0], points[-1]
        points = cut
    return points


def _colour(values: NDArray[np.float64]) -> Colour:
    red, green, blue = (float(value) for value in np.clip(np.round(values), 0, 255))
    return red, green, blue


def _shade(colour: Colour, factor: float) -> Colour:
    return _colour(np.array(colour) * factor)


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    return _colour((1 - share) * np.array(first) + share * np.array(second))
