"""Ensembles of made-up systems, whose answers stand in files as evaluation leaves them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from pipeline.errors import PipelineError
from pipeline.labels import LABELS
from pipeline.params import load_params
from pipeline.stages.combine import main

SEVEN = [f"{label}_or_not" for label in LABELS]
FACES = {"validation": 140, "test": 70}


def softmax(scores):
    return np.exp(scores) / np.exp(scores).sum(1, keepdims=True)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with two systems of seven labels and seven of one each, and what they answered."""
    monkeypatch.chdir(tmp_path)
    recipe = {"data": ["fer2013"], "backbone": "basic_cnn", "promote": False}
    recipes = {"good": recipe, "poor": recipe}
    recipes |= {name: {**recipe, "one_against_rest": label} for name, label in zip(SEVEN, LABELS, strict=True)}
    params = {
        "run": list(recipes),
        "recipes": recipes,
        "ensembles": {
            "rest": {"how": "one_against_rest", "of": SEVEN},
            "mean": {"how": "average", "of": ["good", "poor"]},
            "weighted": {"how": "weighted", "of": ["good", "poor"]},
            "stacking": {"how": "stacking", "of": ["good", "rest"]},
        },
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    write_predictions(tmp_path)
    return tmp_path


def write_predictions(root, splits=("validation", "test")):
    random = np.random.default_rng(0)
    rows = [(f"{split}-{number}", split) for split in splits for number in range(FACES[split])]
    label_ids = np.arange(len(rows)) % 7
    faces = pd.DataFrame(rows, columns=["face_id", "split"])
    faces = faces.assign(dataset="fer2013", label_id=label_ids, leaked=label_ids == 0, tta=None)
    (root / "predictions").mkdir(exist_ok=True)
    for name, sureness in {"good": 3.0, "poor": 0.5}.items():
        answers = softmax(random.normal(size=(len(rows), 7)) + sureness * np.eye(7)[label_ids])
        faces.assign(probabilities=list(answers)).to_parquet(root / "predictions" / f"{name}.parquet")
    for label_id, name in enumerate(SEVEN):
        own = 1 / (1 + np.exp(-random.normal(size=len(rows)) - 4 * (label_ids == label_id) + 2))
        answers = np.stack([1 - own, own], axis=1)
        faces.assign(probabilities=list(answers)).to_parquet(root / "predictions" / f"{name}.parquet")
    groups = faces[["face_id", "dataset", "split", "leaked"]].assign(label="", group=faces.face_id, reason="")
    groups.to_parquet(root / "splits.parquet")


def combine(root, name):
    metrics = root / "metrics" / f"{name}.json"
    main(name, root / "predictions", root / "splits.parquet", metrics, root / "pictures")
    return json.loads(metrics.read_text())


@pytest.mark.parametrize("name", ["rest", "mean", "weighted", "stacking"])
def test_an_ensemble_has_the_metrics_of_a_version(workplace, name):
    metrics = combine(workplace, name)
    assert (metrics["own"]["n"], metrics["datasets"]["fer2013"]["split"]) == (70, "test")
    assert metrics["datasets"]["fer2013"]["leak_free"]["n"] == 60
    assert metrics["own"]["accuracy"] > 0.5
    assert set(metrics["classes"]) == set(LABELS)
    assert (workplace / "pictures" / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_weights_do_not_trust_the_poor_one(workplace):
    assert combine(workplace, "weighted")["own"]["accuracy"] >= combine(workplace, "mean")["own"]["accuracy"]


def test_without_test_faces_validation_is_answered_by_what_was_not_fitted_on_it(workplace):
    write_predictions(workplace, ("validation",))
    metrics = combine(workplace, "stacking")
    assert (metrics["own"]["n"], metrics["datasets"]["fer2013"]["split"]) == (140, "validation")
    assert 0.5 < metrics["own"]["accuracy"] < 1


@pytest.mark.parametrize(("ensemble", "said"), [
    ({"how": "average", "of": ["good", "happy_or_not"]}, "of: happy_or_not does not tell the seven labels apart"),
    ({"how": "one_against_rest", "of": SEVEN[:6]}, "must name one recipe of `one_against_rest` for each label"),
    ({"how": "one_against_rest", "of": [*SEVEN[:6], "good"]}, "must name one recipe of `one_against_rest`"),
])  # fmt: skip
def test_members_that_do_not_fit_are_named(workplace, ensemble, said):
    file = Path("params.yaml")
    params = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**params, "ensembles": {"odd": ensemble}}))
    with pytest.raises(PipelineError, match=f"ensembles.odd.*{said}"):
        combine(workplace, "odd")


def test_an_unknown_ensemble_is_named(workplace):
    with pytest.raises(PipelineError, match="there is no ensemble 'stackin' .did you mean stacking"):
        combine(workplace, "stackin")


def test_systems_that_saw_different_faces_are_not_combined(workplace):
    file = workplace / "predictions" / "poor.parquet"
    pd.read_parquet(file).iloc[1:].to_parquet(file)
    with pytest.raises(PipelineError, match="answered for different faces"):
        combine(workplace, "mean")


def test_ensembles_are_those_of_the_reports():
    params = load_params(Path(__file__).parents[1] / "params.yaml")
    assert set(params.systems("seven_against_rest")) == set(SEVEN)
    assert {ensemble.how for ensemble in params.ensembles.values()} == {
        "one_against_rest",
        "average",
        "weighted",
        "stacking",
    }
