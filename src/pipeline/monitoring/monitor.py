"""Watching a served model: a window of its log of predictions beside a reference."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import PipelineError
from pipeline.evaluation.metrics import macro_f1
from pipeline.evaluation.predictions import stack
from pipeline.inference.answer_table import NUMBERS
from pipeline.labels import LABEL_IDS, LABELS
from pipeline.monitoring.drift import (
    Change,
    compare_means,
    compare_mix,
    compare_numbers,
    compare_share,
    decide,
    enough_draws,
)
from pipeline.monitoring.estimate import ENOUGH, Calibrator, Score, estimate
from pipeline.params import MonitorParams

MIX, ACCURACY = "predicted emotion", "estimated accuracy"


@dataclass(frozen=True)
class Watched:
    """What a window of a log shows beside a reference.

    `others` counts the window's answers of other versions, which are left out; `skipped` are columns that can not be
    compared. `estimated` are accuracy and macro-F1 of the window as CBPE has them, and `known` those of the reference,
    where its labels are known.
    """

    name: str
    version: str
    reference: str
    reference_rows: int
    since: datetime
    until: datetime
    rows: int
    others: int
    changes: list[Change]
    skipped: list[str]
    estimated: dict[str, Score]
    known: dict[str, float] | None
    calibrated: bool

    @property
    def drifted(self) -> list[str]:
        """What changed."""
        return [change.name for change in self.changes if change.changed]

    def describe(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        times = {"since": self.since.isoformat(), "until": self.until.isoformat()}
        return {"drift": bool(self.drifted), "changed": self.drifted, **asdict(self), **times}


def compare(log: pd.DataFrame, reference: pd.DataFrame, source: str, params: MonitorParams) -> Watched:
    """Compare the answers of the version that answered last with a reference.

    Args:
        log: the window, as `pipeline.monitoring.logbook.read_log` returns it.
        reference: the same columns, and `label` where it is known. Of another log, the answers of this version count.
        source: what to call the reference.
        params: when a change is one.

    Raises:
        PipelineError: if either has too few rows.
    """
    if log.empty:
        raise PipelineError("the log has no answers in this window")
    name, version = log[["name", "version"]].iloc[-1]
    window = log[(log.name == name) & (log.version == version)]
    _enough(f"the window has {len(window)} answers of {name} version {version}", window, params)
    labelled = "label" in reference and bool(reference.label.notna().all())
    if not labelled:
        reference = reference[(reference.name == name) & (reference.version == version)]
    _enough(f"the reference {source} has {len(reference)} answers of {name} version {version}", reference, params)
    columns = {column: tuple(_finite(table[column]) for table in (reference, window)) for column in NUMBERS}
    compared = [column for column, both in columns.items() if min(map(len, both)) >= params.minimum_rows]
    draws = enough_draws(len(compared) + len(LABELS) + 2, params.alpha)  # and the mix, and the accuracy
    shares = zip(LABELS, stack(reference.probabilities).T, stack(window.probabilities).T, strict=True)
    changes = [
        *(compare_numbers(column, *columns[column]) for column in compared),
        compare_mix(MIX, LABELS, reference.emotion, window.emotion),
        *(compare_share(f"share of {label}", was, now, draws, params.seed) for label, was, now in shares),
        compare_means(ACCURACY, *columns["confidence"]),
    ]
    probabilities, known, calibrated = stack(window.probabilities), None, False
    if labelled:
        label_ids = reference.label.map(LABEL_IDS).to_numpy()
        answered = _ids(reference)
        known = {"accuracy": float((label_ids == answered).mean()), "macro_f1": macro_f1(label_ids, answered)}
        if calibrated := len(reference) >= ENOUGH:
            probabilities = Calibrator(stack(reference.probabilities), label_ids)(probabilities)
    return Watched(
        name=name,
        version=version,
        reference=source,
        reference_rows=len(reference),
        since=window.time.iloc[0].to_pydatetime(),
        until=window.time.iloc[-1].to_pydatetime(),
        rows=len(window),
        others=len(log) - len(window),
        changes=decide(changes, params),
        skipped=[column for column in NUMBERS if column not in compared],
        estimated=estimate(probabilities, _ids(window), params.resamples, params.seed),
        known=known,
        calibrated=calibrated,
    )


def summarize(watched: Watched) -> Sequence[str]:
    """Return what is told in the terminal, in lines."""
    accuracy, known = watched.estimated["accuracy"], watched.known
    was = f"; on the reference it was {known['accuracy']:.3f}" if known else ""
    lines = [
        f"{watched.name} version {watched.version}: {watched.rows} faces from {watched.since:%Y-%m-%d %H:%M} to "
        f"{watched.until:%Y-%m-%d %H:%M} UTC, beside {watched.reference_rows} of {watched.reference}",
        f"estimated accuracy {accuracy.value:.3f} (95 %: {accuracy.lower:.3f} to {accuracy.upper:.3f}){was}",
    ]
    if watched.others:
        lines.append(f"{watched.others} answers of other versions are left out")
    if watched.skipped:
        lines.append(f"not compared, because too few faces have them: {', '.join(watched.skipped)}")
    for change in sorted(watched.changes, key=lambda change: change.p_adjusted):
        if change.changed:
            lines.append(f"changed: {change.name} ({change.measure} {change.size:.3f}, p {change.p_adjusted:.1g})")
    return [*lines, "drift" if watched.drifted else "no drift"]


def _enough(said: str, rows: pd.DataFrame, params: MonitorParams) -> None:
    if len(rows) < params.minimum_rows:
        raise PipelineError(f"{said}, too few to compare (monitor.minimum_rows: {params.minimum_rows})")


def _finite(column: pd.Series) -> np.ndarray:
    return column.dropna().to_numpy(np.float64)


def _ids(answers: pd.DataFrame) -> np.ndarray:
    return answers.emotion.map(LABEL_IDS).to_numpy()
