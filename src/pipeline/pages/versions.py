"""The page that compares the versions: one self-contained HTML file that opens without a network."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.evaluation.curves import LOSSES, SCORE, best_row, rates, read_curves
from pipeline.evaluation.metrics import confusion
from pipeline.evaluation.predictions import judged, own_faces, read_predictions
from pipeline.files import read_output
from pipeline.labels import LABELS
from pipeline.pages import charts
from pipeline.pages.changes import changes_of, position
from pipeline.pages.templates import render_page
from pipeline.recipes import Recipe

CHANCE = math.log(len(LABELS))  # the cross-entropy of guessing
MOST_LOSS = 4.0  # shown: beyond it a training fails, and would press the others flat


@dataclass(frozen=True)
class Version:
    """What the stages left of a version.

    `facts` is its `model.json`, `metrics` what `evaluate` found, `confusion` the counts (7, 7) on its own datasets,
    rows are true labels.
    """

    name: str
    recipe: Recipe
    facts: dict[str, Any]
    metrics: dict[str, Any]
    curves: pd.DataFrame
    confusion: NDArray[Any]
    weights_sha256: str

    @property
    def macro_f1(self) -> float:
        """The score that versions are sorted by: on the test faces of its own datasets."""
        return self.metrics["own"]["macro_f1"]


def read_version(name: str, models: Path, predictions: Path, metrics: Path) -> Version:
    """Read what the stages left of a version in the folders of models, predictions and metrics.

    Raises:
        PipelineError: if something is missing or damaged, with the stage that makes it.
    """
    facts = read_output(models / name / "model.json", f"train@{name}")
    recipe = Recipe.model_validate(facts["recipe"])
    table = read_predictions(predictions / f"{name}.parquet")
    mine = judged(own_faces(table, recipe))
    return Version(
        name=name,
        recipe=recipe,
        facts=facts,
        metrics=read_output(metrics / f"{name}.json", f"evaluate@{name}"),
        curves=read_curves(metrics / "curves" / f"{name}.csv"),
        confusion=confusion(mine.label_id.to_numpy(), mine.predicted.to_numpy()),
        weights_sha256=table.weights_sha256.iloc[0],
    )


def decisions_by_weights(promotion: Path) -> dict[str, dict[str, Any]]:
    """Read the decisions of `promote`, one a registered model, by the SHA-256 of the champion's weights.

    Raises:
        PipelineError: if they are missing or damaged.
    """
    decisions = read_output(promotion, "promote")
    try:
        named = [entry for entry in decisions["decisions"] if entry["champion"]]
        return {entry["champion"]["weights_sha256"]: entry for entry in named}
    except (KeyError, TypeError) as error:
        raise PipelineError(f"{promotion} names no champion's weights; run `dvc repro --force promote`") from error


def versions_page(versions: Sequence[Version], champions: Mapping[str, dict[str, Any]]) -> str:
    """Render the page: scores, datasets and classes as heat maps, curves, recipes, confusion.

    Args:
        versions: in any order; they are sorted by their score.
        champions: as `decisions_by_weights` returns them.
    """
    ranked = sorted(versions, key=lambda version: -version.macro_f1)
    losses = [version.curves[name].max() for version in ranked for name in LOSSES]
    most_loss = min(MOST_LOSS, max(losses, default=MOST_LOSS))
    return render_page(
        "versions.html.j2",
        labels=LABELS,
        versions=ranked,
        champions={v.name: champions[v.weights_sha256] for v in ranked if v.weights_sha256 in champions},
        absent=[entry for sha256, entry in champions.items() if sha256 not in {v.weights_sha256 for v in ranked}],
        drawn=[version.name for version in ranked if version.facts["drawn"]],
        datasets=ranked[0].metrics["datasets"] if ranked else {},
        charts={version.name: _charts(version.curves, most_loss) for version in ranked},
        best={version.name: int(version.curves.epoch[best_row(version.curves)]) for version in ranked},
        size=(charts.WIDTH, charts.HEIGHT, charts.LEFT, charts.RIGHT, charts.TOP, charts.BOTTOM),
        recipes=differences(ranked),
    )


def differences(versions: Iterable[Version]) -> dict[str, dict[str, list[str]]]:
    """Return, by key of a recipe and version, what is not the default, as lines; `at_sample` has been applied."""
    found: dict[str, dict[str, list[str]]] = {}
    for version in versions:
        for key, lines in changes_of(version.recipe).items():
            found.setdefault(key, {})[version.name] = lines
    return dict(sorted(found.items(), key=lambda entry: position(entry[0])))


def _charts(curves: pd.DataFrame, most_loss: float) -> list[charts.Chart]:
    epochs, best = curves.epoch.tolist(), best_row(curves)
    return [
        charts.line_chart(
            "loss",
            epochs,
            {"train": curves[LOSSES[0]].tolist(), "validation": curves[LOSSES[1]].tolist()},
            top=most_loss,
            best=best,
            level=(CHANCE, "guessing"),
        ),
        charts.line_chart("validation macro-F1", epochs, {"macro-F1": curves[SCORE].tolist()}, top=1, best=best),
        charts.line_chart(
            "learning rate",
            epochs,
            {label: rate.tolist() for label, rate in rates(curves).items()},
            top=1.1 * max(rate.max() for rate in rates(curves).values()),
            best=best,
        ),
    ]
