"""Do a dataset's numbers mean what the chosen map says? The class counts of its official release can tell."""

from collections.abc import Mapping

import numpy as np
from scipy.optimize import linear_sum_assignment

from pipeline.labels import LABELS

Map = Mapping[str, str]

CLEARLY = 0.2  # by so much the counts must fit better, as a mean of |log ratio| a class, for anything to be said


def propose_map(found: Mapping[str, int], official: Mapping[str, int]) -> Map:
    """Return the label that each native code most likely stands for: the assignment with the nearest class shares.

    Args:
        found: training pictures by native code.
        official: training pictures by label in the official release.
    """
    codes, labels = sorted(found), sorted(official)
    distances = np.abs(_log_shares(found, codes)[:, None] - _log_shares(official, labels)[None, :])
    return {codes[row]: labels[column] for row, column in zip(*linear_sum_assignment(distances), strict=True)}


def doubt(found: Mapping[str, int], official: Mapping[str, int], chosen: Map, known: Mapping[str, Map]) -> str | None:
    """Return a sentence if another map fits the class counts clearly better than the chosen one, else nothing.

    Counts that are alike, as in a balanced excerpt, fit every map, and raise no doubt. A doubt is no proof either: a
    person decides.

    Args:
        found: training pictures by native code.
        official: training pictures by label in the official release.
        chosen: the label of each code.
        known: maps that have a name to choose them by.
    """
    found = {code: count for code, count in found.items() if code in chosen}  # others are dropped, and counted as such
    if len(found) < len(LABELS):
        return None
    proposed, name = propose_map(found, official), None
    misfits = {name: _misfit(found, official, labels) for name, labels in known.items()}
    nearest = min(misfits, key=misfits.__getitem__)
    # Some classes are about as frequent as others; a map that somebody uses is likelier than one that nobody does.
    if misfits[nearest] - _misfit(found, official, proposed) < CLEARLY:
        proposed, name = known[nearest], nearest
    if _misfit(found, official, chosen) - _misfit(found, official, proposed) < CLEARLY:
        return None
    meant = ", ".join(f"{code} = {proposed[code]}" for code in sorted(found))
    return f"its class counts do not fit its label map; they fit {meant}" + (f" (label_map: {name})" if name else "")


def _misfit(found: Mapping[str, int], official: Mapping[str, int], meant: Map) -> float:
    codes = sorted(found)
    return float(np.abs(_log_shares(found, codes) - _log_shares(official, [meant[code] for code in codes])).mean())


def _log_shares(counts: Mapping[str, int], keys: list[str]) -> np.ndarray:
    return np.log([max(1, counts[key]) / sum(counts.values()) for key in keys])
