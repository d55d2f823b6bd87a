"""The gate: which candidate is best, and whether it may take the champion's place."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from pipeline.evaluation.metrics import calibration_error, macro_f1
from pipeline.labels import LABELS
from pipeline.params import PromoteParams
from pipeline.promotion.significance import Gain, macro_f1_gain, mcnemar


@dataclass(frozen=True)
class CandidateFacts:
    """What the gate knows of a candidate beside its answers.

    `dirty` is whether the tree had uncommitted changes when it was trained, or None where nobody knows. `megabytes` is
    the size of its exported file, `milliseconds` what that takes for one face.
    """

    valid_data: bool
    dirty: bool | None
    megabytes: float
    milliseconds: float


@dataclass(frozen=True)
class Check:
    """One of the gate's rules: whether the candidate keeps it, and the sentence with the numbers."""

    rule: str
    passed: bool
    says: str


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate is let through, and why: all rules that it was held to.

    `gain` and `wins` (faces that only the candidate has right, and those that only the champion has) compare it with
    the champion on the same test faces; None where there is no champion yet.
    """

    checks: tuple[Check, ...]
    candidate_macro_f1: float
    champion_macro_f1: float | None = None
    wins: tuple[int, int] | None = None
    p_value: float | None = None
    gain: Gain | None = None

    @property
    def promoted(self) -> bool:
        """Whether it keeps every rule."""
        return all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """What speaks against it, or, if nothing does, how it compares."""
        broken = [check.says for check in self.checks if not check.passed]
        if broken:
            return "; ".join(broken)
        return "; ".join(check.says for check in self.checks if check.rule in ("more right", "macro-F1", "first"))

    def numbers(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        return {
            "promoted": self.promoted,
            "reason": self.reason,
            "checks": [dataclasses.asdict(check) for check in self.checks],
            "candidate_macro_f1": self.candidate_macro_f1,
            "former_champion_macro_f1": self.champion_macro_f1,
            "wins": self.wins,
            "p_value": self.p_value,
            "gain": self.gain and dataclasses.asdict(self.gain),
        }


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


def judge(
    faces: pd.DataFrame,
    answers: NDArray[Any],
    champion: NDArray[Any] | None,
    candidate: CandidateFacts,
    params: PromoteParams,
    *,
    choices: int = 1,
) -> Verdict:
    """Hold a candidate against the rules, and against the champion on the same test faces.

    That an equally good candidate passes has at most the probability `params.alpha`: it must both have more faces right
    (McNemar's exact test) and a macro-F1 whose gain lies above 0 (paired bootstrap). Equal ones keep the champion.

    Args:
        faces: the frozen test faces, `label_id, dataset`.
        answers: probabilities (n, 7) of the candidate for them.
        champion: those of the champion; None where there is none yet.
        candidate: what else is known of it.
        params: the rules' numbers.
        choices: among how many the candidate was chosen by these very faces. Who looks at several and takes the best
            is lucky more often, so the level is divided by it (Bonferroni).
    """
    label_ids = faces.label_id.to_numpy()
    mine = answers.argmax(1)
    checks = [*_own_rules(candidate, params), _calibration(label_ids, answers, params)]
    score = macro_f1(label_ids, mine)
    if champion is None:
        first = Check("first", True, f"there is no champion yet; macro-F1 {score:.4f} on {len(faces)} test faces")
        return Verdict((*checks, first), score)
    theirs = champion.argmax(1)
    level = params.alpha / choices
    won, lost, p_value = mcnemar(label_ids, mine, theirs)
    gain = macro_f1_gain(label_ids, mine, theirs, level=level, resamples=params.resamples, seed=params.seed)
    checks += [
        Check(
            "more right",
            p_value <= level,
            f"{won} faces only the candidate has right, {lost} only the champion: p = {p_value:.2g} "
            f"({'at most' if p_value <= level else 'above'} {level:.2g})",
        ),
        Check(
            "macro-F1",
            gain.lower > 0,
            f"macro-F1 {score:.4f} on {len(faces)} test faces, the champion's {score - gain.value:.4f}: "
            f"{gain.value:+.4f} (from {gain.lower:+.4f} to {gain.upper:+.4f})",
        ),
        _classes(label_ids, mine, theirs, params),
        _datasets(faces, mine, theirs, params),
    ]
    return Verdict(tuple(checks), score, macro_f1(label_ids, theirs), (won, lost), p_value, gain)


def _own_rules(candidate: CandidateFacts, params: PromoteParams) -> list[Check]:
    tree = {True: "had uncommitted changes", False: "was clean", None: "is not known"}[candidate.dirty]
    return [
        Check("data", candidate.valid_data, f"its data {'passed' if candidate.valid_data else 'failed'} validation"),
        Check(
            "tree", candidate.dirty is False or params.dirty == "flag", f"the git tree that it was trained from {tree}"
        ),
        Check(
            "size",
            candidate.megabytes <= params.megabytes,
            f"its file takes {candidate.megabytes:.1f} MB (at most {params.megabytes:g})",
        ),
        Check(
            "latency",
            candidate.milliseconds <= params.milliseconds,
            f"a face takes {candidate.milliseconds:.1f} ms (at most {params.milliseconds:g})",
        ),
    ]


def _calibration(label_ids: NDArray[Any], answers: NDArray[Any], params: PromoteParams) -> Check:
    error = calibration_error(label_ids, answers, params.calibration_bins)
    return Check("calibration", error <= params.ece, f"its calibration error is {error:.3f} (at most {params.ece:g})")


def _classes(label_ids: NDArray[Any], mine: NDArray[Any], theirs: NDArray[Any], params: PromoteParams) -> Check:
    ids = np.unique(label_ids)
    own, former = (f1_score(label_ids, found, labels=ids, average=None, zero_division=0) for found in (mine, theirs))
    falls = {LABELS[label_id]: float(fall) for label_id, fall in zip(ids, former - own, strict=True)}
    return _largest_fall("class", "F1", falls, params.class_margin)


def _datasets(faces: pd.DataFrame, mine: NDArray[Any], theirs: NDArray[Any], params: PromoteParams) -> Check:
    falls = {
        str(name): macro_f1(labels.to_numpy(), theirs[labels.index]) - macro_f1(labels.to_numpy(), mine[labels.index])
        for name, labels in faces.reset_index(drop=True).groupby("dataset").label_id
    }
    return _largest_fall("dataset", "macro-F1", falls, params.dataset_margin)


def _largest_fall(what: str, score: str, falls: Mapping[str, float], margin: float) -> Check:
    name = max(falls, key=falls.__getitem__)
    fall = falls[name]
    says = f"no {what} falls" if fall <= 0 else f"the {score} of {name} falls by {fall:.3f}"
    return Check(f"every {what}", fall <= margin, f"{says} (at most {margin:g})")
