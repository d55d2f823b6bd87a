"""What a version answered for the validation and test faces: reading it, which of it counts, and its scores."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.evaluation.metrics import score
from pipeline.labels import LABELS
from pipeline.params import EvaluateParams
from pipeline.recipes import Recipe


def read_predictions(file: Path) -> pd.DataFrame:
    """Read the predictions of a version, with the label's id that its exported model would answer as `predicted`.

    That is without test-time augmentation, which is scored beside it but not served.

    Raises:
        PipelineError: if the version was not evaluated.
    """
    table = _read(file)
    return table.assign(predicted=stack(table.probabilities).argmax(1))


def read_weights_sha256(file: Path) -> str:
    """Read the SHA-256 of the weights that answered; raises PipelineError if the version was not evaluated."""
    return _read(file, ["weights_sha256"]).weights_sha256.iloc[0]


def _read(file: Path, columns: list[str] | None = None) -> pd.DataFrame:
    try:
        return pd.read_parquet(file, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise PipelineError(f"{file} is missing or damaged; run `dvc repro evaluate@{file.stem}`") from error


def stack(column: pd.Series) -> NDArray[np.float32]:
    """Return a column of n lists, of seven as a rule, as one array (n, classes)."""
    return np.stack(column.to_list()) if len(column) else np.empty((0, len(LABELS)), np.float32)


def judged(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the faces that a version is judged on: each dataset's test split, or validation where it has no test."""
    return predictions[predictions.split == predictions.dataset.map(judged_split(predictions))]


def of_classes(predictions: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """Return the faces that a recipe's classes are about, with the ids of its classes for those of the labels."""
    class_ids = recipe.class_ids(predictions.label_id.to_numpy())
    return predictions.assign(label_id=class_ids)[class_ids >= 0]


def own_faces(predictions: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """Return those of a recipe's own datasets and classes."""
    return of_classes(predictions[predictions.dataset.isin(recipe.data)], recipe).reset_index(drop=True)


def judged_split(predictions: pd.DataFrame) -> dict[str, str]:
    """Return, by dataset, the split that a version is judged on."""
    tested = set(predictions.dataset[predictions.split == "test"])
    return {name: "test" if name in tested else "validation" for name in sorted(predictions.dataset.unique())}


def score_faces(faces: pd.DataFrame, params: EvaluateParams) -> dict[str, Any]:
    """Score the predictions of some faces; see `pipeline.evaluation.metrics.score`."""
    averaged = stack(faces.tta) if faces.tta.notna().any() else None
    return score(faces.label_id.to_numpy(), stack(faces.probabilities), params, averaged)


def score_datasets(faces: pd.DataFrame, params: EvaluateParams) -> dict[str, dict[str, Any]]:
    """Score each dataset's faces, all of them and those that stand in no training set, and say of which split."""
    return {
        str(name): {
            "split": rows.split.iloc[0],
            "whole": score_faces(rows, params),
            "leak_free": score_faces(rows[~rows.leaked], params),
        }
        for name, rows in faces.groupby("dataset")
    }
