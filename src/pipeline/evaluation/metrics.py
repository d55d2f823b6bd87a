"""The metrics of the design, from label ids and probabilities: scikit-learn's scores, calibration error, intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    roc_auc_score,
)

from pipeline.labels import LABELS
from pipeline.params import EvaluateParams

Ids = NDArray[np.integer[Any]]
Probabilities = NDArray[np.floating[Any]]


def score(
    label_ids: Ids, probabilities: Probabilities, params: EvaluateParams, tta: Probabilities | None = None
) -> dict[str, Any]:
    """Score predictions.

    Args:
        label_ids: (n,) true labels, 0..6, or, of a network that tells other classes apart, those.
        probabilities: (n, classes), rows sum to 1.
        params: resamples, bins and seed.
        tta: (n, classes) probabilities averaged over several views of each face, if there are any.

    Returns:
        `n, accuracy, macro_f1, weighted_f1, ece` (all but `n` in 0..1), `ci95` with the 95 % bootstrap intervals of
        accuracy and macro-F1, and `tta` with the same for the averaged probabilities, or None. Scores of no faces are
        None.
    """
    result = {**_score(label_ids, probabilities, params), "tta": None}
    if tta is not None:
        result["tta"] = _score(label_ids, tta, params)
    return result


def macro_f1(label_ids: Ids, predicted: Ids) -> float:
    """Return the mean F1 over the labels that occur among the true or the predicted ones."""
    return float(f1_score(label_ids, predicted, average="macro", zero_division=0))


def mean_f1(hits: NDArray[np.int64], named: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return macro-F1 (n,) of n counts of the same classes; one that occurs nowhere is left out.

    Args:
        hits: (n, classes) true positives.
        named: (n, classes) how often a class is the true one, and the predicted one, together.
    """
    f1 = np.divide(2 * hits, named, out=np.full(hits.shape, np.nan), where=named > 0)
    return np.nanmean(f1, axis=1)


def score_classes(
    label_ids: Ids, probabilities: Probabilities, classes: Sequence[str] = LABELS
) -> dict[str, dict[str, Any]]:
    """Return precision, recall, F1, AUC, average precision and support by class.

    AUC (of the ROC curve) and average precision (of that of precision over recall) are of the class against the rest,
    and None where they are not defined.
    """
    ids = np.arange(len(classes))
    parts = precision_recall_fscore_support(label_ids, probabilities.argmax(1), labels=ids, zero_division=0)
    result: dict[str, dict[str, Any]] = {}
    for index, (label, precision, recall, f1, support) in enumerate(zip(classes, *parts, strict=True)):
        own = label_ids == index
        ranked = (own, probabilities[:, index]) if own.any() and not own.all() else None
        result[label] = {
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "auc": float(roc_auc_score(*ranked)) if ranked else None,
            "average_precision": float(average_precision_score(*ranked)) if ranked else None,
            "support": int(support),
        }
    return result


def confusion(label_ids: Ids, predicted: Ids, classes: int = len(LABELS)) -> NDArray[np.int64]:
    """Return counts (classes, classes): rows are true labels, columns predicted ones."""
    return confusion_matrix(label_ids, predicted, labels=np.arange(classes))


def calibration_error(label_ids: Ids, probabilities: Probabilities, bins: int) -> float:
    """Return the expected calibration error (Naeini, Cooper and Hauskrecht 2015) of the top probability, 0..1."""
    parts = [part for part in bin_confidence(label_ids, probabilities, bins) if part["n"]]
    return sum(part["n"] * abs(part["accuracy"] - part["confidence"]) for part in parts) / len(label_ids)


def bin_confidence(label_ids: Ids, probabilities: Probabilities, bins: int) -> list[dict[str, Any]]:
    """Return, by bin of the top probability, how many answers there are, how sure they are and how many are right.

    Args:
        label_ids: (n,) true classes.
        probabilities: (n, classes).
        bins: of equal width that the top probability, 0..1, is cut into.

    Returns:
        of each bin `from, to, n, confidence` (its mean) and `accuracy`, both None where it is empty.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == label_ids
    edges = np.linspace(0, 1, bins + 1)
    places = np.clip(np.digitize(confidence, edges) - 1, 0, bins - 1)
    result = []
    for place in range(bins):
        inside = places == place
        some = bool(inside.any())
        result.append(
            {
                "from": float(edges[place]),
                "to": float(edges[place + 1]),
                "n": int(inside.sum()),
                "confidence": float(confidence[inside].mean()) if some else None,
                "accuracy": float(right[inside].mean()) if some else None,
            }
        )
    return result


def bootstrap_intervals(counts: NDArray[np.int64], params: EvaluateParams) -> dict[str, list[float]]:
    """Return 95 % percentile intervals of accuracy and macro-F1.

    Drawing n faces with replacement is drawing the cells of the confusion matrix from a multinomial, so all resamples
    are one call.

    Args:
        counts: (classes, classes) confusion matrix.
        params: resamples and seed.
    """
    faces = int(counts.sum())
    draws = np.random.default_rng(params.seed).multinomial(faces, counts.ravel() / faces, size=params.bootstrap)
    draws = draws.reshape(-1, *counts.shape)
    hits = np.diagonal(draws, axis1=1, axis2=2)
    samples = {
        "accuracy": hits.sum(axis=1) / faces,
        "macro_f1": mean_f1(hits, draws.sum(axis=1) + draws.sum(axis=2)),
    }
    return {name: np.percentile(values, [2.5, 97.5]).tolist() for name, values in samples.items()}


def _score(label_ids: Ids, probabilities: Probabilities, params: EvaluateParams) -> dict[str, Any]:
    if not len(label_ids):
        names = ("accuracy", "macro_f1", "weighted_f1", "ece")
        return {"n": 0, **dict.fromkeys(names), "ci95": {"accuracy": None, "macro_f1": None}}
    predicted = probabilities.argmax(1)
    return {
        "n": len(label_ids),
        "accuracy": float(accuracy_score(label_ids, predicted)),
        "macro_f1": macro_f1(label_ids, predicted),
        "weighted_f1": float(f1_score(label_ids, predicted, average="weighted", zero_division=0)),
        "ece": calibration_error(label_ids, probabilities, params.calibration_bins),
        "ci95": bootstrap_intervals(confusion(label_ids, predicted, probabilities.shape[1]), params),
    }
