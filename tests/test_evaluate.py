"""Evaluation of untrained versions, and of one that learned to tell labels by brightness, in a real tracking store."""

import json
import shutil
from pathlib import Path

import cv2
import pandas as pd
import pytest
import torch
import yaml
from tables import write_tables
from versions import PICTURES, evaluate_version, write_version

from pipeline.labels import LABEL_IDS, LABELS
from pipeline.networks.checkpoint import Checkpoint, load_checkpoint
from pipeline.params import EvaluateParams
from pipeline.recipes import Recipe
from pipeline.registry import tracking
from pipeline.sources import SOURCES
from pipeline.stages.evaluate import doubt_label_maps, evaluate

ROOT = Path(__file__).parents[1]


def run_stage(root, version="v1"):
    faces, splits = write_tables(root, ("fer2013", "rafdb", "affectnet", "wild"))
    write_version(root, version)
    out = evaluate_version(root, version, faces, splits)
    return json.loads(out["metrics"].read_text()), pd.read_parquet(out["predictions"]), out


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """The folder of `v1`, evaluated once for several tests, and what `run_stage` returned."""
    root = tmp_path_factory.mktemp("evaluated")
    shutil.copy(ROOT / "params.yaml", root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
        return root, *run_stage(root)


def test_metrics_have_the_shape_that_others_rely_on(evaluated):
    _, metrics, _, outputs = evaluated
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
    assert {file.name for file in outputs["pictures"].iterdir()} == {f"{name}.png" for name in PICTURES}
    for file in outputs["pictures"].iterdir():
        height, width, _ = cv2.imread(str(file)).shape
        assert min(height, width) > 300


def test_predictions_are_the_networks_own(evaluated):
    root, _, predictions, _ = evaluated
    assert set(predictions.split) == {"validation", "test"}
    assert predictions.probabilities.map(sum).tolist() == pytest.approx([1] * len(predictions), abs=1e-5)
    assert set(predictions.weights_sha256) == {load_checkpoint(root / "models" / "v1").sha256()}


def test_views_are_scored_beside_the_plain_answer(workplace):
    metrics, predictions, _ = run_stage(workplace, "v6")
    assert metrics["own"]["tta"]["n"] == metrics["own"]["n"]
    assert any((plain != mean).any() for plain, mean in zip(predictions.probabilities, predictions.tta, strict=True))


def test_the_run_that_the_tracking_store_lost_is_made_again(evaluated, monkeypatch):
    root, metrics, _, _ = evaluated
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
    run = tracking.find_run(tracking.connect(), "v1", load_checkpoint(root / "models" / "v1").sha256())
    assert run is not None
    assert run.data.tags["recreated"] == "true"
    assert run.data.metrics["own/macro_f1"] == pytest.approx(metrics["own"]["macro_f1"])
    assert run.data.metrics["rafdb/test/accuracy"] == metrics["datasets"]["rafdb"]["whole"]["accuracy"]
    assert run.data.metrics["damaged/macro_f1"] == metrics["robustness"]["mean"]["macro_f1"]
    plots = tracking.connect().list_artifacts(run.info.run_id, "plots")
    assert {file.path for file in plots} == {f"plots/{name}.png" for name in PICTURES}


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
    result = evaluate(faces, Recipe(data=("fer2013",), backbone="test_resnet"), EvaluateParams())
    assert result["datasets"]["fer2013"]["split"] == "validation"
    assert result["own"]["accuracy"] == 1


def test_a_version_is_judged_by_faces_of_its_classes_alone():
    faces = pd.DataFrame(
        {
            "dataset": "fer2013",
            "split": "test",
            "label_id": range(7),
            "leaked": False,
            "probabilities": [[0.1, 0.9] if label_id == LABEL_IDS["happy"] else [0.8, 0.2] for label_id in range(7)],
            "tta": None,
        }
    )
    recipe = Recipe(
        data=("fer2013",), backbone="test_resnet", one_against_rest="happy", leave_out=("disgust",), promote=False
    )
    result = evaluate(faces, recipe, EvaluateParams())
    assert (result["own"]["n"], result["own"]["accuracy"]) == (6, 1)
    assert {name: part["support"] for name, part in result["classes"].items()} == {"rest": 5, "happy": 1}


def number(faces: Path, dataset: str, truth: dict[str, str], chosen: dict[str, str]) -> None:
    """Number a dataset's labels by one map, and read the numbers by another, as harmonize would."""
    file = faces / f"{dataset}.parquet"
    table = pd.read_parquet(file)
    codes = {label: code for code, label in truth.items()}
    table["native_label"] = table.label.map(codes)
    table["label"] = table.native_label.map(chosen)
    table = table[table.label.isin(LABELS)]
    table.assign(label_id=table.label.map(LABEL_IDS)).to_parquet(file)


@pytest.mark.parametrize("truth", ["official", "ferplus-order"])
def test_a_version_that_learned_elsewhere_doubts_a_wrong_label_map(workplace, caplog, truth):
    recipe = {"data": ["fer2013"], "backbone": "test_resnet"}
    params = {"use": ["fer2013", "affectnet"], "run": ["v1"], "recipes": {"v1": recipe}}
    (workplace / "params.yaml").write_text(yaml.safe_dump(params))
    faces, splits = write_tables(workplace, ("fer2013", "affectnet"), counts={"train": 1, "validation": 6, "test": 9})
    maps = SOURCES["affectnet"].label_maps
    number(faces, "affectnet", maps[truth], maps["ferplus-order"])
    write_version(workplace, learned=7)
    metrics = json.loads(evaluate_version(workplace, "v1", faces, splits)["metrics"].read_text())
    assert metrics["own"]["accuracy"] > 0.9
    doubts = {name: part["label_map_doubt"] for name, part in metrics["datasets"].items()}
    if truth == "ferplus-order":
        assert doubts == {"affectnet": None, "fer2013": None}
        assert "warning" not in caplog.text
    else:
        assert doubts["fer2013"] is None
        assert "set datasets.affectnet.label_map: official if that is so" in doubts["affectnet"]
        assert f"warning: affectnet: {doubts['affectnet']}" in caplog.text


def doubt_about_affectnet(
    data: list[str], start_from: str | None, chosen: str = "ferplus-order", corrected: bool = False
) -> str | None:
    """Return what a version says that answers every face of AffectNet rightly, where this map was chosen.

    Where faces were corrected, the first of each number has another label than the others.
    """
    maps = SOURCES["affectnet"].label_maps
    codes = [code for code in maps["official"] if maps["official"][code] != "contempt" for _ in range(20)]
    kept = [code for code in codes if maps[chosen][code] != "contempt"]
    label_ids = [LABEL_IDS[maps[chosen][code]] for code in kept]
    if corrected:
        label_ids[::20] = [(label_id + 1) % 7 for label_id in label_ids[::20]]
    predictions = pd.DataFrame(
        {
            "dataset": "affectnet",
            "native_label": kept,
            "label_id": label_ids,
            "probabilities": list(torch.eye(7).numpy()[[LABEL_IDS[maps["official"][code]] for code in kept]]),
        }
    )
    parents = [start_from] if start_from else []
    recipe = Recipe.model_validate({"data": data, "backbone": "test_resnet", "start_from": parents})
    facts = {"version": "v9"}
    return doubt_label_maps(predictions, Checkpoint(Path("models/v9"), recipe, facts))["affectnet"]


@pytest.mark.parametrize(
    ("data", "start_from"), [(["affectnet"], None), (["fer2013", "affectnet"], None), (["fer2013"], "v6")]
)
def test_a_version_that_may_have_learned_the_numbers_is_not_asked(data, start_from):
    assert doubt_about_affectnet(data, start_from) is None


def test_corrected_faces_raise_no_doubt_about_the_label_map():
    assert doubt_about_affectnet(["fer2013"], None, "official", corrected=True) is None


def test_a_version_that_learned_from_other_numbers_may_be_wrong_itself():
    said = doubt_about_affectnet(["fer2013"], None)
    assert said is not None
    assert (
        doubt_about_affectnet(["fer2013", "rafdb"], None) == f"{said}; or v9 learned from wrong numbers, those of rafdb"
    )
