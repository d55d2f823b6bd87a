import pandas as pd
import pytest
from versions import write_curves

from pipeline.errors import PipelineError
from pipeline.evaluation.curves import best_row, rates, read_curves


def test_epochs_count_from_1_and_the_best_is_the_one_with_the_best_macro_f1(tmp_path):
    curves = read_curves(write_curves(tmp_path / "v1.csv"))
    assert curves.epoch.tolist() == [1, 2, 3]
    assert best_row(curves) == 1


def test_rates_are_named_by_what_learns_at_them(tmp_path):
    curves = read_curves(write_curves(tmp_path / "v1.csv"))
    assert {name: rate.tolist() for name, rate in rates(curves).items()} == {
        "backbone": [1e-4, 1e-4, 5e-5],
        "head": [1e-3, 1e-3, 5e-4],
    }


def test_rates_that_are_the_same_are_one(tmp_path):
    same = [1e-3, 1e-3, 5e-4]
    curves = read_curves(write_curves(tmp_path / "v1.csv", **{"lr-AdamW/backbone": same}))
    assert {name: rate.tolist() for name, rate in rates(curves).items()} == {"all": same}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        ("", "No columns"),
        ("epoch,train/loss\n0,1.0\n", "without validation/accuracy, validation/loss, validation/macro_f1"),
        ("epoch,train/loss,validation/loss,validation/accuracy,validation/macro_f1\n0,1,1,1,1\n", "without rates"),
        ("epoch,lr-Adam/head,train/loss,validation/loss,validation/accuracy,validation/macro_f1\n", "without rows"),
    ],
)
def test_curves_that_are_none_are_a_sentence_that_says_what_to_run(tmp_path, content, words):
    if content is not None:
        (tmp_path / "v1.csv").write_text(content)
    with pytest.raises(PipelineError, match=rf"v1.csv is missing or damaged \(.*{words}.*; run `dvc repro train@v1`"):
        read_curves(tmp_path / "v1.csv")


def test_fixture_has_the_columns_of_a_training(tmp_path):
    assert "lr-AdamW/head" in pd.read_csv(write_curves(tmp_path / "v1.csv"))
