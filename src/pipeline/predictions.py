"""What a version answered for the validation and test faces: reading it, and which of it a version is judged by."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.labels import LABELS


def read_predictions(file: Path) -> pd.DataFrame:
    """Read the predictions of a version, with the label's id that its exported model would answer as `predicted`.

    That is without test-time augmentation, which is scored beside it but not served.

    Raises:
        PipelineError: if the version was not evaluated.
    """
    try:
        table = pd.read_parquet(file)
    except OSError as error:
        raise PipelineError(f"{file} is missing or damaged; run `dvc repro evaluate@{file.stem}`") from error
    return table.assign(predicted=stack(table.probabilities).argmax(1))


def stack(column: pd.Series) -> NDArray[np.float32]:
    """Return a column of n lists of seven as one array (n, 7)."""
    return np.stack(column.to_list()) if len(column) else np.empty((0, len(LABELS)), np.float32)


def judged(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the faces that a version is judged on: each dataset's test split, or validation where it has no test."""
    return predictions[predictions.split == predictions.dataset.map(judged_split(predictions))]


def judged_split(predictions: pd.DataFrame) -> dict[str, str]:
    """Return, by dataset, the split that a version is judged on."""
    tested = set(predictions.dataset[predictions.split == "test"])
    return {name: "test" if name in tested else "validation" for name in sorted(predictions.dataset.unique())}
