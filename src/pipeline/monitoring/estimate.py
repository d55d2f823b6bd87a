"""What a service's accuracy probably is, where nobody knows the labels: by how sure it is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

Probabilities = NDArray[np.floating]

ENOUGH = 1000  # faces to learn a calibration from: with fewer, isotonic regression overfits, scikit-learn's manual says


class Calibrator:
    """Makes probabilities mean what they say, as on faces whose labels are known: an isotonic regression a class."""

    def __init__(self, probabilities: Probabilities, label_ids: NDArray[np.integer]) -> None:
        """Learn from probabilities (n, classes) and the true labels (n,)."""
        self._classes = [
            IsotonicRegression(out_of_bounds="clip").fit(column, label_ids == label_id)
            for label_id, column in enumerate(probabilities.T)
        ]

    def __call__(self, probabilities: Probabilities) -> Probabilities:
        """Return calibrated probabilities (n, classes), each row summing to 1."""
        columns = [one.predict(column) for one, column in zip(self._classes, probabilities.T, strict=True)]
        calibrated = np.stack(columns, 1).astype(np.float64)
        sums = calibrated.sum(1, keepdims=True)
        return np.divide(calibrated, sums, out=probabilities.astype(np.float64), where=sums > 0)


@dataclass(frozen=True)
class Score:
    """An estimated score, and its 95 % interval: which faces came is chance, and so far the score is."""

    value: float
    lower: float
    upper: float


def estimate(
    probabilities: Probabilities, predicted: NDArray[np.integer], resamples: int, seed: int
) -> dict[str, Score]:
    """Estimate accuracy and macro-F1 from calibrated probabilities alone.

    Confidence-based performance estimation, as NannyML has it: a face of which the predicted label has probability p is
    right in p of a face, so the confusion matrix can be expected where it can not be counted. It sees what comes of
    other faces; it does not see that faces of the same kind now mean something else, and it believes a network that is
    sure of what it never saw: of FER2013 upside down `v8` knows .20, and .49 is estimated.

    Args:
        probabilities: (n, classes), calibrated; n is at least 1.
        predicted: (n,) ids of the labels that were answered.
        resamples: of the bootstrap over faces.
        seed: of the bootstrap.
    """
    classes = probabilities.shape[1]
    answered = np.eye(classes)[predicted]
    # Of each face, and class: expected true positives, predicted and expected true ones; their sums give all scores.
    parts = np.stack([answered * probabilities, answered, probabilities], 1)
    random, even = np.random.default_rng(seed), np.full(len(parts), 1 / len(parts))
    drawn = (random.multinomial(len(parts), even) for _ in range(resamples))  # one by one: a log may be long
    sums = np.stack([parts.sum(0), *(np.tensordot(counts, parts, 1) for counts in drawn)])
    hits, said, true = sums[:, 0], sums[:, 1], sums[:, 2]
    f1 = np.divide(2 * hits, said + true, out=np.zeros_like(hits), where=said + true > 0)
    occurs = said.sum(0) + true.sum(0) > 0
    scores = {"accuracy": hits.sum(1) / len(parts), "macro_f1": f1[:, occurs].mean(1)}
    return {
        name: Score(float(values[0]), *map(float, np.quantile(values[1:], [0.025, 0.975])))
        for name, values in scores.items()
    }
