"""A recurrent version from a handful of clips to its metrics, through the stages' own commands and a real store."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from clip_tables import CLIP_RECIPE, write_clips
from safetensors.torch import load_file
from tables import write_made_from, write_tables

from pipeline.datasets.tables import read_clips
from pipeline.errors import PipelineError
from pipeline.evaluation.clips import predict_clips, score_clips
from pipeline.evaluation.predictions import stack
from pipeline.files import read_json, sha256_of
from pipeline.networks.checkpoint import load_checkpoint, save_checkpoint
from pipeline.networks.recurrent import ClipNetwork, build_network
from pipeline.pages.version import version_page
from pipeline.params import EvaluateParams
from pipeline.recipes import Recipe
from pipeline.registry import tracking
from pipeline.stages import evaluate, inputs, train

RECIPE = {
    **CLIP_RECIPE,
    "optimizer": {"lr": 5e-3},
    "batch_size": 8,
    "augment": [{"HorizontalFlip": {"p": 0.5}}],
    "mixup": 0.1,
    "tta": "flip",
    "at_sample": {"epochs": 12},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a version that was trained and scored: brightness tells its labels, once the frames moved."""
    root = tmp_path_factory.mktemp("clips")
    (root / "params.yaml").write_text(yaml.safe_dump({"run": ["lstm"], "recipes": {"lstm": RECIPE}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
        folder, made_from = write_clips(root / "data", {"train": 6, "validation": 2, "test": 3}), root / "inputs"
        faces, splits = root / "faces", root / "splits.parquet"  # which it does not need
        inputs.main("lstm", made_from, faces=faces, splits=splits, clips=folder)
        train.main("lstm", faces, splits, made_from, root / "models", root / "curves.csv", folder)
        out = [root / name for name in ("metrics.json", "predictions.parquet", "pictures")]
        evaluate.main("lstm", root / "models" / "lstm", faces, splits, root / "curves.csv", *out, clips=folder)
        yield root


def test_the_hash_of_the_clips_is_what_it_is_made_from(trained):
    assert read_json(trained / "inputs" / "faces.json") == {"clips": sha256_of(trained / "data" / "clips.parquet")}


def test_a_version_of_clips_is_trained_and_kept_like_any_other(trained):
    checkpoint = load_checkpoint(trained / "models" / "lstm")
    assert isinstance(checkpoint.network(), ClipNetwork)
    assert checkpoint.facts["drawn"]
    assert any(name.startswith("head.0.lstm") for name in load_file(checkpoint.weights))
    assert len(pd.read_csv(trained / "curves.csv")) == checkpoint.facts["epochs"] == 12
    assert not list((trained / "checkpoints").rglob("*.ckpt"))


def test_metrics_have_the_shape_of_other_versions_and_say_what_single_frames_tell(trained):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert (metrics["version"], metrics["scale"]) == ("lstm", "sample")
    assert set(metrics) == {"version", "scale", "own", "overall", "datasets", "classes", "static", "calibration"}
    for part in (metrics["own"], metrics["datasets"]["clips"]["whole"], *metrics["static"].values()):
        assert set(part) == {"n", "accuracy", "macro_f1", "weighted_f1", "ece", "ci95", "tta"}
        low, high = part["ci95"]["macro_f1"]
        assert 0 <= low <= part["macro_f1"] <= high <= 1
        assert part["n"] == 21
    assert metrics["datasets"]["clips"]["split"] == "test"
    assert metrics["own"]["tta"]["n"] == 21
    assert metrics["own"]["accuracy"] > 0.5  # .14 by chance
    assert metrics["static"]["first"]["accuracy"] < 0.3  # all first frames look alike
    drawn = {file.name for file in (trained / "pictures").iterdir()}
    assert drawn == {"confusion.png", "precision_recall.png", "reliability.png", "roc.png"}
    facts = read_json(trained / "models" / "lstm" / "model.json")
    page = version_page(facts, "0" * 64, metrics, trained / "pictures")
    assert f"<b>{metrics['static']['first']['macro_f1']:.3f}</b>" in page
    assert "Slices" not in page


def test_predictions_are_those_of_the_network(trained):
    predictions = pd.read_parquet(trained / "predictions.parquet")
    assert set(predictions.split) == {"test"}
    for column in ("probabilities", "first", "last", "tta"):
        np.testing.assert_allclose(stack(predictions[column]).sum(1), 1, atol=1e-5)
    assert not np.allclose(stack(predictions.probabilities), stack(predictions["last"]))
    assert set(predictions.weights_sha256) == {load_checkpoint(trained / "models" / "lstm").sha256()}


def test_the_run_holds_both_what_training_and_what_evaluation_found(trained):
    run = tracking.find_run(tracking.connect(), "lstm", load_checkpoint(trained / "models" / "lstm").sha256())
    assert run is not None
    assert run.data.params["recurrent.frames"] == "3"
    wanted = {"train/loss", "final/macro_f1", "own/macro_f1", "static/first/macro_f1", "static/last/macro_f1"}
    assert wanted <= set(run.data.metrics)


def test_a_network_of_single_frames_is_not_compared_with_itself(tmp_path):
    recipe = Recipe.model_validate({**CLIP_RECIPE, "recurrent": {"width": 32, "frames": 1}})
    save_checkpoint(tmp_path / "still", build_network(recipe), recipe, {"version": "still"})
    clips = read_clips(write_clips(tmp_path, {"test": 1}), "test")
    predictions = predict_clips(load_checkpoint(tmp_path / "still"), clips)
    assert score_clips(predictions, EvaluateParams(bootstrap=100))["static"] == {}


def test_a_version_of_clips_without_its_table_says_what_makes_it(trained, tmp_path):
    model, out = trained / "models" / "lstm", [tmp_path / name for name in ("m.json", "p.parquet", "p")]
    faces, splits = write_tables(tmp_path)
    with pytest.raises(PipelineError, match=r"clips\.parquet is missing .*run `dvc repro clips`"):
        evaluate.main("lstm", model, faces, splits, trained / "curves.csv", *out)
    made_from = write_made_from(tmp_path, "lstm", ("clips",))
    with pytest.raises(PipelineError, match=r"clips\.parquet is missing .*run `dvc repro clips`"):
        train.main("lstm", faces, splits, made_from, tmp_path / "models", tmp_path / "curves.csv")
    assert [file for file in out if file.exists()] == []
