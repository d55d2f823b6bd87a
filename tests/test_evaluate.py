"""Evaluation of a version that knows its labels by their brightness, in a real tracking store."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from tables import write_tables

from pipeline import tracking
from pipeline.checkpoint import load_checkpoint, save_checkpoint
from pipeline.networks import ExpressionNetwork
from pipeline.params import EvaluateParams, load_params
from pipeline.stages.evaluate import evaluate, main


def write_version(root: Path, version: str = "v1", seed: int = 0, **facts: object) -> None:
    """Write an untrained version of a recipe as `train` would."""
    recipe = load_params().recipe(version)
    torch.manual_seed(seed)
    made = {"version": version, "scale": "sample", "drawn": True, "detector": None, "validation": {"macro_f1": 0.5}}
    save_checkpoint(root / "models" / version, ExpressionNetwork(recipe), recipe, made | facts)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    params = Path("params.yaml").read_text()
    monkeypatch.chdir(tmp_path)
    # By its whole path: MLflow keeps one open store an address, and every test has its own.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    (tmp_path / "params.yaml").write_text(params)
    return tmp_path


def run_stage(root, version="v1"):
    faces, splits = write_tables(root, ("fer2013", "rafdb", "affectnet", "wild"))
    write_version(root, version)
    out = [root / name for name in ("metrics.json", "predictions.parquet", "confusion.png")]
    main(version, root / "models" / version, faces, splits, *out)
    return json.loads(out[0].read_text()), pd.read_parquet(out[1]), out[2]


def test_metrics_have_the_shape_that_others_rely_on(workplace):
    metrics, _, picture = run_stage(workplace)
    assert (metrics["version"], metrics["scale"]) == ("v1", "sample")
    assert set(metrics["datasets"]) == {"fer2013", "rafdb", "affectnet", "wild"}
    parts = [metrics["own"], metrics["overall"], metrics["datasets"]["wild"]["whole"]]
    for part in parts:
        assert set(part) == {"n", "accuracy", "macro_f1", "weighted_f1", "ece", "ci95", "tta"}
        low, high = part["ci95"]["macro_f1"]
        assert 0 <= low <= part["macro_f1"] <= high <= 1
    assert [part["n"] for part in parts] == [14, 56, 14]
    assert metrics["datasets"]["fer2013"]["leak_free"]["n"] == 7
    assert metrics["classes"]["angry"]["support"] == 2
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_predictions_are_the_networks_own(workplace):
    _, predictions, _ = run_stage(workplace)
    assert set(predictions.split) == {"validation", "test"}
    assert predictions.probabilities.map(sum).tolist() == pytest.approx([1] * len(predictions), abs=1e-5)
    assert set(predictions.weights_sha256) == {load_checkpoint(workplace / "models" / "v1").sha256()}


def test_views_are_scored_beside_the_plain_answer(workplace):
    metrics, predictions, _ = run_stage(workplace, "v6")
    assert metrics["own"]["tta"]["n"] == metrics["own"]["n"]
    assert any((plain != mean).any() for plain, mean in zip(predictions.probabilities, predictions.tta, strict=True))


def test_the_run_that_the_tracking_store_lost_is_made_again(workplace):
    metrics, _, _ = run_stage(workplace)
    run = tracking.find_run(tracking.connect(), "v1", load_checkpoint(workplace / "models" / "v1").sha256())
    assert run is not None
    assert run.data.tags["recreated"] == "true"
    assert run.data.metrics["own/macro_f1"] == pytest.approx(metrics["own"]["macro_f1"])
    assert run.data.metrics["rafdb/test/accuracy"] == metrics["datasets"]["rafdb"]["whole"]["accuracy"]
    plots = tracking.connect().list_artifacts(run.info.run_id, "plots")
    assert [Path(plot.path).name for plot in plots] == ["confusion.png"]


def test_a_dataset_without_test_faces_is_judged_on_validation_and_says_so():
    faces = pd.DataFrame(
        {
            "dataset": "fer2013",
            "split": "validation",
            "label_id": range(7),
            "leaked": False,
            "probabilities": [list(row) for row in torch.eye(7).numpy()],
            "tta": None,
        }
    )
    result = evaluate(faces, ("fer2013",), EvaluateParams())
    assert result["datasets"]["fer2013"]["split"] == "validation"
    assert result["own"]["accuracy"] == 1
