"""Systems that answer together: means of their probabilities, and what is learned on top of them.

Answers are probabilities (faces, members, labels), float64.
"""

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from pipeline.labels import LABELS

FOLDS = 5
SMALLEST = 1e-7  # probability, so that its logarithm is finite

Answers = NDArray[np.float64]


class Known(NamedTuple):
    """Answers for faces whose labels (n,) may be looked at; faces of one group (n,) are copies of each other."""

    answers: Answers
    label_ids: NDArray[np.int64]
    groups: NDArray[Any]

    def at(self, rows: NDArray[Any]) -> "Known":
        """Return some of the faces."""
        return Known(*(column[rows] for column in self))


class Mixture:
    """The weighted mean of the members' probabilities, with the weights that make the labels most likely.

    They are found by expectation maximization (Dempster, Laird and Rubin 1977). It finds the best ones: the likelihood
    of the weights of a mixture is concave.
    """

    def fit(self, answers: Answers, label_ids: NDArray[np.int64]) -> Self:
        """Find the weights, one a member."""
        given = answers[np.arange(len(label_ids)), :, label_ids] + SMALLEST
        self.weights_ = np.full(given.shape[1], 1 / given.shape[1])
        for _ in range(1000):
            shares = given * self.weights_
            before, self.weights_ = self.weights_, (shares / shares.sum(1, keepdims=True)).mean(0)
            if np.abs(self.weights_ - before).max() < 1e-6:
                break
        return self

    def predict_proba(self, answers: Answers) -> Answers:
        """Return probabilities (faces, labels)."""
        return np.einsum("nml,m->nl", answers, self.weights_)


class Stacking:
    """A logistic regression on the members' log-probabilities (Wolpert 1992, "Stacked generalization")."""

    def fit(self, answers: Answers, label_ids: NDArray[np.int64]) -> Self:
        """Fit the regression."""
        self.regression_ = LogisticRegression(max_iter=1000).fit(self._features(answers), label_ids)
        return self

    def predict_proba(self, answers: Answers) -> Answers:
        """Return probabilities (faces, labels); a label that was not there to be learned gets none."""
        probabilities = np.zeros((len(answers), len(LABELS)))
        probabilities[:, self.regression_.classes_] = self.regression_.predict_proba(self._features(answers))
        return probabilities

    @staticmethod
    def _features(answers: Answers) -> Answers:
        return np.log(np.maximum(answers, SMALLEST)).reshape(len(answers), -1)


COMBINATIONS: dict[str, Any] = {"weighted": Mixture, "stacking": Stacking}


def average(answers: Answers) -> Answers:
    """Return the members' mean (faces, labels)."""
    return answers.mean(1)


def one_against_rest(answers: Answers) -> Answers:
    """Return the share that each label's own probability (faces, labels) has of all of them."""
    return (answers + SMALLEST) / (answers + SMALLEST).sum(1, keepdims=True)


def fit(how: str, known: Known) -> Mixture | Stacking:
    """Return a combination of `COMBINATIONS`, fitted."""
    return COMBINATIONS[how]().fit(known.answers, known.label_ids)


def answer_crossed(how: str, known: Known) -> Answers:
    """Return probabilities (faces, labels) for the known faces themselves.

    They are cut into five parts, no group in two of them. Each part is answered for by a combination that was fitted on
    the others, so that nothing is judged by what it learned from.
    """
    result = np.empty((len(known.label_ids), len(LABELS)))
    for others, part in GroupKFold(FOLDS).split(known.answers, known.label_ids, known.groups):
        result[part] = fit(how, known.at(others)).predict_proba(known.answers[part])
    return result
