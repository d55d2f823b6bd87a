"""The pen that draws on a canvas in face units, and the lines it draws.

In face units the origin lies on the bridge of the nose, x points to the viewer's right, y down, and 1 is half the width
of the face. Points are arrays (n, 2).
"""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.sample.colour import Colour

Canvas = NDArray[np.uint8]  # (height, width, 3), RGB
Points = NDArray[np.float64]  # (n, 2)

FLATNESS = np.array((1, 1 / 2.25))  # across and along the face: 1 / the square of where it ends


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

    def turn(self, points: Points) -> Points:
        """Shift what lies in the middle of the face, and so nearer to the viewer, by yaw and pitch."""
        near = np.maximum(1 - points * points * FLATNESS, 0)
        return points + (near[:, :1] * near[:, 1:]) * np.array((0.3 * self.yaw, 0.15 * self.pitch))


class Pen:
    """Draws straight onto a canvas, an RGB uint8 array (height, width, 3); what lies outside of it is cut off."""

    def __init__(self, canvas: Canvas, pose: Pose) -> None:
        self.canvas, self.pose = canvas, pose
        angle = np.deg2rad(pose.roll)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = pose.scale * turn @ np.array([[1.0, 0.15 * pose.shear], [0.0, 1.0]])
        self._matrix = np.column_stack([linear, pose.centre])

    def fill(self, points: Points, colour: Colour) -> None:
        """Fill a polygon."""
        cv2.fillPoly(self.canvas, [self._place(points)], colour, cv2.LINE_AA, 4)

    def line(self, points: Points, colour: Colour, width: float) -> None:
        """Draw a smooth line."""
        thickness = max(1, round(width * self.pose.scale))
        cv2.polylines(self.canvas, [self._place(smooth(points))], False, colour, thickness, cv2.LINE_AA, 4)

    def within(self, window: Points, shapes: list[tuple[Points, Colour]]) -> None:
        """Fill polygons, of which only what lies inside the polygon `window` shows."""
        view, corner = self._view(window, 2)
        if not view.size:
            return  # OpenCV refuses an empty picture
        mask, inside = np.zeros(view.shape[:2], np.uint8), view.copy()
        cv2.fillPoly(mask, [self._place(window, corner)], 255, cv2.LINE_AA, 4)
        for points, colour in shapes:
            cv2.fillPoly(inside, [self._place(points, corner)], colour, cv2.LINE_AA, 4)
        weight = mask[..., None] / np.float32(255)
        view[:] = np.round(view + weight * (inside.astype(np.float32) - view))

    def cover(self, points: Points, picture: Canvas, reach: float) -> None:
        """Fill a polygon with a square picture whose sides lie `reach` from the origin."""
        # OpenCV rounds by the distance from the view's corner: another margin would change some of the bytes.
        view, corner = self._view(points * 1.02, 0)
        if not view.size:
            return
        step = 2 * reach / len(picture)
        matrix = self._matrix @ np.array([[step, 0, -reach], [0, step, -reach], [0, 0, 1]])
        matrix[:, 2] -= corner
        mask = np.zeros(view.shape[:2], np.uint8)
        cv2.fillPoly(mask, [self._place(points, corner)], 255, cv2.LINE_8, 4)
        cv2.copyTo(cv2.warpAffine(picture, matrix, view.shape[1::-1], borderMode=cv2.BORDER_REPLICATE), mask, view)

    def _place(self, points: Points, corner: NDArray[np.int32] | None = None) -> NDArray[np.int32]:
        """Bring points to pixels from a corner (x, y) of the canvas in 1/16 steps, as OpenCV's `shift=4` wants them."""
        pixels = self.pose.turn(points) @ self._matrix[:, :2].T + self._matrix[:, 2]
        placed = np.round(pixels * 16).astype(np.int32)
        return placed if corner is None else placed - 16 * corner

    def _view(self, points: Points, margin: int) -> tuple[Canvas, NDArray[np.int32]]:
        """Return the canvas around points (empty if they lie outside; margin in pixels) and its upper left corner."""
        pixels = self._place(points) / 16
        low = np.maximum(np.floor(pixels.min(0)).astype(np.int32) - margin, 0)
        high = np.maximum(np.ceil(pixels.max(0)).astype(np.int32) + margin, 0)
        return self.canvas[low[1] : high[1], low[0] : high[0]], low


def ellipse(x: float, y: float, width: float, height: float) -> Points:
    """Return an ellipse's outline; `width` and `height` are its half axes."""
    return _unit_circle() * (width, height) + (x, y)


@cache
def _unit_circle() -> Points:
    angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    return np.column_stack([np.cos(angles), np.sin(angles)])


def band(x: NDArray[np.float64], top: NDArray[np.float64], bottom: NDArray[np.float64]) -> Points:
    """Return the outline of what lies between two lines over the same x (n,)."""
    return np.concatenate([np.column_stack([x, top]), np.column_stack([x, bottom])[::-1]])


def smooth(points: Points) -> Points:
    """Run a quadratic B-spline through the middles of a line, from its first point to its last."""
    return _spline(len(points)) @ points


@cache
def _spline(count: int) -> NDArray[np.float64]:
    """Return how much each of `count` points weighs in each point of their spline (points, count)."""
    weights = np.eye(count)
    for _ in range(2 if count < 8 else 1):  # Chaikin's corner cutting; OpenCV takes its time for every point
        cut = np.empty((2 * len(weights), count))
        cut[1:-1:2] = 0.75 * weights[:-1] + 0.25 * weights[1:]
        cut[2::2] = 0.25 * weights[:-1] + 0.75 * weights[1:]
        cut[0], cut[-1] = weights[0], weights[-1]
        weights = cut
    return weights
