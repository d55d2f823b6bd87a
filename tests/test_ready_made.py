"""The ready-made model, from a small version whose data is said to be real."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from imports import ROOT
from promotions import write_bright_model
from scipy.special import softmax
from tables import write_tables

from pipeline.cards.card import write_card
from pipeline.datasets.tables import read_split
from pipeline.errors import PipelineError
from pipeline.evaluation.metrics import calibration_error
from pipeline.evaluation.predictions import judged, stack
from pipeline.inference.answer_table import REFERENCE, SCHEMA
from pipeline.inference.card_files import CARD_FILES
from pipeline.inference.pointer import choose_model
from pipeline.inference.predictor import Predictor
from pipeline.labels import LABELS
from pipeline.monitoring.logbook import find_reference, read_log
from pipeline.networks.checkpoint import load_checkpoint, save_checkpoint
from pipeline.networks.network import ExpressionNetwork
from pipeline.packaging.parity import answer_all
from pipeline.packaging.ready_made import LARGEST, make_ready, ready_made_card
from pipeline.packaging.together import Evaluated
from pipeline.params import EvaluateParams, MonitorParams, load_params
from pipeline.recipes import Recipe
from pipeline.stages.evaluate import predict

RECIPE = Recipe.model_validate({
    "data": ["fer2013"], "backbone": "resnet18", "backbone_args": {"channels": [32, 32, 64, 128]}, "small_stem": True,
    "pretrained": False, "colour": "grey", "image_size": 48, "tta": "flip",
})  # fmt: skip
NARROW = RECIPE.model_copy(update={"backbone_args": {"channels": [16, 32, 48, 64]}})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return the folder of faces, and of the versions that `version` makes."""
    folder = tmp_path_factory.mktemp("ready_made")
    write_tables(folder, drawn=False)
    return folder


@pytest.fixture(scope="module")
def version(made):
    """Return a function that leaves a version as training and evaluation would, and what it answered, once."""
    faces, splits = made / "data" / "faces", made / "data" / "splits.parquet"
    known = {}

    def make(drawn=False, recipe=RECIPE, name="v8", seed=0):
        torch.manual_seed(seed)
        facts = {
            "version": name,
            "scale": "full",
            "drawn": drawn,
            "detector": None,
            "start_from": None,
            "seed": 0,
            "temperature": 1.0,
        }
        facts |= {"parameters": 1_234_567, "epochs": 3, "precision": "32-true", "device": "cpu"}
        folder = made / f"version_{len(known)}"
        save_checkpoint(folder, ExpressionNetwork(recipe, pretrained=False), recipe, facts)
        checkpoint = load_checkpoint(folder)
        rows = [read_split(faces, splits, "fer2013", split).assign(split=split) for split in ("validation", "test")]
        predictions = predict(checkpoint, faces, pd.concat(rows, ignore_index=True), 0)
        predictions["weights_sha256"] = checkpoint.sha256()
        return Evaluated(checkpoint, predictions, {"seconds": "90", "git_commit": 40 * "a"})

    def make_once(**changes):
        key = repr(sorted(changes.items()))
        if key not in known:
            known[key] = make(**changes)
        return known[key]

    return make_once


@pytest.fixture(scope="module")
def one(made, version, tmp_path_factory):
    """Return a folder with the ready-made model of one version, its facts, and the version."""
    root = tmp_path_factory.mktemp("one")
    return root, ready(made, root, version()), version()


@pytest.fixture(scope="module")
def two(version):
    """Return two versions."""
    return version(), version(name="v9", seed=1, recipe=NARROW)


@pytest.fixture(scope="module")
def several(made, two, tmp_path_factory):
    """Return a folder with the ready-made model of two versions, of the second of which little is known."""
    root = tmp_path_factory.mktemp("several")
    return root, ready(made, root, two[0], two[1]._replace(tags={}))


