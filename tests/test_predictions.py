import numpy as np
import pandas as pd
import pytest

from pipeline.errors import PipelineError
from pipeline.evaluation.predictions import judged, read_predictions


def table(**columns):
    size = len(next(iter(columns.values())))
    base = {"probabilities": [np.eye(7)[0]] * size, "tta": None}
    return pd.DataFrame({**base, **columns})


def test_what_is_predicted_is_what_the_exported_model_answers(tmp_path):
    plain, averaged = np.eye(7)[[1, 2]], np.eye(7)[[3, 4]]
    table(probabilities=list(plain), tta=list(averaged)).to_parquet(tmp_path / "v1.parquet")
    assert read_predictions(tmp_path / "v1.parquet").predicted.tolist() == [1, 2]


def test_a_dataset_is_judged_on_test_or_else_on_validation():
    faces = table(dataset=["a", "a", "b", "b"], split=["validation", "test", "validation", "validation"])
    assert judged(faces).index.tolist() == [1, 2, 3]


def test_a_version_that_was_not_evaluated_is_named(tmp_path):
    with pytest.raises(PipelineError, match="evaluate@v3"):
        read_predictions(tmp_path / "v3.parquet")
    (tmp_path / "v3.parquet").write_bytes(b"damaged")
    with pytest.raises(PipelineError, match="evaluate@v3"):
        read_predictions(tmp_path / "v3.parquet")
