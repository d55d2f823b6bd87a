"""Holding out a share of a dataset that brings no official split: people and pictures whole, labels in proportion."""

import hashlib
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.datasets.duplicates import connect

PEOPLE = ""  # the stratum of people, whose faces have many labels; sorts before any label


def hold_out(faces: pd.DataFrame, shares: Mapping[str, float], seed: int) -> pd.Series:
    """Deal the faces of one dataset out to splits.

    What stays together is a unit: all faces of a person and all faces that show one picture, also by way of others (a
    picture of two people joins these two). Units with the same label are a stratum, and so are those with known people.
    Each stratum is ordered by the units' own hashes, and each split takes its share from the front, rounded; it takes
    one unit at least where the stratum has one for every split.

    New units push hardly any other across the lines between splits: k of them at most 2k, and far fewer as a rule.
    In 300 units of a label, held out by two tenths, 30 new ones move 3 (the mean of 1500 trials; in one of a hundred 9
    or more). To hold out whatever hash lies below the share would move none, but the test faces of such a label would
    be 14 to 52 in these trials instead of 30, and of 43 units none at all in one trial of a hundred.

    Args:
        faces: columns `label, person, group, pixel_sha256`; `person` is null where nobody knows.
        shares: of the units, by name of the split.
        seed: another one gives another choice.

    Returns:
        the name of a split a face, `train` for those that are not held out.
    """
    unit = _units(faces)
    # A person's name stays when faces come and go. So does a picture's own hash, but not that of its group, which is
    # that of any copy, in other datasets too.
    name = faces.person.where(faces.person.notna(), faces.pixel_sha256)
    units = pd.DataFrame(
        {
            "unit": unit,
            "stratum": faces.label.where(faces.person.isna(), PEOPLE),
            "place": [hashlib.sha256(f"{seed}/{own}".encode()).hexdigest() for own in name],
        }
    )
    units = units.sort_values(["stratum", "place"]).drop_duplicates("unit")
    strata = units.groupby("stratum")
    rank, size = strata.cumcount(), strata.unit.transform("size")
    split = pd.Series("train", index=units.unit)
    line, total = pd.Series(0, index=units.index), 0.0
    for assigned, share in shares.items():
        total += share
        least = line + ((size > len(shares)) & (share > 0))
        end = np.maximum((size * total).round(), least)
        split[((line <= rank) & (rank < end)).to_numpy()] = assigned
        line = end
    return pd.Series(split[unit].to_numpy(), index=faces.index)


def _units(faces: pd.DataFrame) -> NDArray[np.integer]:
    """Number the unit of each face: pictures and people are joined by the faces that show both."""
    pictures, different = pd.factorize(faces.group)
    people, known = pd.factorize(faces.person)
    named = people >= 0
    joined = connect(len(different) + len(known), pictures[named], len(different) + people[named])
    return joined[pictures]