@pytest.fixture
def quickly(monkeypatch):
    """Let a model that knows all labels by their brightness stand in for what takes seconds to export."""

    def export(_, file, *, image_size, facts, half):
        assert half
        write_bright_model(file, len(LABELS), image_size, facts)

    monkeypatch.setattr("pipeline.packaging.ready_made.export_onnx", export)


def ready(made, root, *versions):
    known = load_params(ROOT / "params.yaml")
    changes = {"evaluate": EvaluateParams(bootstrap=100), "monitor": MonitorParams(reference_faces=10)}
    data, params = made / "data", known.model_copy(update=changes)
    (root / "models").mkdir(exist_ok=True)
    return make_ready(
        versions, data / "faces", data / "splits.parquet", root / "models", "expression-classifier", params
    )


def test_it_is_served_and_answers_like_its_version_in_half_the_space(one):
    root, facts, version = one
    pointer, file = choose_model(root / "models" / "champion.json")
    assert (pointer.version, pointer.is_sample) == ("ready-made v8", False)
    assert file.stat().st_size == facts["bytes"] < 0.6 * version.checkpoint.weights.stat().st_size
    assert Predictor(file, name=pointer.name, version=pointer.version).facts["version"] == "v8"
    assert 0 < facts["largest_difference"] < 0.01
    assert json.loads((root / "models" / "ready-made" / "model.json").read_text()) == json.loads(json.dumps(facts))
    assert (facts["scores"]["n"], facts["split"]) == (14, {"fer2013": "test"})
    assert facts["scores"]["tta"] is not None


def test_what_it_answers_for_validation_faces_lies_beside_it(made, one):
    pointer_file = one[0] / "models" / "champion.json"
    pointer, file = choose_model(pointer_file)
    answers = read_log(file.parent / REFERENCE)
    assert find_reference(pointer_file, answers).samefile(file.parent / REFERENCE)
    assert set(answers.version) == {pointer.version}
    splits = pd.read_parquet(made / "data" / "splits.parquet").query("dataset == 'fer2013' and split == 'validation'")
    assert len(answers) == 10 < len(splits)
    assert set(answers.label) <= set(splits.label)


def test_its_card_says_what_it_is_made_of_and_how_good_it_is(one):
    root, facts, _ = one
    card = (root / "models" / "ready-made" / "card.md").read_text()
    tested, averaged = facts["scores"], facts["scores"]["tta"]
    assert "28 training faces of fer2013, from scratch" in card
    assert "On the 14 faces of fer2013 (test), of which none" in card
    assert "1,234,567 parameters" in card
    assert f"{facts['multiply_adds'] / 1e6:.0f} million multiply-adds" in card
    assert "| training | 3 epochs, 32-true, seed 0, 90 s on cpu" in card
    assert f"SHA-256 {facts['weights_sha256']}" in card
    assert "git commit aaaaaaaaaaaa" in card
    assert f"as served | 14 | {tested['accuracy']:.3f} ({tested['ci95']['accuracy'][0]:.3f} to" in card
    assert f"(flip), as evaluated, not as served | 14 | {averaged['accuracy']:.3f} (" in card
    assert card.count(" | 2 |\n") == 7  # a row a label
    assert "The weights are under the Apache License 2.0" in card
    assert "settings were chosen" not in card  # it was judged on test faces
    assert json.loads((root / "models" / "ready-made" / "card.json").read_text())["training_faces"] == 28


@pytest.mark.usefixtures("quickly")
def test_a_recipe_that_leaves_much_at_its_defaults_has_a_card_as_well(made, version, tmp_path):
    plain = {"data": ["fer2013"], "backbone": "mobilenetv3_small_050", "image_size": 32}
    ready(made, tmp_path, version(recipe=Recipe.model_validate(plain)))
    card = (tmp_path / "models" / "ready-made" / "card.md").read_text()
    assert "uint8, RGB; it scales them itself" in card
    assert "on top of timm's pretrained weights" in card
    assert "averaged over views" not in card


