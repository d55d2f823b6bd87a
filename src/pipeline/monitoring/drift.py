"""Whether a window of answers differs from a reference, column by column, with a bound on false alarms."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2_contingency, fisher_exact, ks_2samp, ttest_ind
from scipy.stats.contingency import expected_freq

from pipeline.params import MonitorParams

Values = NDArray[np.floating]

BINS = 10  # of the population stability index
EXPECTED = 5  # faces of a label; below, the chi-square distribution is no good (Cochran 1954)
SHARE_LOST = 0.1  # that matters; where a label of FER2013 is gone, `v8` loses .28 (fear) to .69 (happy) of it
FINER = 4  # than the smallest p-value that decides is the one that a permutation test can tell

Measure = Literal["PSI", "share lost", "accuracy lost"]


@dataclass(frozen=True)
class Change:
    """How one thing differs between the reference and the window.

    `size` is how large the difference is, as `measure` has it: the population stability index, which part of a label's
    probability is lost, or what an accuracy lost. `p` is the probability of one as large or larger if nothing changed,
    `p_adjusted` the same where everything else was looked at too (Holm 1979). `bins` are the names of the bars of the
    page, `reference` and `window` their shares, in 0..1.
    """

    name: str
    test: str
    size: float
    p: float
    measure: Measure = "PSI"
    bins: tuple[str, ...] = ()
    reference: tuple[float, ...] = ()
    window: tuple[float, ...] = ()
    p_adjusted: float = 1.0
    changed: bool = False


def compare_numbers(name: str, reference: Values, window: Values) -> Change:
    """Compare the values of a column (n,) and (m,), finite, by the two-sample Kolmogorov-Smirnov test."""
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, BINS + 1)[1:-1]))
    tied = edges[-1] == reference.max()  # so many have the largest value that what is above needs a bin of its own
    if tied:
        edges = np.append(edges, np.nextafter(edges[-1], np.inf))
    shares = [_shares(np.searchsorted(edges, values, "right"), len(edges) + 1) for values in (reference, window)]
    ends = [f"{edge:.4g}" for edge in edges]
    between = [low if low == high else f"{low} to {high}" for low, high in zip(ends, ends[1:], strict=False)]
    bins = (f"below {ends[0]}", *between, f"above {ends[-1]}" if tied else f"{ends[-1]} and more")
    p = float(ks_2samp(reference, window, method="asymp").pvalue)
    return _change(name, "Kolmogorov-Smirnov", p, bins, *shares)


def compare_mix(name: str, labels: Sequence[str], reference: pd.Series, window: pd.Series) -> Change:
    """Compare how often each label occurs, by the chi-square test; the rarest labels count as one where they must.

    Where only two are left, and one of them is still too rare, Fisher's exact test takes its place.
    """
    counts = np.array([[(values == label).sum() for label in labels] for values in (reference, window)])
    table = counts[:, np.argsort(counts.sum(0))]
    while table.shape[1] > 2 and expected_freq(table).min() < EXPECTED:
        table = np.column_stack([table[:, :2].sum(1), table[:, 2:]])  # the two rarest count as one
        table = table[:, np.argsort(table.sum(0))]
    rare = bool(expected_freq(table).min() < EXPECTED)
    p = float((fisher_exact(table) if rare else chi2_contingency(table, correction=False)).pvalue)
    return _change(name, "chi-square", p, labels, *(row / row.sum() for row in counts))


def compare_share(name: str, reference: Values, window: Values, draws: int, seed: int) -> Change:
    """Test whether a label comes less often than it did, by its probabilities (n,) and (m,) in 0..1.

    The sum of -log(1 - p) over the window is small where the label is gone; as far as probabilities are right, nothing
    tells that better (Neyman and Pearson 1933). It is held against windows drawn from all faces of both, which is exact
    (Phipson and Smyth 2010, "Permutation p-values should never be zero"). Probabilities count by the tenth that they
    are in, so that only numbers of faces are drawn.

    Args:
        name: of what is compared.
        reference: n is at least 1.
        window: m is at least 1.
        draws: of windows; the smallest p is 1 / (draws + 1).
        seed: of the draws.
    """
    edges = np.linspace(0, 1, BINS + 1)
    counts = np.stack([np.bincount(np.digitize(p, edges[1:-1]), minlength=BINS) for p in (reference, window)])
    evidence = -np.log1p(-(edges[1:] + edges[:-1]) / 2)
    drawn = np.random.default_rng(seed).multivariate_hypergeometric(
        counts.sum(0), len(window), size=draws, method="marginals"
    )
    as_low = drawn @ evidence <= counts[1] @ evidence + 1e-9  # the same faces, added in another order
    was = float(reference.mean())
    lost = 1 - float(window.mean()) / was if was else 0.0
    return Change(name, "permutation", lost, float((as_low.sum() + 1) / (draws + 1)), "share lost")


def enough_draws(looks: int, alpha: float) -> int:
    """Return how many draws let a permutation test, one of so many looks, be clearly below `alpha` by Holm's method."""
    return int(np.ceil(FINER * looks / alpha))


def compare_means(name: str, reference: Values, window: Values) -> Change:
    """Test whether a mean of the window is lower than the reference's, by Welch's test; the size is what it lost.

    Of confidences, that is what the accuracy probably lost: difference of confidences (Guillory et al. 2021,
    "Predicting with confidence on unseen distributions", ICCV).
    """
    lost = float(reference.mean() - window.mean())
    varies = np.ptp(reference) > 0 or np.ptp(window) > 0
    p = ttest_ind(window, reference, equal_var=False, alternative="less").pvalue if varies else float(lost <= 0)
    return Change(name, "Welch's t", lost, float(p), "accuracy lost")


def decide(changes: Sequence[Change], params: MonitorParams) -> list[Change]:
    """Say of each what changed: what is unlikely by chance, all looks counted, and large enough to matter.

    By Holm's method the probability that anything is called changed where nothing is, is at most `alpha`. That holds
    for faces that have nothing to do with each other; the same person over and over is a change.
    """
    adjusted = holm([change.p for change in changes])
    smallest = {"PSI": params.psi, "share lost": SHARE_LOST, "accuracy lost": params.accuracy_drop}
    return [
        replace(change, p_adjusted=p, changed=p <= params.alpha and change.size >= smallest[change.measure])
        for change, p in zip(changes, adjusted, strict=True)
    ]


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values, adjusted for how many they are (Holm 1979, "A simple sequentially rejective procedure").

    statsmodels has it too, but takes a second to import, and collects garbage at every call.
    """
    order = np.argsort(p)
    stepped = np.asarray(p)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return adjusted.tolist()


def stability_index(reference: Values, window: Values) -> float:
    """Return the population stability index of two distributions, as shares (bins,) that sum to 1 each.

    It is the sum of (w - r) ln(w / r): Jeffreys' divergence (Siddiqi 2006, "Credit Risk Scorecards"; Yurdakul 2018).
    By custom, below 0.1 nothing changed and above 0.25 much. An empty bin counts as one of 1 in 10,000.
    """
    r, w = (np.maximum(shares, 1e-4) for shares in (reference, window))
    return float(((w - r) * np.log(w / r)).sum())


def _shares(bins: NDArray[np.integer], count: int) -> Values:
    return np.bincount(bins, minlength=count) / len(bins)


def _change(name: str, test: str, p: float, bins: Sequence[str], reference: Values, window: Values) -> Change:
    size = stability_index(reference, window)
    return Change(name, test, size, p, "PSI", tuple(bins), tuple(reference.tolist()), tuple(window.tolist()))
