"""The gate: which candidate is best, and whether it may take the champion's place."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.metrics import macro_f1
from pipeline.params import PromoteParams


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate is let through, why, and both macro-F1 on the same test faces."""

    promoted: bool
    reason: str
    candidate_macro_f1: float
    champion_macro_f1: float | None


def rank(predictions: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Rank versions by macro-F1 on the validation faces of all datasets in use, the best first.

    Args:
        predictions: by version; columns `split, label_id, predicted`.

    Returns:
        `version, validation_macro_f1, faces`; versions with the same score in the order given.
    """
    ranking = []
    for version, table in predictions.items():
        faces = table[table.split == "validation"]
        value = macro_f1(faces.label_id.to_numpy(), faces.predicted.to_numpy())
        ranking.append({"version": version, "validation_macro_f1": value, "faces": len(faces)})
    return sorted(ranking, key=lambda entry: -entry["validation_macro_f1"])


def judge(candidate: pd.DataFrame, champion: pd.Series | None, params: PromoteParams) -> Verdict:
    """Hold a candidate against the champion on the same test faces.

    Args:
        candidate: the test faces with `label_id` and what the candidate `predicted`.
        champion: what the champion predicts for the same rows; None where there is no champion yet.
        params: how much macro-F1 the candidate may lose.
    """
    label_ids = candidate.label_id.to_numpy()
    mine = macro_f1(label_ids, candidate.predicted.to_numpy())
    if champion is None:
        return Verdict(True, "there is no champion yet", mine, None)
    theirs = macro_f1(label_ids, champion.to_numpy())
    promoted = mine >= theirs - params.tolerance
    outcome = "no worse than" if promoted else "worse than"
    reason = f"macro-F1 {mine:.4f} on {len(candidate)} test faces, {outcome} the champion's {theirs:.4f}"
    return Verdict(promoted, reason, mine, theirs)
