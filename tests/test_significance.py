import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import f1_score
from sklearn.utils import resample
from statsmodels.stats.contingency_tables import mcnemar as reference

from pipeline.promotion.significance import macro_f1_gain, mcnemar


def answers(faces, accuracy, seed):
    """Labels of three frequencies, and two answers that are each right at the given rates."""
    random = np.random.default_rng(seed)
    label_ids = random.choice(7, faces, p=[0.3, 0.2, 0.2, 0.1, 0.1, 0.05, 0.05])
    given = [np.where(random.random(faces) < rate, label_ids, random.integers(0, 7, faces)) for rate in accuracy]
    return label_ids, *given


@pytest.mark.parametrize("seed", range(5))
def test_mcnemar_is_half_of_the_two_sided_test_of_statsmodels(seed):
    label_ids, mine, theirs = answers(200, (0.6, 0.5), seed)
    right, other = mine == label_ids, theirs == label_ids
    table = [[(right & other).sum(), (right & ~other).sum()], [(~right & other).sum(), (~right & ~other).sum()]]
    won, lost, p_value = mcnemar(label_ids, mine, theirs)
    assert [won, lost] == [table[0][1], table[1][0]]
    assert p_value == pytest.approx(binom.sf(won - 1, won + lost, 0.5))
    if won > lost:
        assert min(1, 2 * p_value) == pytest.approx(reference(table, exact=True).pvalue)


def test_who_answers_alike_is_no_better():
    label_ids, mine, _ = answers(50, (0.6, 0.5), 0)
    assert mcnemar(label_ids, mine, mine) == (0, 0, 1.0)
    gain = macro_f1_gain(label_ids, mine, mine, level=0.05, resamples=1000, seed=0)
    assert (gain.value, gain.lower, gain.upper) == (0, 0, 0)


def test_the_gain_is_the_difference_of_scikit_learns_scores_and_its_bounds_those_of_drawing_faces():
    label_ids, mine, theirs = answers(300, (0.7, 0.5), 1)

    def difference(rows):
        scores = [f1_score(label_ids[rows], given[rows], average="macro") for given in (mine, theirs)]
        return scores[0] - scores[1]

    gain = macro_f1_gain(label_ids, mine, theirs, level=0.05, resamples=4000, seed=0)
    drawn = [difference(resample(np.arange(300), random_state=seed)) for seed in range(1000)]
    assert gain.value == pytest.approx(difference(np.arange(300)))
    assert (gain.lower, gain.upper) == pytest.approx(tuple(np.quantile(drawn, [0.05, 0.95])), abs=0.012)


def test_the_same_seed_gives_the_same_bounds():
    label_ids, mine, theirs = answers(100, (0.6, 0.6), 2)
    bounds = [macro_f1_gain(label_ids, mine, theirs, level=0.05, resamples=2500, seed=3) for _ in range(2)]
    assert bounds[0] == bounds[1]