@pytest.mark.slow
def test_several_answer_by_the_mean_of_what_each_answers(made, two, several):
    root, facts = several
    pointer, file = choose_model(root / "models" / "champion.json")
    assert pointer.version == "ready-made v8+v9"
    assert Predictor(file, name="x", version="1").facts["weights_sha256"] == facts["weights_sha256"]
    first = two[0].predictions
    each = [stack(version.predictions.probabilities).astype(np.float64) for version in two]
    expected = softmax(np.log(np.mean(each, 0)) / facts["temperature"], axis=1)[(first.split == "test")]
    answers = answer_all(Predictor(file, name="x", version="1"), made / "data" / "faces", judged(first))
    assert answers == pytest.approx(expected, abs=1e-3)
    tta = np.mean([stack(judged(version.predictions).tta) for version in two], 0)
    label_ids = judged(first).label_id.to_numpy()
    scored = facts["scores"]["tta"]
    assert scored["accuracy"] == pytest.approx((tta.argmax(1) == label_ids).mean())
    sure = softmax(np.log(tta) / facts["temperature"], axis=1)  # as sure as what is served
    assert scored["ece"] == pytest.approx(calibration_error(label_ids, sure, 15), abs=1e-4)
    assert facts["parameters"] == 2 * 1_234_567


@pytest.mark.slow
def test_several_explain_their_answers_as_one(several):
    _, file = choose_model(several[0] / "models" / "champion.json")
    predictor = Predictor(file, name="x", version="1")
    _, maps = predictor.class_maps(np.zeros((1, 48, 48, 3), np.uint8))
    assert maps.shape == (1, 7, 3, 3)


@pytest.mark.slow
def test_the_card_of_several_tells_of_each(several):
    card = (several[0] / "models" / "ready-made" / "card.md").read_text()
    assert "| network | the mean of v8 (resnet18) and v9 (resnet18) |" in card
    assert "28 training faces of fer2013, from scratch; copies" in card
    assert "| training of v8 | 3 epochs, 32-true, seed 0, 90 s on cpu, at scale full |" in card
    assert "| training of v9 | 3 epochs, 32-true, seed 0 on cpu, at scale full |" in card
    assert "What the recipe of v9 says beside the defaults" in card
    assert "v8: 90 s of one device (cpu)" in card
    assert "What the training of v9 cost is not known" in card
    page = (several[0] / "models" / "ready-made" / "card.html").read_text()
    assert "training of v8" in page


@pytest.mark.parametrize(("changes", "said"), [
    ({"image_size": 64}, "they differ in preprocessing"),
    ({"tta": "none"}, "they differ in tta"),
])  # fmt: skip
def test_several_that_can_not_be_one_are_told_why(made, version, tmp_path, changes, said):
    other = version(name="v9", recipe=RECIPE.model_copy(update=changes))
    with pytest.raises(PipelineError, match=f"v8 and v9 can not answer together: {said}"):
        ready(made, tmp_path, version(), other)
    assert not (tmp_path / "models" / "ready-made").exists()


def test_what_was_answered_by_other_weights_proves_nothing(made, version, tmp_path):
    stale = version()._replace(checkpoint=version(seed=1).checkpoint)
    with pytest.raises(PipelineError, match="v8 was trained anew since it was evaluated; run `dvc repro evaluate@v8`"):
        ready(made, tmp_path, stale)


@pytest.mark.usefixtures("quickly")
def test_faces_that_it_is_not_about_neither_calibrate_nor_count(made, version, tmp_path):
    without = RECIPE.model_copy(update={"leave_out": ("disgust",)})
    known = [version(recipe=without), version(name="v9", seed=1, recipe=without)]
    facts = ready(made, tmp_path, *known)
    answered = [pd.concat([each.predictions, each.predictions.assign(dataset="rafdb", label_id=0)]) for each in known]
    more = [each._replace(predictions=table) for each, table in zip(known, answered, strict=True)]
    assert facts["scores"]["n"] == 12
    assert ready(made, tmp_path, *more) == facts


