"""Do a dataset's numbers mean what the chosen map says? Its class counts can tell, and a model that learned elsewhere.

Either way the Hungarian method (Kuhn 1955) proposes the map that fits best, a map that somebody uses is preferred where
it fits about as well, and a sentence says so where the chosen one fits clearly worse. A doubt is no proof: a person
decides.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pipeline.labels import LABELS
from pipeline.sources.picture import Source

Map = Mapping[str, str]
Faces = NDArray[np.integer]

CLEARLY_COUNTED = 0.2  # by so much the counts must fit better, as a mean of |log ratio| a class, to be worth a word
CLEARLY_ANSWERED = 0.1  # and answers, as a mean share of a class: models mix labels up under the right map too
FEWEST_FACES = 10  # of a class: fewer say nothing about its number
ERROR = 0.01  # the probability, at most, that the choice of the faces alone has another map fit better
CHANCE = 1 / len(LABELS)


class Fit(NamedTuple):
    """A map that fits, and its name if it has one."""

    labels: Map
    name: str | None

    def spell(self) -> str:
        """Return the map in words."""
        return ", ".join(f"{code} = {label}" for code, label in sorted(self.labels.items()))


def propose_map(found: Mapping[str, int], official: Mapping[str, int]) -> Map:
    """Return the label that each native code most likely stands for: the assignment with the nearest class shares.

    Args:
        found: training pictures by native code.
        official: training pictures by label in the official release.
    """
    codes, labels = sorted(found), sorted(official)
    return _assign(codes, labels, np.abs(_log_shares(found, codes)[:, None] - _log_shares(official, labels)[None, :]))


def doubt_counts(
    found: Mapping[str, int], official: Mapping[str, int], chosen: Map, known: Mapping[str, Map]
) -> str | None:
    """Return a sentence if another map fits the class counts clearly better than the chosen one, else nothing.

    Counts that are alike, as in a balanced excerpt, fit every map, and raise no doubt.

    Args:
        found: training pictures by native code.
        official: training pictures by label in the official release.
        chosen: the label of each code.
        known: maps that have a name to choose them by, the chosen one among them.
    """
    found = {code: count for code, count in found.items() if code in chosen}  # others are dropped, and counted as such
    if len(found) < len(LABELS):
        return None
    codes = sorted(found)

    def misfit(meant: Map) -> float:
        distances = _log_shares(found, codes) - _log_shares(official, [meant[code] for code in codes])
        return float(np.abs(distances).mean())

    better = _find_better(misfit, propose_map(found, official), misfit(chosen), known, CLEARLY_COUNTED, CLEARLY_COUNTED)
    if better is None:
        return None
    name = f" (label_map: {better.name})" if better.name else ""
    return f"its class counts do not fit its label map; they fit {better.spell()}{name}"


def doubt_answers(version: str, answers: Mapping[str, Faces], chosen: Map, source: Source) -> str | None:
    """Return a sentence if a model's answers fit another map clearly better than the chosen one, else nothing.

    A map fits by the mean, over the native codes, of the share of a code's faces that got the label meant: a model that
    says `happy` to everything fits every map alike, however many faces are happy. A label that no model answers, as
    contempt, counts as guessed. Another map must fit better than the chosen one and than guessing does, and that by
    more than chance can explain: by Hoeffding's inequality (1963), for all maps at once (Bonferroni), so that few faces
    or a weak model raise no doubt.

    Args:
        version: the model. It must not have learned from the dataset: it would agree with any map.
        answers: by native code, how many faces got each of the seven labels, (7,) integers.
        chosen: the label of each code.
        source: the dataset's maps that have a name.
    """
    answers = {code: faces for code, faces in sorted(answers.items()) if faces.sum() >= FEWEST_FACES}
    # What the chosen map calls contempt was dropped: by another map, that is one of the seven.
    if len(answers) < len(LABELS) - 1:
        return None
    labels = sorted({label for known in source.label_maps.values() for label in known.values()})
    shares = {
        code: dict.fromkeys(labels, CHANCE) | dict(zip(LABELS, faces / faces.sum(), strict=True))
        for code, faces in answers.items()
    }

    def misfit(meant: Map) -> float:
        return 1 - float(np.mean([shares[code][meant[code]] for code in answers]))

    proposed = _assign(
        list(answers), labels, np.array([[-shares[code][label] for label in labels] for code in answers])
    )
    known, every = (
        max(CLEARLY_ANSWERED, _sampling_error(answers, maps))
        for maps in (len(source.label_maps), math.perm(len(labels), len(answers)))
    )
    better = _find_better(misfit, proposed, min(misfit(chosen), 1 - CHANCE), source.label_maps, known, every)
    if better is None:
        return None
    hint = f"; set datasets.{source.name}.label_map: {better.name} if that is so" if better.name else ""
    return f"the answers of {version} do not fit its label map; they fit {better.spell()}{hint}"


def _find_better(
    misfit: Callable[[Map], float],
    proposed: Map,
    present: float,
    known: Mapping[str, Map],
    named: float,
    unnamed: float,
) -> Fit | None:
    """Return the map with a misfit below the present one, by so much as maps with a name and those without must."""
    nearest = min(known, key=lambda name: misfit(known[name]))
    # A map that somebody uses is likelier than one that nobody does.
    if min(present, misfit(known[nearest])) - misfit(proposed) >= unnamed:
        return Fit(proposed, None)
    return Fit(known[nearest], nearest) if present - misfit(known[nearest]) >= named else None


def _assign(codes: list[str], labels: list[str], costs: NDArray[np.floating]) -> Map:
    """Return the map with the lowest sum of costs (codes, labels)."""
    return {codes[row]: labels[column] for row, column in zip(*linear_sum_assignment(costs), strict=True)}


def _sampling_error(answers: Mapping[str, Faces], maps: int) -> float:
    """Return by how much the fits of two maps may differ from what they are on more such faces."""
    spread = sum(1 / faces.sum() for faces in answers.values()) / len(answers) ** 2
    return math.sqrt(2 * math.log(maps / ERROR) * spread)


def _log_shares(counts: Mapping[str, int], keys: list[str]) -> NDArray[np.floating]:
    return np.log([max(1, counts[key]) / sum(counts.values()) for key in keys])
