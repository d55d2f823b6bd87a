"""Whether one model is better than another on the same faces, or was only lucky: paired tests."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from pipeline.evaluation.metrics import mean_f1

Ids = NDArray[np.integer[Any]]

RESAMPLES_AT_ONCE = 1000


@dataclass(frozen=True)
class Gain:
    """What one model's score is above another's, and the bounds of its interval; all in -1..1."""

    value: float
    lower: float
    upper: float


def mcnemar(label_ids: Ids, mine: Ids, theirs: Ids) -> tuple[int, int, float]:
    """Test whether more faces are right by one model than by another (McNemar 1947, one-sided, exact).

    Only the faces that one of the two has right tell them apart; if both are equally good, each is a fair coin.

    Args:
        label_ids: (n,) true labels.
        mine: (n,) what the one model predicted.
        theirs: (n,) what the other one did.

    Returns:
        the faces that only the first has right, those that only the second has, and the probability that as many or
        more fall to the first if neither is better; 1 where no face tells them apart.
    """
    right, other_right = mine == label_ids, theirs == label_ids
    won, lost = int((right & ~other_right).sum()), int((other_right & ~right).sum())
    return won, lost, float(binomtest(won, won + lost, alternative="greater").pvalue) if won + lost else 1.0


def macro_f1_gain(label_ids: Ids, mine: Ids, theirs: Ids, *, level: float, resamples: int, seed: int) -> Gain:
    """Return by how much macro-F1 is higher, with the bounds of its paired bootstrap (Efron 1979), percentile method.

    Drawing n faces with replacement is drawing the cells (label, answer, other answer) from a multinomial, so no face
    is ever drawn.

    Args:
        label_ids: (n,) true labels.
        mine: (n,) what the one model predicted.
        theirs: (n,) what the other one did.
        level: the probability that is left out on either side.
        resamples: draws.
        seed: of the draws.
    """
    triples, counts = np.unique(np.stack([label_ids, mine, theirs]), axis=1, return_counts=True)
    generator = np.random.default_rng(seed)
    faces, gains = int(counts.sum()), []
    for first in range(0, resamples, RESAMPLES_AT_ONCE):
        draws = generator.multinomial(faces, counts / faces, size=min(RESAMPLES_AT_ONCE, resamples - first))
        gains.append(_macro_f1(triples[0], triples[1], draws) - _macro_f1(triples[0], triples[2], draws))
    whole = counts[None]
    value = _macro_f1(triples[0], triples[1], whole) - _macro_f1(triples[0], triples[2], whole)
    lower, upper = np.quantile(np.concatenate(gains), [level, 1 - level])
    return Gain(float(value[0]), float(lower), float(upper))


def _macro_f1(label_ids: Ids, predicted: Ids, counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return macro-F1 (draws,) of cells that each occur so often: counts (draws, cells)."""
    classes = np.arange(max(label_ids.max(), predicted.max()) + 1)
    is_label, is_predicted = label_ids[:, None] == classes, predicted[:, None] == classes  # (cells, classes)
    hits = counts @ (is_label & is_predicted).astype(np.int64)
    return mean_f1(hits, counts @ (is_label.astype(np.int64) + is_predicted))