def test_drawn_faces_make_no_ready_made_model(made, version, tmp_path):
    with pytest.raises(PipelineError, match="v8 learned from drawn faces; train it on real ones"):
        ready(made, tmp_path, version(drawn=True))
    assert not (tmp_path / "models" / "ready-made").exists()


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize(("constant", "value", "said"), [
    ("LARGEST", 100, r"v8 takes \d\.\d MB; a ready-made model takes 0 at most"),
    ("TOLERANCE", -1, "in half precision the accuracy of v8 is"),
])  # fmt: skip
def test_one_that_is_too_large_or_worse_leaves_the_former_one(
    made, one, version, tmp_path, monkeypatch, constant, value, said
):
    shutil.copytree(one[0], tmp_path, dirs_exist_ok=True)
    files = sorted((tmp_path / "models" / "ready-made").iterdir())
    before = {file: file.read_bytes() for file in files}
    monkeypatch.setattr(f"pipeline.packaging.ready_made.{constant}", value)
    with pytest.raises(PipelineError, match=said):
        ready(made, tmp_path, version())
    assert {file: file.read_bytes() for file in sorted((tmp_path / "models" / "ready-made").iterdir())} == before


def test_that_of_the_repository_is_whole_small_and_as_good_as_the_readme_says():
    pointer, file = choose_model(ROOT / "models" / "champion of nobody.json")
    facts = json.loads((file.parent / "model.json").read_text())
    predictor = Predictor(file, name=pointer.name, version=pointer.version)
    assert predictor.facts["weights_sha256"] == facts["weights_sha256"]
    assert file.stat().st_size == facts["bytes"] <= LARGEST
    scores, readme = facts["scores"], (ROOT / "README.md").read_text()
    for score in (scores["accuracy"], scores["macro_f1"], scores["tta"]["accuracy"]):
        assert f"{score:.3f}".lstrip("0") in readme.split("### The ready-made model")[1]


def test_that_of_the_repository_brings_numbers_of_the_faces_that_it_is_judged_by():
    pointer, file = choose_model(ROOT / "models" / "champion of nobody.json")
    facts, beside = json.loads((file.parent / "model.json").read_text()), file.parent / REFERENCE
    answers = read_log(beside)
    assert beside.stat().st_size < 300_000  # it is part of every clone
    assert set(pq.read_schema(beside).names) == {*SCHEMA.names, "label"}  # numbers, and no face
    assert set(answers.version) == {pointer.version}
    assert (len(answers), (answers.emotion == answers.label).mean()) == (
        facts["scores"]["n"], pytest.approx(facts["scores"]["accuracy"])
    )  # fmt: skip


def test_that_of_the_repository_has_the_card_of_its_facts(tmp_path):
    folder = ROOT / "models" / "ready-made"
    facts = json.loads((folder / "model.json").read_text())
    write_card(tmp_path, ready_made_card(facts, load_params(ROOT / "params.yaml").card))
    assert {name: (tmp_path / name).read_text() for name in CARD_FILES} == {
        name: (folder / name).read_text() for name in CARD_FILES
    }


def test_that_of_the_repository_knows_faces_that_it_never_saw(shared):
    _, file = choose_model(ROOT / "models" / "champion of nobody.json")
    predictor = Predictor(file, name="x", version="1")
    with zipfile.ZipFile(shared / "data" / "fer2013.zip") as archive:
        names = sorted(name for name in archive.namelist() if "PublicTest" in name)[::10]
        faces = [predictor.faces(archive.read(name), detect=False)[0] for name in names]
    answers = predictor.probabilities(predictor.stack(faces)).argmax(1)
    right = [LABELS[answer] == Path(name).parent.name for answer, name in zip(answers, names, strict=True)]
    expected = json.loads((file.parent / "model.json").read_text())["scores"]["accuracy"]
    assert np.mean(right) == pytest.approx(expected, abs=0.06)
