import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, permutation_test
from statsmodels.stats.multitest import multipletests

from pipeline.monitoring.drift import (
    Change,
    compare_means,
    compare_mix,
    compare_numbers,
    compare_share,
    decide,
    holm,
    stability_index,
)
from pipeline.params import MonitorParams

RANDOM = np.random.default_rng(0)


def test_stability_index_is_that_of_a_worked_example() -> None:
    # (.3 - .2) ln(.3 / .2) + (.5 - .5) ln 1 + (.2 - .3) ln(.2 / .3)
    found = stability_index(np.array([0.2, 0.5, 0.3]), np.array([0.3, 0.5, 0.2]))
    assert found == pytest.approx(0.2 * np.log(1.5))
    assert stability_index(np.array([0.5, 0.5, 0.0]), np.array([0.5, 0.5, 0.0])) == 0
    assert np.isfinite(stability_index(np.array([1.0, 0.0]), np.array([0.0, 1.0])))


def test_a_column_is_cut_into_tenths_of_the_reference() -> None:
    change = compare_numbers("brightness", np.arange(1000.0), np.arange(500.0))
    assert change.reference == pytest.approx([0.1] * 10)
    assert change.window == pytest.approx([0.2] * 5 + [0] * 5)
    assert (change.bins[0], change.bins[-1]) == ("below 99.9", "899.1 and more")
    assert change.p < 1e-30


@pytest.mark.parametrize(("window", "differs"), [([48.0] * 100, False), ([48.0] * 60 + [64.0] * 40, True)])
def test_a_column_of_one_value_can_be_compared(window: list[float], differs: bool) -> None:
    change = compare_numbers("width", np.full(200, 48.0), np.array(window))
    assert (change.p < 1e-4) == differs
    assert (change.size > 0.1) == differs
    assert len(change.bins) == len(change.reference) == len(change.window)


def test_a_rare_label_is_no_alarm_by_itself() -> None:
    reference, window = pd.Series(["happy"] * 300 + ["fear"]), pd.Series(["happy"] * 60)
    assert compare_mix("emotion", ["fear", "happy", "sad"], reference, window).p > 0.5
    assert compare_mix("emotion", ["fear", "happy"], window, window).p == 1


def test_accuracy_is_lost_only_downwards() -> None:
    low, high = RANDOM.beta(5, 5, 300), RANDOM.beta(8, 2, 300)
    assert compare_means("accuracy", high, low).p < 1e-6
    assert compare_means("accuracy", high, low).size == pytest.approx(high.mean() - low.mean())
    assert compare_means("accuracy", low, high).p > 0.999
    assert compare_means("accuracy", np.ones(60), np.ones(60)).p == 1


def test_a_share_is_held_against_windows_as_scipy_draws_them() -> None:
    reference, window = (np.random.default_rng(3).beta(a, 2, count) for a, count in ((0.3, 120), (0.25, 80)))
    change = compare_share("share of fear", reference, window, draws=20_000, seed=0)
    evidence = [-np.log1p(-(np.floor(10 * p) + 0.5) / 10) for p in (window, reference)]
    found = permutation_test(
        evidence, lambda a, b, axis: a.mean(axis) - b.mean(axis), vectorized=True, alternative="less",
        n_resamples=20_000, rng=np.random.default_rng(1),
    )  # fmt: skip
    assert 0.02 < found.pvalue < 0.5
    assert change.p == pytest.approx(found.pvalue, rel=0.1)
    assert change.size == pytest.approx(1 - window.mean() / reference.mean())


def test_a_label_that_is_gone_is_seen_where_its_answers_are_as_often_wrong_as_right() -> None:
    """A label of one face in seven, right by two faces in five, that is answered for some others."""

    def probabilities(count: int, share: float) -> np.ndarray:
        is_label = RANDOM.random(count) < share
        return np.where(is_label, RANDOM.beta(2, 3, count), RANDOM.beta(1, 9, count))

    reference, window = probabilities(2000, 1 / 7), probabilities(300, 0)
    assert compare_share("share", reference, window, 1000, 0).p == 1 / 1001
    assert compare_share("share", reference, probabilities(300, 2 / 7), 1000, 0).p > 0.9  # more of it is no loss
    assert compare_share("share", reference, np.zeros(60), 1000, 0).size == 1
    never = compare_share("share", np.zeros(60), np.zeros(60), 1000, 0)
    assert (never.p, never.size) == (1, 0)


@pytest.mark.parametrize("faces", [(200, 80), (80, 400)])
def test_a_share_gives_no_more_false_alarms_than_its_p_says(faces: tuple[int, int]) -> None:
    rounds = 1000
    found = [
        compare_share("share", *(RANDOM.beta(0.1, 4, count) for count in faces), draws=199, seed=n).p
        for n in range(rounds)
    ]
    for level in (0.01, 0.05, 0.2):
        below = sum(p <= level for p in found)
        assert below <= binom.ppf(0.999, rounds, level)
        assert below >= binom.ppf(0.001, rounds, level / 2)  # it is no wall either


def test_a_change_must_be_unlikely_among_all_looks_and_large() -> None:
    bins = ("a", "b")
    looks = [Change(str(n), "", 0.5, p, "PSI", bins) for n, p in enumerate([0.001, 0.004, 0.02, 0.9])]
    looks += [Change("small", "", 0.05, 1e-9), Change("accuracy", "", 0.06, 1e-9, "accuracy lost")]
    assert not decide([Change("share", "", 0.06, 1e-9, "share lost")], MonitorParams())[0].changed
    decided = decide(looks, MonitorParams(alpha=0.01, psi=0.1, accuracy_drop=0.05))
    # Holm: the six are held against .01 / 6, .01 / 5, ... in the order of their p; .004 fails at .01 / 3.
    assert [change.name for change in decided if change.changed] == ["0", "accuracy"]
    assert decided[1].p_adjusted == pytest.approx(3 * 0.004)
    assert decide([], MonitorParams()) == []


def test_p_values_are_adjusted_as_statsmodels_has_it() -> None:
    for count in (1, 2, 9):
        p = RANDOM.uniform(0, 0.3, count)
        np.testing.assert_allclose(holm(p.tolist()), multipletests(p, method="holm")[1])


def test_false_alarms_are_as_rare_as_alpha_says() -> None:
    params, rounds = MonitorParams(alpha=0.05, psi=0, accuracy_drop=0), 150
    labels = list("abcdefg")

    def sample(count: int) -> tuple[np.ndarray, pd.Series]:
        common = RANDOM.normal(size=(count, 1))  # columns of one face have something to do with each other
        numbers = 0.6 * common + RANDOM.normal(size=(count, 8))
        numbers[:, 0] = np.round(20 * numbers[:, 0])  # and some are whole numbers
        return numbers, pd.Series(RANDOM.choice(labels, count, p=[0.4, 0.2, 0.15, 0.1, 0.1, 0.04, 0.01]))

    alarms = 0
    for _ in range(rounds):
        (numbers, emotions), (others, other_emotions) = sample(200), sample(80)
        changes = [compare_numbers(str(n), numbers[:, n], others[:, n]) for n in range(8)]
        changes.append(compare_means("accuracy", numbers[:, 1], others[:, 1]))
        changes.append(compare_mix("emotion", labels[:5], emotions, other_emotions))
        alarms += any(change.changed for change in decide(changes, params))
    assert alarms <= binom.ppf(0.999, rounds, 0.05)
