import numpy as np
import pandas as pd
import pytest

from pipeline.errors import PipelineError
from pipeline.predictions import final_probabilities, judged, read_predictions


def table(**columns):
    size = len(next(iter(columns.values())))
    base = {"probabilities": [np.eye(7)[0]] * size, "tta": None}
    return pd.DataFrame({**base, **columns})


def test_a_version_answers_with_the_mean_of_its_views_where_it_has_views():
    plain, averaged = np.eye(7)[[1, 2]], np.eye(7)[[3, 4]]
    assert final_probabilities(table(probabilities=list(plain))).argmax(1).tolist() == [1, 2]
    assert final_probabilities(table(probabilities=list(plain), tta=list(averaged))).argmax(1).tolist() == [3, 4]


def test_a_dataset_is_judged_on_test_or_else_on_validation():
    faces = table(dataset=["a", "a", "b", "b"], split=["validation", "test", "validation", "validation"])
    assert judged(faces).index.tolist() == [1, 2, 3]


def test_a_version_that_was_not_evaluated_is_named(tmp_path):
    with pytest.raises(PipelineError, match="evaluate@v3"):
        read_predictions(tmp_path / "v3.parquet")
