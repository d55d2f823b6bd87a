import numpy as np
import pytest

from pipeline.evaluation.metrics import macro_f1
from pipeline.labels import LABELS
from pipeline.monitoring.estimate import Calibrator, estimate

COUNT = len(LABELS)


def faces(count: int, seed: int = 0, sureness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities that mean what they say where `sureness` is 1, and are too sure above, and true labels."""
    random = np.random.default_rng(seed)
    honest = random.dirichlet(np.full(COUNT, 0.4), count)
    label_ids = (honest.cumsum(1) > random.random((count, 1))).argmax(1)
    said = honest**sureness
    return said / said.sum(1, keepdims=True), label_ids


def test_accuracy_and_macro_f1_are_known_without_labels() -> None:
    probabilities, label_ids = faces(20_000)
    predicted = probabilities.argmax(1)
    scores = estimate(probabilities, predicted, resamples=200, seed=0)
    assert scores["accuracy"].value == pytest.approx((predicted == label_ids).mean(), abs=0.01)
    assert scores["macro_f1"].value == pytest.approx(macro_f1(label_ids, predicted), abs=0.01)
    for score in scores.values():
        assert score.value - 0.01 < score.lower < score.value < score.upper < score.value + 0.01


def test_the_expected_confusion_of_two_faces_by_hand() -> None:
    probabilities = np.array([[0.8, 0.2], [0.4, 0.6]])
    scores = estimate(probabilities, np.array([0, 1]), resamples=100, seed=0)
    assert scores["accuracy"].value == pytest.approx(0.7)
    # 2 TP / (predicted + true): of the first label 1.6 / (1 + 1.2), of the second 1.2 / (1 + 0.8)
    assert scores["macro_f1"].value == pytest.approx((1.6 / 2.2 + 1.2 / 1.8) / 2)


def test_a_network_that_is_too_sure_is_set_right_on_faces_whose_labels_are_known() -> None:
    said, label_ids = faces(20_000, sureness=3)
    others, truth = faces(20_000, seed=1, sureness=3)
    predicted = others.argmax(1)
    right = (predicted == truth).mean()
    before = estimate(others, predicted, resamples=100, seed=0)["accuracy"].value
    calibrated = Calibrator(said, label_ids)(others)
    np.testing.assert_allclose(calibrated.sum(1), 1)
    after = estimate(calibrated, predicted, resamples=100, seed=0)["accuracy"].value
    assert abs(before - right) > 0.1
    assert after == pytest.approx(right, abs=0.02)


def test_what_no_known_face_is_like_keeps_its_probabilities() -> None:
    calibrator = Calibrator(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([2, 2]))  # neither of the two labels
    np.testing.assert_allclose(calibrator(np.array([[0.7, 0.3]])), [[0.7, 0.3]])
