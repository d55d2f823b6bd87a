from dataclasses import fields

import numpy as np
import pytest

from pipeline.labels import LABELS
from pipeline.sample.expression import EXPRESSIONS, Expression, random_expression


def test_every_label_has_an_expression_and_contempt_too():
    assert set(EXPRESSIONS) == {*LABELS, "contempt"}


def test_blend_goes_from_one_expression_to_the_other():
    happy, angry = EXPRESSIONS["happy"], EXPRESSIONS["angry"]
    assert happy.blend(angry, 0.0) == happy
    assert happy.blend(angry, 1.0) == angry
    assert happy.blend(angry, 0.5).corners == pytest.approx((happy.corners + angry.corners) / 2)


def test_random_expressions_scatter_around_their_class():
    rng = np.random.default_rng(1)
    drawn = [random_expression("surprise", rng) for _ in range(200)]
    assert len(set(drawn)) == 200
    for field in fields(Expression):
        mean = np.mean([getattr(expression, field.name) for expression in drawn])
        assert mean == pytest.approx(0.95 * getattr(EXPRESSIONS["surprise"], field.name), abs=0.05)
