import numpy as np
import pytest
import torch
from scipy.special import softmax
from torchmetrics.functional.classification import multiclass_calibration_error

from pipeline.evaluation.metrics import bin_confidence, calibration_error
from pipeline.evaluation.reliability import measure_calibration, uncalibrated

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(scale=2, size=(500, 7))
# As likely as the probabilities say: these are calibrated.
LABEL_IDS = np.array([RANDOM.choice(7, p=row) for row in softmax(LOGITS, axis=1)])


def test_bins_hold_what_one_counts_by_hand():
    probabilities = np.array([[0.7, 0.3], [0.4, 0.6], [0.65, 0.35], [1.0, 0.0]])
    bins = bin_confidence(np.array([0, 1, 1, 0]), probabilities, 4)
    empty = {"n": 0, "confidence": None, "accuracy": None}
    assert bins == [
        {"from": 0, "to": 0.25, **empty},
        {"from": 0.25, "to": 0.5, **empty},
        {"from": 0.5, "to": 0.75, "n": 3, "confidence": pytest.approx(0.65), "accuracy": pytest.approx(2 / 3)},
        {"from": 0.75, "to": 1, "n": 1, "confidence": 1, "accuracy": 1},
    ]


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_gaps_of_the_bins_add_up_to_the_calibration_error_of_torchmetrics(bins):
    probabilities = softmax(2 * LOGITS, axis=1)
    theirs = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(LABEL_IDS), num_classes=7, n_bins=bins
    )
    assert calibration_error(LABEL_IDS, probabilities, bins) == pytest.approx(theirs.item(), abs=1e-6)


@pytest.mark.parametrize("temperature", [0.4, 1, 3])
def test_the_temperature_is_taken_back(temperature):
    answered = softmax(LOGITS / temperature, axis=1).astype(np.float32)
    np.testing.assert_allclose(uncalibrated(answered, temperature), softmax(LOGITS, axis=1), atol=1e-5)


def test_what_was_rounded_to_nothing_stays_a_probability():
    answered = np.array([[1, 0, 0]], np.float32)
    np.testing.assert_allclose(uncalibrated(answered, 0.05).sum(), 1)


def test_error_is_told_before_and_after_the_temperature():
    found = measure_calibration(LABEL_IDS, softmax(LOGITS, axis=1), 2.5, 10)
    assert found["temperature"] == 2.5
    assert found["ece"] < 0.08 < found["ece_uncalibrated"]
    assert found["ece_uncalibrated"] == pytest.approx(
        calibration_error(LABEL_IDS, softmax(2.5 * LOGITS, axis=1), 10), abs=1e-6
    )
    assert len(found["bins"]) == len(found["bins_uncalibrated"]) == 10
    assert found["bins"] != found["bins_uncalibrated"]
