from dataclasses import replace

import cv2
import numpy as np
import pytest

from pipeline.sample.expression import EXPRESSIONS, Expression
from pipeline.sample.figure import draw_back, draw_face
from pipeline.sample.pen import Pose
from pipeline.sample.person import random_person
from pipeline.vision.detectors import Haar
from pipeline.vision.transforms import Image

PERSON = replace(random_person(np.random.default_rng(0)), glasses=False, hairstyle="cropped")


def paint(expression: Expression, pose: Pose | None = None, side: int = 240) -> Image:
    canvas = np.full((side, side, 3), 150, np.uint8)
    draw_face(canvas, PERSON, expression, pose or Pose((side / 2, side / 2), side / 4))
    return canvas


@pytest.mark.parametrize("label", EXPRESSIONS)
def test_each_expression_of_one_person_looks_different(label):
    face = paint(EXPRESSIONS[label]).astype(int)
    for other in EXPRESSIONS.keys() - {label}:
        changed = np.abs(face - paint(EXPRESSIONS[other])).max(2) > 40
        assert changed.mean() > 0.002, f"{label} looks like {other}"


def test_an_expression_leaves_the_rest_of_the_person_alone():
    happy, neutral = paint(EXPRESSIONS["happy"]), paint(EXPRESSIONS["neutral"])
    np.testing.assert_array_equal(happy[:40], neutral[:40])
    np.testing.assert_array_equal(happy[212:], neutral[212:])


def test_a_smile_lifts_the_corners_of_the_mouth_and_sadness_lowers_them():
    def darkest_row(corners: float) -> int:
        mouth = cv2.cvtColor(paint(Expression(corners=corners)), cv2.COLOR_RGB2GRAY)[150:195, 96:106]
        return int(mouth.min(axis=1).argmin())

    assert darkest_row(1.0) < darkest_row(0.0) < darkest_row(-1.0)


def test_contempt_moves_one_side_only():
    difference = np.abs(paint(Expression(smirk=1.0)).astype(int) - paint(Expression())).sum(axis=(0, 2))
    assert difference[125:].sum() > 20 * difference[:115].sum()


def test_the_same_expression_draws_the_same_face():
    np.testing.assert_array_equal(paint(EXPRESSIONS["fear"]), paint(EXPRESSIONS["fear"]))


@pytest.mark.parametrize("centre", [(0.0, 0.0), (240.0, 120.0), (-500.0, 80.0), (120.0, 900.0)])
def test_what_lies_outside_the_canvas_is_cut_off(centre):
    assert paint(EXPRESSIONS["surprise"], Pose(centre, 60.0)).shape == (240, 240, 3)


def test_the_pose_moves_the_face():
    level, rolled = Haar()(paint(Expression())), Haar()(paint(Expression(), Pose((150, 130), 60, roll=5, yaw=0.3)))
    assert rolled[0].box[0] > level[0].box[0] + 10


def test_a_person_who_turned_away_shows_no_face():
    canvas = np.full((240, 240, 3), 150, np.uint8)
    draw_back(canvas, PERSON, Pose((120, 120), 60))
    assert (canvas != 150).any(axis=2).mean() > 0.3
    assert Haar()(canvas) == []
