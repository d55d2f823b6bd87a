import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from pipeline.evaluation.metrics import (
    bootstrap_intervals,
    calibration_error,
    confusion,
    macro_f1,
    score,
    score_classes,
)
from pipeline.params import EvaluateParams

PARAMS = EvaluateParams()
RNG = np.random.default_rng(0)
LABEL_IDS = RNG.integers(0, 7, 300)
PROBABILITIES = RNG.dirichlet(np.ones(7), 300)
PROBABILITIES[:150] = 0.1 / 7 + 0.9 * np.eye(7)[LABEL_IDS[:150]]


def test_scores_are_scikit_learns():
    result = score(LABEL_IDS, PROBABILITIES, PARAMS)
    predicted = PROBABILITIES.argmax(1)
    assert result["n"] == 300
    assert result["accuracy"] == accuracy_score(LABEL_IDS, predicted)
    assert result["macro_f1"] == pytest.approx(f1_score(LABEL_IDS, predicted, average="macro"))
    assert result["tta"] is None


def test_averaged_views_are_scored_beside_the_plain_ones():
    perfect = np.eye(7)[LABEL_IDS]
    result = score(LABEL_IDS, PROBABILITIES, PARAMS, tta=perfect)
    assert result["tta"]["accuracy"] == 1
    assert result["accuracy"] < 1


def test_macro_f1_leaves_out_labels_that_do_not_occur():
    assert macro_f1(np.array([0, 1]), np.array([0, 1])) == 1


def test_no_faces_have_no_scores():
    result = score(np.array([], np.int64), np.empty((0, 7)), PARAMS)
    assert result["n"] == 0
    assert result["accuracy"] is None


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    confident = np.full((100, 7), 0.2 / 6)
    confident[:, 3] = 0.8
    half_right = np.array([3] * 50 + [0] * 50)
    assert calibration_error(half_right, confident, bins=15) == pytest.approx(0.3, abs=1e-6)


def test_intervals_agree_with_resampling_the_faces_themselves():
    predicted = PROBABILITIES.argmax(1)
    found = bootstrap_intervals(confusion(LABEL_IDS, predicted), EvaluateParams(bootstrap=4000))
    draws = RNG.integers(0, 300, (1000, 300))
    accuracies = [accuracy_score(LABEL_IDS[draw], predicted[draw]) for draw in draws]
    f1 = [f1_score(LABEL_IDS[draw], predicted[draw], average="macro") for draw in draws]
    np.testing.assert_allclose(found["accuracy"], np.percentile(accuracies, [2.5, 97.5]), atol=0.015)
    np.testing.assert_allclose(found["macro_f1"], np.percentile(f1, [2.5, 97.5]), atol=0.015)


def test_a_label_without_faces_has_no_auc():
    classes = score_classes(np.array([0, 0, 1]), np.eye(7)[[0, 1, 1]])
    angry = {"precision": 1, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}
    # The first of two angry faces comes first, the other one of a tie with what is not angry: 1/2 * 1 + 1/2 * 2/3.
    assert classes["angry"] == {**angry, "auc": 0.75, "average_precision": pytest.approx(5 / 6)}
    assert classes["fear"]["auc"] is classes["fear"]["average_precision"] is None
    assert classes["fear"]["support"] == 0
