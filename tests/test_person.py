import numpy as np

from pipeline.sample.person import random_person


def test_the_same_chance_makes_up_the_same_person():
    assert random_person(np.random.default_rng(5)) == random_person(np.random.default_rng(5))
    assert random_person(np.random.default_rng(5)) != random_person(np.random.default_rng(6))
