"""Whole pictures: a close crop of a stranger's face, and a portrait of a person in a room."""

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.sample.camera import Camera
from pipeline.sample.colour import Colour
from pipeline.sample.expression import random_expression
from pipeline.sample.figure import draw_back, draw_face
from pipeline.sample.pen import Canvas, Pose
from pipeline.sample.person import Person, random_person

PHONE = Camera(noise=2.0, blur=0.8, quality=85)


@dataclass(frozen=True)
class Framing:
    """Where a cropper leaves faces.

    `width` is the width of a face and `height` the distance of the bridge of its nose from the upper edge, as shares of
    the crop's side. The others are standard deviations from one face to the next: `shift` of its centre as a share of
    the side, `zoom` of its width as a share of the usual one, and `tilt` of its angle in degrees.
    """

    width: float
    height: float
    shift: float
    zoom: float
    tilt: float


@dataclass(frozen=True)
class Look:
    """How the cropped faces of a dataset look.

    `size` is the side in pixels, `oversize` how many times larger they are drawn, `pose` how much heads turn away
    (0..1), `framing` how they are cropped, `spread` how much expressions vary within a class, and `strength` how weak
    and how strong they are.
    """

    size: int
    oversize: int
    pose: float
    framing: Framing
    spread: float
    camera: Camera
    strength: tuple[float, float] = (0.75, 1.15)


def draw_crop(label: str, look: Look, rng: np.random.Generator) -> bytes:
    """Draw the cropped face of somebody made up, with an expression of a class, as JPEG."""
    side = look.size * look.oversize
    canvas = draw_backdrop(side, rng)
    pose = random_pose(side, look, rng)
    draw_face(canvas, random_person(rng), random_expression(label, rng, look.spread, look.strength), pose)
    return look.camera.take(canvas, (look.size, look.size), rng)


def random_pose(side: int, look: Look, rng: np.random.Generator) -> Pose:
    """Draw how a head fills a square crop of `side` pixels."""
    roll, yaw, pitch, shear = rng.normal(0, 1, 4) * (look.framing.tilt, *(look.pose * np.array((0.4, 0.3, 0.3))))
    shift_x, shift_y = rng.normal(0, look.framing.shift, 2)
    return Pose(
        centre=(side * (0.5 + shift_x), side * (look.framing.height + shift_y)),
        scale=side / 2 * look.framing.width * rng.normal(1, look.framing.zoom),
        roll=roll,
        yaw=yaw,
        pitch=pitch,
        shear=shear,
        light=(rng.uniform(-1, 1), rng.uniform(-1, 0.3)),
    )


def draw_portrait(
    person: Person, label: str | None, size: tuple[int, int], crowded: bool, rng: np.random.Generator
) -> bytes:
    """Draw a person in a room, as JPEG.

    Args:
        person: whose portrait it is.
        label: the class of the expression; None for a person who has turned away or left.
        size: width and height in pixels.
        crowded: whether somebody else stands behind.
        rng: the source of chance.
    """
    canvas = _draw_room(size, rng)
    if crowded:
        _draw_passer_by(canvas, rng)
    if label is not None:
        draw_face(canvas, person, random_expression(label, rng, 0.1), _portrait_pose(canvas, rng))
    elif rng.random() < 0.5:
        draw_back(canvas, person, _portrait_pose(canvas, rng))
    return PHONE.take(canvas, size, rng)


def draw_backdrop(side: int, rng: np.random.Generator) -> Canvas:
    """Return what a close crop shows behind a head: a few blurred patches."""
    patches = rng.uniform(20, 235, (3, 3, 3)) * 0.4 + rng.uniform(20, 235, 3) * 0.6
    return cv2.resize(patches.astype(np.uint8), (side, side), interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def _draw_room(size: tuple[int, int], rng: np.random.Generator) -> Canvas:
    """Return a room, out of focus, at twice the size (width, height): a wall, a floor, shelves, frames and a lamp."""
    width, height = size[0] // 3, size[1] // 3  # enlarged at the end, which blurs it
    wall = np.array(_paint(rng, 90, 225)) * np.linspace(0.8, 1.1, 8)[:, None, None] * np.linspace(0.9, 1.05, 6)[:, None]
    room = cv2.resize(np.clip(wall, 0, 255).astype(np.uint8), (width, height)).astype(np.uint8)
    cv2.rectangle(room, (0, round(height * rng.uniform(0.75, 0.9))), (width, height), _paint(rng, 60, 140), -1)
    for _ in range(rng.integers(2, 6)):
        left, top = round(rng.uniform(-0.1, 0.9) * width), round(rng.uniform(0, 0.7) * height)
        right, bottom = left + round(rng.uniform(0.1, 0.4) * width), top + round(rng.uniform(0.1, 0.45) * height)
        cv2.rectangle(room, (left, top), (right, bottom), _paint(rng, 40, 230), -1)
        cv2.rectangle(room, (left, top), (right, bottom), _paint(rng, 30, 120), 2)
        for y in range(top, bottom, max(8, (bottom - top) // int(rng.integers(2, 5)))):
            cv2.line(room, (left, y), (right, y), _paint(rng, 30, 200), 1)
    if rng.random() < 0.4:
        lamp = (round(rng.uniform(0.05, 0.95) * width), round(rng.uniform(0.05, 0.3) * height))
        cv2.circle(room, lamp, round(0.07 * width), (250, 240, 205), -1, cv2.LINE_AA)
    return cv2.resize(room, (2 * size[0], 2 * size[1]), interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def _draw_passer_by(canvas: Canvas, rng: np.random.Generator) -> None:
    height, width = canvas.shape[:2]
    side = rng.choice([0.13, 0.87])
    pose = Pose((width * side, height * rng.uniform(0.25, 0.4)), width * 0.075, roll=rng.normal(0, 4))
    draw_face(canvas, random_person(rng), random_expression("neutral", rng), pose)


def _portrait_pose(canvas: Canvas, rng: np.random.Generator) -> Pose:
    height, width = canvas.shape[:2]
    return Pose(
        centre=(width * rng.uniform(0.42, 0.58), height * rng.uniform(0.36, 0.46)),
        scale=width * rng.uniform(0.2, 0.26),
        roll=rng.normal(0, 4),
        yaw=rng.normal(0, 0.25),
        pitch=rng.normal(0, 0.2),
        light=(rng.uniform(-0.8, 0.8), rng.uniform(-1, 0)),
    )


def _paint(rng: np.random.Generator, low: float, high: float) -> Colour:
    red, green, blue = np.clip(rng.uniform(low, high) + rng.normal(0, 20, 3), 0, 255)
    return red, green, blue
