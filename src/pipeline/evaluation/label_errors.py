"""Labels that are probably wrong, by confident learning: Northcutt et al. 2021, doi:10.1613/jair.1.12125; cleanlab."""

import warnings

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray

from pipeline.evaluation.predictions import stack

OUT_OF_SAMPLE = ("validation", "test")
FILTER = "both"  # of cleanlab's, the stricter ones together: every face that is named costs a person a look
# The label's probability less the largest other one: low where the answer is sure, and not only where the label is
# improbable, as by cleanlab's default; so the label that is suggested in its place is right more often.
QUALITY = "normalized_margin"
FEWEST_CLASSES = 2  # of which one could be taken for the other


def find_label_errors(label_ids: NDArray[np.integer], probabilities: NDArray[np.floating]) -> pd.DataFrame:
    """Find the faces whose label is probably wrong.

    Confident learning compares each class with its own mean probability, so that a class of which a version is never
    sure is not taken for errors, and estimates how many of the faces labelled i are j. As many are named: those that
    are least like i, and of these the ones with the largest margin in favour of j.

    Args:
        label_ids: of n faces of one dataset, (n,) integers.
        probabilities: of the same faces, (n, classes), by a model that did not learn from them: it would agree with
            every label that it has learned, right or wrong.

    Returns:
        a row a face that is named, the likeliest error first: `face` (0..n-1), `suggested` (the id of the likeliest
        label), `quality` of the label given (0..1, lower is worse). None where all faces have one label.
    """
    if len(np.unique(label_ids)) < FEWEST_CLASSES:
        return pd.DataFrame({"face": [], "suggested": [], "quality": []}).astype({"face": int, "suggested": int})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "May not flag all label issues in class")  # of a class with hardly a face
        named = find_label_issues(
            label_ids, probabilities, filter_by=FILTER, return_indices_ranked_by=QUALITY, n_jobs=1
        )
    quality = get_label_quality_scores(label_ids, probabilities, method=QUALITY)
    return pd.DataFrame({"face": named, "suggested": probabilities[named].argmax(1), "quality": quality[named]})


def suspect(predictions: pd.DataFrame) -> pd.DataFrame:
    """Find the faces whose label is probably wrong among those that a version answered, dataset by dataset.

    Args:
        predictions: `dataset, split, label_id, probabilities`; only validation and test faces are looked at.

    Returns:
        rows of them with `suggested` (a label's id) and `quality`, the likeliest error first.
    """
    unseen = predictions[predictions.split.isin(OUT_OF_SAMPLE)]
    suspects = [unseen.head(0).assign(suggested=0, quality=0.0)]
    for _, faces in unseen.groupby("dataset"):
        found = find_label_errors(faces.label_id.to_numpy(), stack(faces.probabilities))
        named = faces.iloc[found.face]
        suspects.append(named.assign(suggested=found.suggested.to_numpy(), quality=found.quality.to_numpy()))
    return pd.concat(suspects).sort_values("quality", kind="stable")
