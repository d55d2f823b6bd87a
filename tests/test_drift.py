import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom
from statsmodels.stats.multitest import multipletests

from pipeline.drift import Change, compare_means, compare_mix, compare_numbers, decide, holm, stability_index
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


def test_a_change_must_be_unlikely_among_all_looks_and_large() -> None:
    bins = ("a", "b")
    looks = [Change(str(n), "", 0.5, p, bins) for n, p in enumerate([0.001, 0.004, 0.02, 0.9])]
    looks += [Change("small", "", 0.05, 1e-9, bins), Change("accuracy", "", 0.06, 1e-9)]
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
    params, rounds = MonitorParams(alpha=0.05, psi=0, accuracy_drop=0), 300
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
